"""The ``prune_iteratively`` step: rounds of pruning and recovery, and the guard that ends them."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from compressors.compressor import GraphEdit
from compressors.context import Context
from compressors.distillation import Distill
from compressors.errors import CompressionError, UserError
from compressors.graph import trace
from compressors.pipeline import compress
from compressors.pruning import CRITERIA, Prune, PruneIteratively, score
from compressors.pruning.iterative import width_after
from compressors.recipe import Recipe
from compressors.targets import target_named

INPUTS = {"x": torch.zeros(2, 2)}
WIDTH = 16


def iterative(**changes):
    return PruneIteratively(**{"ratio": 0.5, "recover": {"steps": 12, "alpha": 0.0, "learning_rate": 0.01}, **changes})


@pytest.fixture
def run(points, point_net):
    """Plan and apply a step to the small network; returns the model, the plan and the lines that were logged."""

    def do(step, model=None, data=points, **changes):
        model, lines = point_net(WIDTH) if model is None else model, []
        graph = trace(point_net(WIDTH), INPUTS)
        scores = {name: score(point_net(WIDTH), graph, name, list(points.batches("calibration")), points.loss) for name in step.criteria()}
        edit = step.plan(graph, scores, GraphEdit.identity(graph))
        context = Context(data, point_net(WIDTH), graph, INPUTS, target_named("onnxruntime"), log=lines.append)
        return step.apply(model, edit, replace(context, **changes)), edit, lines

    return do


@pytest.fixture
def trainings(monkeypatch):
    """What the training loop is asked for, instead of training."""
    asked = []

    def train(model, data, spec, *, seed, budget, **details):
        asked.append((spec, seed, budget, {name for name, p in model.named_parameters() if p.requires_grad}, details))
        return model.eval()

    monkeypatch.setattr("compressors.distillation.train", train)
    return asked


def units(model):
    return model.hidden.out_features


def test_the_paces():
    widths = {pace: [width_after(pace, 64, 8, i / 4) for i in range(5)] for pace in ("equal", "geometric", "cubic")}
    assert widths["equal"] == [64, 50, 36, 22, 8]
    assert widths["geometric"] == [64, 38, 23, 13, 8]
    assert widths["cubic"] == [64, 32, 15, 9, 8]
    assert all(width_after(pace, 7, 7, 0.5) == 7 for pace in widths)


@pytest.mark.parametrize("pace", ["equal", "geometric", "cubic"])
def test_the_last_round_ends_at_the_planned_widths(run, pace):
    model, edit, lines = run(iterative(pace=pace, rounds=3, round_to=4))
    graph = trace(model, INPUTS)
    assert units(model) == len(edit.kept["hidden"]) == 8
    assert [line.split(": ")[1:] for line in lines if "round" in line][-1] == ["round 3 of 3", f"{graph.parameters:,} parameters"]
    assert len([line for line in lines if "round" in line]) == 3


def test_one_round_is_pruning_followed_by_distillation(run, point_net):
    recover = Distill(steps=12, alpha=0.5, learning_rate=0.01)
    one_shot, edit, _ = run(iterative(rounds=1, recover=recover), seed=5)
    pruned, planned, _ = run(Prune(ratio=0.5))
    expected, _, _ = run_step(recover, pruned, point_net, planned, run, seed=5)
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in one_shot.state_dict().items())
    assert list(edit.kept["hidden"]) == list(planned.kept["hidden"]) == one_shot.compareto_structure["kept"]["hidden"]


def run_step(step, model, point_net, edit, run, **changes):
    class Planned:
        criteria = staticmethod(lambda: ())
        plan = staticmethod(lambda *_: edit)
        apply = step.apply

    return run(Planned, model, **changes)


@pytest.mark.parametrize(("rounds", "shares"), [(1, [14]), (3, [4, 5, 5]), (14, [1] * 14)])
def test_the_total_of_training_steps_does_not_depend_on_the_rounds(run, trainings, rounds, shares):
    run(iterative(rounds=rounds, recover={"steps": 14, "alpha": 0.0}))
    assert [spec.steps for spec, *_ in trainings] == shares


def test_epochs_are_divided_over_the_rounds(run, trainings):
    run(iterative(rounds=4, recover={"epochs": 3, "alpha": 0.0, "batch_size": 64}))
    assert [spec.steps for spec, *_ in trainings] == [3, 3, 3, 3], "3 epochs of 256 examples in batches of 64"
    assert [spec.batch_size for spec, *_ in trainings] == [64] * 4


def test_the_learning_rate_decays_from_round_to_round_and_each_round_sees_the_data_in_another_order(run, trainings):
    run(iterative(rounds=3, decay=0.5, recover={"steps": 30, "learning_rate": 0.08, "schedule": "linear", "alpha": 0.0}), seed=7, budget=0.5)
    assert [spec.learning_rate for spec, *_ in trainings] == [0.08, 0.04, 0.02]
    assert {spec.schedule for spec, *_ in trainings} == {"linear"}
    assert [seed for _, seed, *_ in trainings] == [7, 9, 11], "ten steps a round are two epochs of eight steps, begun"
    assert {budget for _, _, budget, *_ in trainings} == {0.5}


def test_units_are_ranked_anew_in_each_round(run, trainings, monkeypatch):
    ranked = []

    class Watching(type(CRITERIA["l2"])):
        def score(self, model, *details):
            ranked.append(units(model))
            # What is first in the model as it is now goes first.
            return {"hidden": np.arange(units(model), dtype=float)}

    monkeypatch.setitem(CRITERIA, "l2", Watching())
    model, _, _ = run(iterative(rounds=4))
    assert ranked == [16, 16, 14, 12, 10], "once for the plan, then once a round"
    assert model.compareto_structure["kept"]["hidden"] == list(range(8, 16))


def test_frozen_parts_keep_their_weights(run, point_net):
    original, (model, _, _) = point_net(WIDTH), run(iterative(frozen=["hidden"], rounds=2))
    kept = model.compareto_structure["kept"]["hidden"]
    assert torch.equal(model.hidden.weight, original.hidden.weight[kept])
    assert not torch.equal(model.head.weight, original.head.weight[:, kept])
    assert all(p.requires_grad for p in model.parameters())


def test_frozen_patterns_name_parameters_or_modules(run, trainings):
    run(iterative(frozen=["*.bias", "norm"], rounds=1))
    assert trainings[0][3] == {"hidden.weight", "head.weight"}


def test_what_was_frozen_before_stays_frozen(run, point_net):
    model = point_net(WIDTH)
    model.head.weight.requires_grad_(False)
    smaller, _, _ = run(iterative(rounds=1), model)
    assert [name for name, p in smaller.named_parameters() if not p.requires_grad] == ["head.weight"]
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["head.weight"]


@pytest.fixture
def judged(points):
    """Data on which a model's metric is what ``value`` says of its width."""

    def make(value, *, higher=True):
        data = copy.copy(points)
        data.higher_is_better = higher
        data.score = lambda model, split: ("accuracy" if higher else "perplexity", value(units(model)))
        return data

    return make


