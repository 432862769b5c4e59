import copy
import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import save_model
from torch import nn
from torch.nn import functional

from compressors.context import Batch, Context
from compressors.distillation import Distill, soft_loss
from compressors.errors import CompressionError, DivergedError, UserError
from compressors.graph import trace
from compressors.recipe import Recipe
from compressors.targets import target_named
from compressors.training import TrainingSpec, train


@pytest.fixture
def teacher(points, point_net):
    return train(point_net(), points, TrainingSpec(epochs=6, learning_rate=0.02), loss=points.loss, seed=0)


def context(points, teacher, graph_of, **changes):
    inputs = {"x": torch.zeros(2, 2)}
    return Context(
        **{"data": points, "teacher": teacher, "graph": trace(graph_of, inputs), "example_inputs": inputs, "target": target_named("onnxruntime"), **changes}
    )


def test_the_soft_loss_is_the_divergence_of_softened_distributions():
    student, teacher = torch.randn(5, 3), torch.randn(5, 3)
    p, q = functional.softmax(teacher / 4, -1), functional.softmax(student / 4, -1)
    expected = (p * (p / q).log()).sum(-1).mean() * 16
    torch.testing.assert_close(soft_loss(student, teacher, torch.zeros(5, dtype=torch.long), 4.0), expected)
    assert float(soft_loss(teacher, teacher, torch.zeros(5, dtype=torch.long), 2.0)) == pytest.approx(0, abs=1e-6)


def test_ignored_tokens_do_not_count():
    student, teacher = torch.randn(2, 6, 3), torch.randn(2, 6, 3)
    labels = torch.zeros(2, 6, dtype=torch.long)
    labels[:, 4:] = -100
    left = soft_loss(student[:, :4], teacher[:, :4], labels[:, :4], 2.0)
    torch.testing.assert_close(soft_loss(student, teacher, labels, 2.0), left)


def test_a_student_learns_its_teachers_outputs(points, point_net, teacher):
    student = point_net(8)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    log = []
    step = Distill(epochs=8, alpha=1.0, temperature=2.0, learning_rate=0.02)
    taught = step.apply(student, None, context(points, teacher, teacher, log=log.append))
    assert points.score(taught, "search")[1] > 0.9
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items()), "the student given is not changed"
    assert not taught.training
    assert log[0].startswith("sparsity 48.6%, epoch 1: loss ")
    assert "drop" in log[0]


def test_with_only_the_soft_loss_labels_do_not_matter(points, point_net, teacher):
    step = Distill(steps=6, alpha=1.0)
    surroundings = context(points, teacher, point_net())
    right = step.apply(point_net(), None, surroundings)
    points.loss = lambda logits, batch: (_ for _ in ()).throw(AssertionError("the hard loss was computed"))
    assert torch.equal(step.apply(point_net(), None, surroundings).head.weight, right.head.weight)


def test_alpha_zero_never_runs_the_teacher_on_training_data(points, point_net):
    class Silent(nn.Module):
        def forward(self, x):
            assert len(x) == 32
            raise AssertionError("the teacher was run")

    points.score = lambda model, split: ("accuracy", 0.5)
    fine_tuned = Distill(steps=6, alpha=0.0).apply(point_net(), None, context(points, Silent(), point_net()))
    expected = train(point_net(), points, TrainingSpec(steps=6), loss=points.loss, seed=0)
    assert torch.equal(fine_tuned.head.weight, expected.head.weight)


