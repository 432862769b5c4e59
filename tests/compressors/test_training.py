import copy
import sys

import pydantic
import pytest
import torch

from compressors.context import Batch
from compressors.distillation_objective import soft_loss
from compressors.errors import CompressionError, DivergedError, OutOfMemoryError, UserError
from compressors.training import TrainingSpec, learning_rate_at, train

SPEC = TrainingSpec(epochs=4, learning_rate=0.02)


def run(model, data, spec=SPEC, *, seed=0, **options):
    return train(model, data, spec, loss=data.loss, seed=seed, **options)


def test_a_trained_model_is_good_and_in_eval_mode(points, point_net):
    model = point_net()
    assert points.score(model, "search")[1] < 0.6
    assert run(model, points) is model
    assert points.score(model, "search")[1] > 0.9
    assert not any(module.training for module in model.modules())


def test_the_seed_decides_everything(points, point_net):
    torch.manual_seed(1)
    first = run(point_net(), points)
    torch.manual_seed(2)
    again, other = run(point_net(), points), run(point_net(), points, seed=1)
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_training_leaves_the_random_state_of_its_caller(points, point_net):
    model = point_net()
    state = torch.get_rng_state()
    run(model, points)
    assert torch.equal(torch.get_rng_state(), state)


def test_half_a_budget_is_the_first_half_of_the_full_schedule(points, point_net):
    lines = []
    run(point_net(), points, budget=0.5, log=lines.append)
    assert len(lines) == 2
    assert "step 16/32" in lines[-1]
    # Schedules laid out for 32 steps: the first 16 are those of the whole, not those of a schedule of 16.
    half = run(point_net(), points, TrainingSpec(steps=16, learning_rate=0.02))
    assert not torch.equal(half.head.weight, run(point_net(), points, budget=0.5).head.weight)


def test_one_line_an_epoch_says_loss_metric_and_drop(points, point_net):
    lines = []
    run(point_net(), points, log=lines.append, prefix="sparsity 12.5%, ", baseline=1.0)
    assert len(lines) == 4
    assert lines[-1].startswith("sparsity 12.5%, epoch 4: loss 0.")
    assert "accuracy 0.9" in lines[-1]
    assert "drop +0.0" in lines[-1]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "exponential", "onecycle"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_every_schedule_and_optimizer_learns(points, point_net, schedule, optimizer):
    rate = 0.02 if optimizer == "adamw" else 0.2
    model = run(point_net(), points, TrainingSpec(steps=24, learning_rate=rate, schedule=schedule, optimizer=optimizer))
    assert points.score(model, "search")[1] > 0.75


@pytest.mark.parametrize(
    ("schedule", "start", "middle", "end"), [("constant", 1, 1, 1), ("linear", 1, 0.5, 0), ("cosine", 1, 0.5, 0), ("exponential", 1, 0.1, 0.01)]
)
def test_schedules_fall_from_the_peak(schedule, start, middle, end):
    assert [learning_rate_at(schedule, p) for p in (0.0, 0.5, 1.0)] == pytest.approx([start, middle, end])


def test_onecycle_rises_for_a_tenth_and_ends_at_zero():
    rates = [learning_rate_at("onecycle", i / 100) for i in range(101)]
    assert max(rates) == rates[10] == pytest.approx(1)
    assert rates[0] == pytest.approx(0.04)
    assert rates[100] == pytest.approx(0)


def test_a_loss_that_is_not_finite_names_the_step(points, point_net):
    calls = []

    def loss(logits, batch):
        calls.append(1)
        return points.loss(logits, batch) * (float("nan") if len(calls) == 4 else 1.0)

    with pytest.raises(DivergedError, match="nan at step 3; lower the learning rate"):
        train(point_net(), points, SPEC, loss=loss, seed=0)