@pytest.mark.parametrize(
    ("value", "higher", "max_drop", "left"),
    [
        (lambda width: width / 16, True, 0.25, 12),
        (lambda width: width / 16, True, 0.2, 14),
        (lambda width: 20 - width, False, 4, 12),
        (lambda width: width, False, 0, 8),
        (lambda width: 20 - width, True, 0, 8),
        (lambda width: 0.9 if width == 16 else float("nan"), True, 1, 16),
    ],
)
def test_a_round_that_costs_too_much_is_undone_and_the_last_one(run, trainings, judged, value, higher, max_drop, left):
    model, edit, lines = run(iterative(rounds=4, max_drop=max_drop), data=judged(value, higher=higher))
    assert len(edit.kept["hidden"]) == 8, "the plan is the most that can go"
    assert units(model) == left
    assert model(**INPUTS).shape == (2, 4)
    assert len(trainings) == (4 if left == 8 else (16 - left) // 2 + 1)
    if left > 8:
        assert f"round {(16 - left) // 2 + 1} is undone and was the last one" in lines[-1]
        assert f"max_drop is {max_drop}" in lines[-1]


def test_a_guard_that_undoes_the_first_round_leaves_a_copy_of_the_model(run, trainings, judged, point_net):
    original = point_net(WIDTH)
    model, _, _ = run(iterative(max_drop=0.01), original, data=judged(lambda width: width))
    assert model is not original
    assert all(torch.equal(value, original.state_dict()[name]) for name, value in model.state_dict().items())


def test_the_edit_says_what_the_guard_has_left(run, trainings, judged, point_net):
    model, edit, _ = run(iterative(max_drop=0.25), data=judged(lambda width: width / 16))
    graph = trace(point_net(WIDTH), INPUTS)
    made = edit.as_made(model.compareto_structure)
    assert list(made.kept["hidden"]) == model.compareto_structure["kept"]["hidden"]
    assert graph.count_parameters(made.shapes(graph))[0] == sum(p.numel() for p in model.parameters())
    untouched = edit.as_made(None)
    assert graph.count_parameters(untouched.shapes(graph))[0] == graph.parameters


@pytest.mark.parametrize("max_drop", [None, 0.25])
def test_later_steps_go_on_from_what_was_really_kept(trainings, judged, point_net, max_drop):
    first = {"ratio": 0.5, "max_drop": max_drop, "recover": {"steps": 4}, "criterion": "random"}
    recipe = [{"prune_iteratively": first}, {"prune": {"ratio": 0.5}}]
    smaller = compress(point_net(WIDTH), recipe, INPUTS, judged(lambda width: width / 16))
    assert units(smaller) == (4 if max_drop is None else 6)


def test_a_recovered_model_is_better_than_a_pruned_one(points, point_net):
    recover = {"epochs": 8, "alpha": 0.0, "learning_rate": 0.02}
    trained = compress(point_net(WIDTH), [{"distill": recover}], INPUTS, points)
    recipe = [{"prune_iteratively": {"ratio": 0.75, "rounds": 3, "criterion": "activation", "recover": {**recover, "alpha": 0.5}}}]
    smaller = compress(trained, recipe, INPUTS, points)
    pruned = compress(trained, [{"prune": {"ratio": 0.75, "criterion": "activation"}}], INPUTS, points)
    assert units(smaller) == units(pruned) == 4
    assert points.score(smaller, "search")[1] > points.score(pruned, "search")[1]


def test_whole_blocks_and_several_kinds_go_round_by_round():
    from tests.conformance.families import build

    model, inputs = build("distilbert")
    graph = trace(model, inputs, check_cuts=False)
    data = Classified(inputs)
    step = PruneIteratively(ratio={"ffn": 0.5, "heads": 0.5, "blocks": 0.5, "hidden": 0.25}, rounds=2, recover=Distill(steps=2, alpha=1.0))
    edit = step.plan(graph, {"l2": score(model, graph, "l2")}, GraphEdit.identity(graph))
    smaller = step.apply(model, edit, Context(data, copy.deepcopy(model), graph, inputs, target_named("onnxruntime")))
    assert sum(p.numel() for p in smaller.parameters()) == graph.count_parameters(edit.shapes(graph))[0]


class Classified:
    """One batch, again and again."""

    higher_is_better = True

    def __init__(self, inputs):
        from compressors.context import Batch

        self.batch = Batch(inputs, torch.zeros(2, dtype=torch.long))

    def batches(self, split, *, seed=None, batch_size=None):
        yield self.batch

    def steps(self, split, *, batch_size=None):
        return 1

    def loss(self, logits, batch):
        return nn.functional.cross_entropy(logits, batch.labels)

    def score(self, model, split):
        return "accuracy", 1.0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"ratio": 0.5}, r"recipe\[0\]\.prune_iteratively\.recover: "),
        ({"recover": {"steps": 9}}, "give ratio or threshold"),
        ({"ratio": 0.5, "recover": {}}, "give either epochs or steps"),
        ({"ratio": 0.5, "recover": {"steps": 3}, "rounds": 4}, "3 steps of recovery are too few for 4 rounds"),
        ({"ratio": 0.5, "recover": {"steps": 9}, "rounds": 0}, "rounds.*greater than or equal to 1"),
        ({"ratio": 0.5, "recover": {"steps": 9}, "pace": "fast"}, "'equal', 'geometric' or 'cubic'"),
        ({"ratio": 0.5, "recover": {"steps": 9}, "decay": 1.5}, "less than or equal to 1"),
        ({"ratio": 0.5, "recover": {"steps": 9}, "max_drop": -0.1}, "greater than or equal to 0"),
        ({"ratio": 0.5, "recover": {"stepz": 9}}, "stepz"),
        ({"ratio": 1, "recover": {"steps": 9}}, r"\[0, 1\)"),
    ],
)
def test_a_wrong_configuration_is_the_users_mistake(config, message):
    with pytest.raises(UserError, match=message):
        Recipe.from_plain([{"prune_iteratively": config}])