def test_the_stage_seed_decides(points, point_net, teacher):
    step = Distill(steps=6)
    weights = [step.apply(point_net(), None, context(points, teacher, point_net(), seed=seed)).head.weight for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_teacher_is_not_changed(points, point_net, teacher):
    before = copy.deepcopy(teacher.state_dict())
    Distill(steps=6).apply(point_net(), None, context(points, teacher, point_net()))
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


class _Tied(nn.Module):
    """Two convolutions of one weight."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), nn.Linear(2, 4)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.head(self.b(self.a(x[:, :, None, None].repeat(1, 1, 4, 4)).relu()).mean((2, 3)))


def test_the_layout_of_the_teacher_comes_back_so_that_tied_weights_can_be_stored(points, tmp_path):
    teacher = _Tied()
    Distill(steps=2).apply(_Tied(), None, context(points, teacher, teacher))
    assert teacher.a.weight.is_contiguous()
    save_model(teacher, str(tmp_path / "model.safetensors"))


def test_what_is_missing_is_said(points, point_net, teacher):
    with pytest.raises(CompressionError, match="needs training data"):
        Distill(epochs=1).apply(point_net(), None, context(None, teacher, point_net()))
    with pytest.raises(CompressionError, match="needs a teacher"):
        Distill(epochs=1).apply(point_net(), None, context(points, None, point_net()))


def test_a_learning_rate_that_is_too_high_diverges(points, point_net, teacher):
    with pytest.raises(DivergedError, match="at step"):
        Distill(epochs=4, learning_rate=1e30, optimizer="sgd", clip=None).apply(point_net(), None, context(points, teacher, point_net()))


def test_it_is_a_step_of_recipes():
    recipe = Recipe.from_plain([{"distill": {"epochs": 2, "temperature": 3.5}}])
    assert recipe.steps == (Distill(epochs=2, temperature=3.5),)
    assert Recipe.from_plain(recipe.to_plain()) == recipe


def weights(step, surroundings, student):
    return step.apply(student, None, surroundings).head.weight


def test_a_schedule_from_a_number_to_itself_is_that_number(points, point_net, teacher):
    surroundings = context(points, teacher, point_net())
    constant = weights(Distill(steps=12, temperature=3.0, alpha=0.7), surroundings, point_net())
    still = Distill(steps=12, temperature={"start": 3, "end": 3}, alpha={"start": 0.7, "end": 0.7, "schedule": "cosine"})
    moving = Distill(steps=12, temperature={"start": 8, "end": 1, "schedule": "cosine"}, alpha=0.7)
    assert torch.equal(weights(still, surroundings, point_net()), constant)
    assert not torch.equal(weights(moving, surroundings, point_net()), constant)


def test_an_alpha_that_falls_to_zero_ends_on_labels(points, point_net, teacher):
    seen = []
    loss = points.loss
    points.loss = lambda logits, batch: seen.append(1) or loss(logits, batch)
    Distill(steps=10, alpha={"start": 1, "end": 0}).apply(point_net(), None, context(points, teacher, point_net()))
    assert len(seen) == 9, "at the first step alpha is 1, and the labels do not count"


@pytest.mark.parametrize("extra", [{"temperature": {"start": 6, "end": 1}}, {"features": {"layers": ["hidden"]}}, {"kl_limit": 0.05, "alpha": 0}])
def test_going_on_from_a_part_is_the_whole_bit_for_bit(points, point_net, teacher, extra):
    step = Distill(epochs=3, learning_rate=0.01, **extra)
    whole = step.apply(point_net(8), None, context(points, teacher, teacher))
    kept = []
    part = step.apply(point_net(8), None, context(points, teacher, teacher, budget=0.4, keep=kept.append))
    again = step.apply(part, None, context(points, teacher, teacher, begun=kept[0]))
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_features_alone_bring_a_student_nearer_and_leave_no_trace(points, point_net, teacher):
    student = point_net(8)
    step = Distill(epochs=6, logits=False, features={"layers": ["norm"]}, learning_rate=0.02)
    taught = step.apply(student, None, context(points, teacher, teacher))
    assert set(taught.state_dict()) == set(student.state_dict())
    assert torch.equal(taught.head.weight, student.head.weight), "nothing behind the map is trained"
    assert not torch.equal(taught.hidden.weight, student.hidden.weight)
    assert not taught.norm._forward_hooks
    assert not teacher.norm._forward_hooks


def moved(model, original, points):
    with torch.no_grad():
        batches = list(points.batches("search"))
        return float(sum(soft_loss(model(**b.inputs), original(**b.inputs), b.labels, 1.0) for b in batches)) / len(batches)


def test_a_limit_keeps_the_outputs_near_the_originals(points, point_net, teacher):
    # Labels that contradict the original: plain training follows them.
    free, limit = Distill(epochs=10, alpha=0, learning_rate=0.02), 0.02
    batches = points.batches
    points.batches = lambda *a, **k: (type(b)(b.inputs, 3 - b.labels) for b in batches(*a, **k))
    surroundings = context(points, teacher, teacher)
    runs = [step.apply(teacher, None, surroundings) for step in (free, dataclasses.replace(free, kl_limit=limit))]
    assert moved(runs[0], teacher, points) > 1
    assert moved(runs[1], teacher, points) < 4 * limit


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"temperature": {"start": 4, "end": 0}}, "above 0"),
        ({"alpha": {"start": 0, "end": 1.5}}, r"in \[0, 1\]"),
        ({"logits": False}, "leaves nothing to train on"),
        ({"alpha": 0, "teacher": {"pretrained": "x"}}, "never asked"),
        ({"teacher": {"pretrained": "x", "factory": "m.py:f"}}, "give either pretrained"),
        ({"features": {"layers": []}}, "at least 1"),
    ],
)
def test_contradictions_are_refused(config, message):
    with pytest.raises(UserError, match=message):
        Recipe.from_plain([{"distill": {"epochs": 1, **config}}])


def test_a_teacher_of_its_own_must_have_the_students_outputs(points, point_net, teacher):
    step = Distill(steps=2, teacher={"factory": "models.py:other"})
    with pytest.raises(CompressionError, match=r"teacher: its outputs are \[2, 7\], the student's \[2, 4\]"):
        step.apply(point_net(), None, context(points, teacher, teacher, teachers=lambda spec: _Wide().eval()))
    with pytest.raises(CompressionError, match="needs an experiment"):
        step.apply(point_net(), None, context(points, teacher, teacher))
    asked = []
    other = point_net()
    taught = weights(step, context(points, teacher, teacher, teachers=lambda spec: asked.append(spec) or other), point_net())
    assert asked == [step.teacher]
    assert not torch.equal(taught, weights(Distill(steps=2), context(points, teacher, teacher), point_net()))


class _Wide(nn.Module):
    def forward(self, x):
        return x.repeat(1, 4)[:, :7]


class Numbered:
    """The points of a fixture, with numbers."""

    batch_size, augments = 32, False

    def __init__(self, points):
        self._points = points
        (self._all,) = points.batches("train", batch_size=points.examples)

    def __getattr__(self, name):
        return getattr(self._points, name)

    def examples(self, split):
        return len(self._all.labels)

    def take(self, split, rows, *, view=None):
        return Batch({"x": self._all.inputs["x"][rows]}, self._all.labels[rows], rows, view)


class Kept:
    """A store in memory."""

    def __init__(self):
        self.tables = {}

    def table(self, teacher, view, compute):
        if view not in self.tables:
            self.tables[view] = np.concatenate(list(compute))
        return self.tables[view]


@pytest.mark.parametrize("config", [{}, {"alpha": 0, "kl_limit": 0.1}, {"temperature": {"start": 4, "end": 1}}])
def test_kept_outputs_change_nothing_but_who_runs_the_teacher(points, point_net, teacher, config):
    data, store = Numbered(points), Kept()
    step = Distill(epochs=3, batch_size=16, learning_rate=0.01, **config)
    beside = weights(step, context(data, teacher, teacher), point_net())
    calls = []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(2):
        calls.clear()
        assert torch.equal(weights(step, context(data, teacher, teacher, outputs=store), point_net()), beside)
    assert list(store.tables) == [0]
    assert len(calls) < 16, "asked for the shape of its outputs and for the metric of the log, not for batches"


def test_a_task_may_say_how_its_outputs_are_compared(points, point_net, teacher):
    seen = []

    class Measured(type(points)):
        def soft_loss(self, student, teacher, batch, temperature):
            seen.append(temperature)
            return (student - teacher).square().mean()

    data = Measured()
    taught = Distill(epochs=8, alpha=1.0, temperature=3.0, learning_rate=0.02).apply(point_net(), None, context(data, teacher, teacher))
    assert set(seen) == {3.0}
    (batch,) = data.batches("search", batch_size=256)
    before, after = ((model(**batch.inputs) - teacher(**batch.inputs)).square().mean().item() for model in (point_net(), taught))
    assert after < 0.2 * before


def test_outputs_that_are_too_large_are_not_kept(points, point_net, teacher, monkeypatch):
    monkeypatch.setattr("compressors.teacher_outputs.LARGEST_BYTES", 256 * 4 * 4 - 1)
    store = Kept()
    Distill(steps=2).apply(point_net(), None, context(Numbered(points), teacher, teacher, outputs=store))
    assert not store.tables