def test_memory_that_does_not_suffice_is_an_expected_failure(points, point_net):
    def loss(logits, batch):
        # Allocates what no machine has, on the allocator that training uses.
        return torch.empty(2**60).sum() * logits.sum()

    with pytest.raises(OutOfMemoryError, match="at step 0"):
        train(point_net(), points, SPEC, loss=loss, seed=0)


def test_a_mistake_in_a_loss_is_not_taken_for_lack_of_memory(points, point_net):
    with pytest.raises(RuntimeError, match="size of tensor"):
        train(point_net(), points, SPEC, loss=lambda logits, batch: (logits - torch.zeros(3, 3)).sum(), seed=0)


@pytest.mark.parametrize(
    "config", [{}, {"epochs": 1, "steps": 1}, {"epochs": 0}, {"epochs": 1, "learning_rate": 0}, {"epochs": 1, "schedule": "step"}, {"epoch": 1}]
)
def test_a_specification_is_checked(config):
    with pytest.raises(pydantic.ValidationError):
        TrainingSpec(**config)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("budget", [0.25, 0.4])
def test_going_on_from_a_part_of_the_budget_is_the_whole_bit_for_bit(points, point_net, optimizer, budget):
    spec = TrainingSpec(epochs=4, learning_rate=0.02, optimizer=optimizer)

    def noisy():
        model = point_net()
        model.register_forward_pre_hook(
            lambda module, arguments, inputs: (arguments, {"x": torch.dropout(inputs["x"], 0.2, train=module.training)}), with_kwargs=True
        )
        return model

    whole = run(noisy(), points, spec)
    kept = []
    part = run(noisy(), points, spec, budget=budget, keep=kept.append)
    assert not torch.equal(part.head.weight, whole.head.weight)
    again = noisy()
    again.load_state_dict(part.state_dict())
    lines = []
    run(again, points, spec, begun=kept[0], log=lines.append)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert "step 32/32" in lines[-1]


class Numbered:
    """Points with numbers, whose labels are wrong from the second epoch on where they are trained on."""

    batch_size, augments, higher_is_better = 32, True, True

    def __init__(self, points):
        self._points = points
        (self._all,) = points.batches("train", batch_size=points.examples)
        self.seen = set()

    def __getattr__(self, name):
        return getattr(self._points, name)

    def examples(self, split):
        return len(self._all.labels)

    def take(self, split, rows, *, view=None):
        self.seen |= set(rows.tolist()) if view is not None else set()
        labels = self._all.labels[rows]
        return Batch({"x": self._all.inputs["x"][rows]}, 3 - labels if view else labels, rows, view)


STOPPED = TrainingSpec(epochs=30, learning_rate=0.05, schedule="constant", early_stop={"patience": 2, "held_out": 0.25})


def test_training_ends_where_held_out_examples_get_worse_and_leaves_the_best_weights(points, point_net):
    data, lines = Numbered(points), []
    model = run(point_net(), data, STOPPED, log=lines.append)
    assert len(lines) == 3
    assert lines[-1].endswith("which ends it")
    assert len(data.seen) == 192, "a quarter is never trained on"
    held = [float(line.rpartition("held out ")[2].removesuffix(", which ends it")) for line in lines]
    assert held[0] < held[1]
    (rest,) = (data.take("train", [row for row in range(256) if row not in data.seen]),)
    assert points.loss(model(**rest.inputs), rest).item() == pytest.approx(held[0], abs=1e-3)


@pytest.mark.parametrize("budget", [0.02, 0.05, 0.5])
def test_a_training_that_stops_early_goes_on_bit_for_bit(points, point_net, budget):
    whole = run(point_net(), Numbered(points), STOPPED)
    kept, lines = [], []
    part = run(point_net(), Numbered(points), STOPPED, budget=budget, keep=kept.append)
    again = run(part, Numbered(points), STOPPED, begun=kept[0], log=lines.append)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert len(lines) == {0.02: 3, 0.05: 2, 0.5: 0}[budget]


