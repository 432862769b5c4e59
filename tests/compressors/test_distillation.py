import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from compressors.context import Context
from compressors.distillation import Distill, soft_loss
from compressors.errors import CompressionError, DivergedError
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