def test_configuration_survives_a_round_trip():
    plain = {"threshold": 0.3, "rounds": 3, "pace": "cubic", "decay": 0.7, "frozen": "head.*", "max_drop": 0.02, "recover": {"epochs": 2, "alpha": 0.0}}
    recipe = Recipe.from_plain([{"prune_iteratively": plain}])
    assert Recipe.from_plain(recipe.to_plain()) == recipe
    assert recipe.steps[0].recover == Distill(epochs=2, alpha=0.0)


def test_what_does_not_fit_model_or_data_is_said(run, points, point_net):
    with pytest.raises(UserError, match=r"recipe\[0\]\.prune_iteratively\.frozen: 'hedden' matches no parameter; did you mean 'hidden'"):
        compress(point_net(WIDTH), [{"prune_iteratively": {"ratio": 0.5, "recover": {"steps": 9}, "frozen": "hedden"}}], INPUTS, points)
    with pytest.raises(UserError, match=r"recipe\[0\]\.prune_iteratively\.layers: 'hiden' matches no prunable axis; did you mean 'hidden'"):
        compress(point_net(WIDTH), [{"prune_iteratively": {"layers": {"hiden": 0.5}, "recover": {"steps": 9}}}], INPUTS, points)
    with pytest.raises(UserError, match=r"recipe\[0\]\.prune_iteratively: reads training data"):
        compress(point_net(WIDTH), [{"prune_iteratively": {"ratio": 0.5, "recover": {"steps": 9}}}], INPUTS)
    with pytest.raises(CompressionError, match=r"'hedden' matches no parameter"):
        run(iterative(frozen="hedden"))
    with pytest.raises(CompressionError, match=r"frozen: \['\*'\] leave nothing to train"):
        run(iterative(frozen="*"))
    with pytest.raises(CompressionError, match="8 steps of recovery are too few for 9 rounds"):
        run(iterative(rounds=9, recover={"epochs": 1}))
    with pytest.raises(CompressionError, match="needs training data"):
        run(iterative(), data=None)
    with pytest.raises(CompressionError, match="needs a teacher"):
        run(iterative(max_drop=0.1), teacher=None)
    with pytest.raises(CompressionError, match="prune_iteratively: no prunable axis of kind 'heads'"):
        run(iterative(ratio={"heads": 0.5}))