def test_a_training_whose_held_out_loss_is_never_finite_has_diverged(points, point_net):
    class Overflowing(Numbered):
        def loss(self, logits, batch):
            return points.loss(logits, batch) * (1.0 if logits.requires_grad else float("nan"))

    with pytest.raises(DivergedError, match="the loss on the examples that early_stop holds out is nan at the first check"):
        run(point_net(), Overflowing(points), STOPPED)


def test_early_stop_needs_examples_with_numbers(points, point_net):
    with pytest.raises(CompressionError, match="early_stop needs data whose examples have numbers"):
        run(point_net(), points, STOPPED)


def test_a_batch_in_pieces_has_the_gradient_of_the_whole(points):
    torch.manual_seed(0)
    make = lambda: torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4))  # noqa: E731 - no batch norm: it would see the pieces
    first = make()
    second = copy.deepcopy(first)
    for model in (first, second):
        model.forward = lambda x, model=model: torch.nn.Sequential.forward(model, x)
    whole = run(first, points, TrainingSpec(epochs=2, optimizer="sgd", learning_rate=0.1))
    pieces = run(second, points, TrainingSpec(epochs=2, optimizer="sgd", learning_rate=0.1, accumulate=3))
    torch.testing.assert_close(pieces[0].weight, whole[0].weight, rtol=1e-4, atol=1e-5)


class Tokens:
    """Sentences of six tokens, of which few have a class, and one has none."""

    labels = torch.full((5, 6), -100)
    labels[0], labels[1, 0], labels[2, 3], labels[4, :2] = torch.arange(6) % 3, 1, 2, 0

    def batches(self, split, *, seed=None, batch_size=None):
        yield Batch({"x": torch.randn(5, 6, 4, generator=torch.Generator().manual_seed(0))}, self.labels)

    def steps(self, split, *, batch_size=None):
        return 1


def hard(logits, batch):
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten())


def taught(logits, batch):
    return 0.3 * hard(logits, batch) + 0.7 * soft_loss(logits, batch.inputs["x"] @ torch.linspace(-3, 3, 12).reshape(4, 3), batch.labels, 2.0)


@pytest.mark.parametrize("loss", [hard, taught])
@pytest.mark.parametrize("pieces", [2, 5])
def test_pieces_count_by_the_tokens_that_have_a_class(loss, pieces):
    def trained(accumulate):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 3)
        model.forward = lambda x: torch.nn.functional.linear(x, model.weight, model.bias)
        spec = TrainingSpec(steps=3, optimizer="sgd", learning_rate=0.5, clip=None, accumulate=accumulate)
        return train(model, Tokens(), spec, loss=loss, seed=0)

    torch.testing.assert_close(trained(pieces).weight, trained(1).weight, rtol=1e-4, atol=1e-5)


def test_mixed_precision_learns_and_goes_on_bit_for_bit(points, point_net):
    spec = TrainingSpec(epochs=4, learning_rate=0.02, precision="bfloat16", accumulate=2)
    whole = run(point_net(), points, spec)
    assert points.score(whole, "search")[1] > 0.9
    assert whole.head.weight.dtype == torch.float32
    kept = []
    part = run(point_net(), points, spec, budget=0.4, keep=kept.append)
    again = run(part, points, spec, begun=kept[0])
    assert torch.equal(again.head.weight, whole.head.weight)
    assert not torch.equal(whole.head.weight, run(point_net(), points).head.weight)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_half_precision_needs_a_gpu(points, point_net):
    with pytest.raises(CompressionError, match="float16 needs a GPU; accepted here: float32, bfloat16"):
        run(point_net(), points, TrainingSpec(steps=1, precision="float16"))


def test_without_accelerate_the_message_says_what_to_install(points, point_net, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(UserError, match=r"install compareto\[accelerate\]"):
        run(point_net(), points, TrainingSpec(steps=1, accumulate=2))
    run(point_net(), points, TrainingSpec(steps=1))
