import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from compressors.compressor import GraphEdit
from compressors.errors import CompressionError, DivergedError, OutOfMemoryError, StorageError, TrialError, UnexportableError
from compressors.pipeline import compress
from compressors.recipe import Recipe
from search.cache import Cache
from search.experiment import Experiment
from search.preparing import Prepared, prepare
from search.stages import StageRunner, goes_on

PRUNE = {"prune": {"ratio": {"channels": 0.5}}}
DISTILL = {"distill": {"steps": 1}}
QUANTIZE = {"quantize": {"weight_bits": 8, "activation_bits": 8}}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    overrides = ["data.max_samples=100", "fit=null", "devices=[raspberry-pi-5/onnxruntime]"]
    return prepare(Experiment.load("quickstart", overrides), Cache(tmp_path_factory.mktemp("cache")), lambda _: None)


@pytest.fixture
def runner(prepared: Prepared, tmp_path: Path) -> StageRunner:
    return StageRunner(prepared, Cache(tmp_path))


def computed(runner: StageRunner, *steps: dict[str, object], **options: object) -> list[str]:
    """Names of the stages that were not in the cache."""
    return [s.name for s in runner.run(Recipe.from_plain(list(steps)), **options).stages if not s.cached]


def test_what_was_computed_is_not_computed_again(runner: StageRunner) -> None:
    assert computed(runner, PRUNE, DISTILL) == ["score l2", "prune", "distill", "evaluate"]
    assert computed(runner, PRUNE, DISTILL) == []
    assert computed(runner, PRUNE, DISTILL, split="report") == ["evaluate"]
    assert computed(runner, PRUNE, DISTILL, QUANTIZE) == ["evaluate"]
    assert computed(runner, PRUNE, {"distill": {"steps": 2}}) == ["distill", "evaluate"]


def test_the_training_of_a_quantized_model_is_a_stage_that_comes_back_bit_for_bit(runner: StageRunner, prepared: Prepared) -> None:
    steps = [PRUNE, {"quantize": {"weight_bits": 4}}, {"qat": {"steps": 2, "alpha": 0}}]
    assert computed(runner, *steps) == ["score l2", "prune", "qat", "evaluate"]
    assert computed(runner, *steps) == []
    assert computed(runner, *steps, split="report") == ["evaluate"], "neither trained nor calibrated again"
    assert computed(runner, *steps, replicate=1) == ["qat", "evaluate"]
    assert computed(runner, *steps[:2], {"qat": {"steps": 3, "alpha": 0}}) == ["qat", "evaluate"]
    recipe = Recipe.from_plain(steps)
    again = StageRunner(prepared, Cache(runner.cache.root.parent / "other")).model(recipe)
    state = runner.model(recipe).prepared_state
    assert all(torch.equal(value, again.prepared_state[name]) for name, value in state.items())
    assert runner.price(recipe)["size_bytes"] == runner.price(Recipe(recipe.steps[:2]))["size_bytes"]


def test_a_loaded_stage_gives_the_same_metrics_as_a_computed_one(runner: StageRunner, prepared: Prepared, tmp_path: Path) -> None:
    recipe = Recipe.from_plain([PRUNE, DISTILL])
    whole = runner.run(recipe)
    halfway = StageRunner(prepared, Cache(tmp_path / "other"))
    halfway.run(Recipe.from_plain([PRUNE]))
    assert halfway.run(recipe).metrics == whole.metrics
    assert halfway.run(recipe).widths == whole.widths


def test_fresh_seeds_are_other_trainings_of_the_same_cut(runner: StageRunner) -> None:
    computed(runner, PRUNE, DISTILL)
    assert computed(runner, PRUNE, DISTILL, replicate=1) == ["distill", "evaluate"]


def test_a_recipe_goes_on_from_a_part_of_its_training(runner: StageRunner, prepared: Prepared, tmp_path: Path) -> None:
    steps = [PRUNE, {"distill": {"steps": 6}}, QUANTIZE]
    recipe = Recipe.from_plain(steps)
    part, whole = runner.run(recipe, budget=1 / 3), runner.run(recipe, after=1 / 3)
    assert "step 2/6" in part.logs[-1]
    assert "step 6/6" in whole.logs[-1]
    assert [s.name for s in whole.stages if not s.cached] == ["distill", "evaluate"]
    at_once = StageRunner(prepared, Cache(tmp_path / "other"))
    assert at_once.run(recipe).metrics == whole.metrics
    states = [r.model(Recipe(recipe.steps[:2])).state_dict() for r in (runner, at_once)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert computed(runner, *steps, budget=1 / 3) == []


def test_a_part_of_a_budget_shortens_the_last_training_alone(runner: StageRunner) -> None:
    assert computed(runner, PRUNE, DISTILL) == ["score l2", "prune", "distill", "evaluate"]
    assert computed(runner, PRUNE, DISTILL, {"distill": {"steps": 4}}, budget=0.5) == ["distill", "evaluate"]
    assert goes_on(Recipe.from_plain([PRUNE, DISTILL, QUANTIZE]))
    assert not goes_on(Recipe.from_plain([PRUNE, QUANTIZE]))
    assert not goes_on(Recipe.from_plain([DISTILL, {"quantize": {"weight_bits": 4}}, {"qat": {"steps": 3}}]))


GUARDED = {"prune_iteratively": {"ratio": {"channels": 0.5}, "rounds": 2, "recover": {"steps": 2, "alpha": 0}, "max_drop": 0.5}}


@pytest.fixture
def guarded(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> int:
    """Quality falls as much as parameters do, so that the second round is undone; how many are left then."""
    whole = prepared.graph.parameters
    monkeypatch.setattr(
        "evaluators.tasks.array_task.ArrayTask.score", lambda self, model, split: ("accuracy", sum(p.numel() for p in model.parameters()) / whole)
    )
    smaller = compress(prepared.model, [{"prune": {"ratio": {"channels": 0.25}}}], prepared.task.example_inputs)
    return sum(p.numel() for p in smaller.parameters())


def test_what_a_step_has_decided_while_it_ran_is_what_counts(runner: StageRunner, prepared: Prepared, tmp_path: Path, guarded: int) -> None:
    recipe = Recipe.from_plain([GUARDED])
    found = runner.run(recipe)
    assert runner.price(recipe)["parameters"].value < found.metrics["parameters"].value == guarded
    assert found.widths == {name: (before, before * 3 // 4) for name, (before, _) in found.widths.items()}
    assert found.metrics == prepared.cost(GraphEdit.identity(prepared.graph).as_made(runner.model(recipe).compareto_structure)) | {
        k: v for k, v in found.metrics.items() if k in ("accuracy", "loss")
    }
    again = StageRunner(prepared, runner.cache).run(recipe)
    assert (again.metrics, again.widths) == (found.metrics, found.widths)
    assert all(stage.cached for stage in again.stages)


@pytest.mark.parametrize("cached", [False, True])
def test_steps_after_one_that_stopped_early_start_from_what_it_left(runner: StageRunner, guarded: int, cached: bool) -> None:
    recipe = Recipe.from_plain([GUARDED, {"prune": {"ratio": {"channels": 0.5}}}, DISTILL])
    if cached:
        runner.run(Recipe.from_plain([GUARDED]))
        runner.run(Recipe(recipe.steps[:2]))
    found = runner.run(recipe)
    assert all(after == (before * 3 // 4 + 1) // 2 for before, after in found.widths.values())
    assert found.metrics["parameters"].value == sum(p.numel() for p in runner.model(recipe).parameters())


def test_a_corrupt_stage_is_computed_again(runner: StageRunner, tmp_path: Path) -> None:
    before = runner.run(Recipe.from_plain([PRUNE, DISTILL]))
    for path in tmp_path.rglob("m*.*s*"):
        if path.name in ("metrics.json", "model.safetensors"):
            path.write_bytes(path.read_bytes()[:-2])
    after = runner.run(Recipe.from_plain([PRUNE, DISTILL]))
    assert [s.name for s in after.stages if not s.cached] == ["prune", "distill", "evaluate"]
    assert after.metrics == before.metrics


@pytest.fixture
def evaluation(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Raises what is put into the list when a model is evaluated."""
    errors: list[Exception] = []

    def failing(self: object, *details: object) -> object:
        raise errors[0]

    monkeypatch.setattr("evaluators.tasks.array_task.ArrayTask.per_example", failing)
    return errors


@pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError, "allocator"])
def test_memory_that_runs_out_outside_of_training(runner: StageRunner, evaluation: list[Exception], kind: object) -> None:
    if kind == "allocator":
        with pytest.raises(RuntimeError) as real:
            torch.empty(1 << 60, dtype=torch.uint8)
        evaluation.append(real.value)
    else:
        evaluation.append(kind())  # type: ignore[operator]
    with pytest.raises(OutOfMemoryError, match="memory ran out after prune: "):
        runner.run(Recipe.from_plain([PRUNE]))
    assert [s.name for s in runner.stages] == ["score l2", "prune"]


def test_any_other_error_is_a_bug_and_stays_one(runner: StageRunner, evaluation: list[Exception]) -> None:
    evaluation.append(RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        runner.run(Recipe.from_plain([PRUNE]))


def test_outputs_that_are_not_finite_are_a_divergence_that_is_remembered(runner: StageRunner, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("search.stages.module_predict", lambda model: lambda inputs: {"logits": np.full((len(next(iter(inputs.values()))), 10), np.nan)})
        with pytest.raises(DivergedError, match="outputs on search are not finite"):
            runner.run(Recipe.from_plain([PRUNE]))
    another = StageRunner(prepared, runner.cache)
    with pytest.raises(DivergedError, match="outputs on search are not finite"):
        another.run(Recipe.from_plain([PRUNE]))
    assert [(s.name, s.cached) for s in another.stages] == [("score l2", True), ("evaluate", True)]
    assert computed(runner, PRUNE, split="report") == ["evaluate"], "it is not known to fail there"


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception, cause: Exception | None = None) -> list[int]:
    """Has every training fail; one number for each that began."""
    begun: list[int] = []

    def train(*arguments: object, **options: object) -> object:
        begun.append(1)
        raise error from cause

    monkeypatch.setattr("compressors.distillation.train", train)
    return begun


@pytest.mark.parametrize("error", [DivergedError("the loss is nan at step 3"), CompressionError("no such layer"), UnexportableError("no such operator")])
def test_a_failure_that_would_come_again_comes_at_once(runner: StageRunner, prepared: Prepared, monkeypatch: pytest.MonkeyPatch, error: TrialError) -> None:
    with monkeypatch.context() as patch:
        begun = failing(patch, error)
        for _ in range(2):
            with pytest.raises(type(error), match=str(error)):
                runner.run(Recipe.from_plain([PRUNE, DISTILL]))
        assert begun == [1]
    other = StageRunner(prepared, runner.cache)
    with pytest.raises(type(error), match=str(error)):
        other.run(Recipe.from_plain([PRUNE, DISTILL, QUANTIZE]), split="report")
    assert [(s.name, s.cached) for s in other.stages] == [("score l2", True), ("distill", True)]
    kinds = [entry.kind for store in runner.cache.stores.values() for entry in store.entries()]
    assert sorted(kinds) == ["failed distill", "prune", "score l2"]
    assert computed(other, PRUNE, {"distill": {"steps": 2}}) == ["distill", "evaluate"]
    newer = StageRunner(dataclasses.replace(prepared, versions={**prepared.versions, "compareto": "9.9"}), runner.cache)
    assert computed(newer, PRUNE, DISTILL) == ["distill", "evaluate"]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OutOfMemoryError("training ran out of memory"), None),
        (StorageError("cannot write the cache"), None),
        (KeyError("a bug"), None),
        (CompressionError("the model's code cannot follow the cut: ..."), torch.OutOfMemoryError("CUDA out of memory")),
        (UnexportableError("ONNX cannot express the model: ..."), OSError(28, "No space left on device")),
    ],
)
def test_a_failure_that_may_pass_is_tried_again(runner: StageRunner, monkeypatch: pytest.MonkeyPatch, error: Exception, cause: Exception | None) -> None:
    with monkeypatch.context() as patch:
        failing(patch, error, cause)
        with pytest.raises(type(error)):
            runner.run(Recipe.from_plain([PRUNE, DISTILL]))
    assert computed(runner, PRUNE, DISTILL) == ["distill", "evaluate"]


MIXED = {"quantize": {"activation_bits": "float", "mixed": {"budget_bits": 5}}}


def test_sensitivities_are_measured_once_for_all_budgets(runner: StageRunner, prepared: Prepared) -> None:
    measured = "score sensitivity:channel:symmetric:mse"
    assert computed(runner, MIXED) == [measured, "evaluate"]
    fresh = StageRunner(prepared, runner.cache)
    assert computed(fresh, {"quantize": {**MIXED["quantize"], "mixed": {"budget_bits": 6}}}) == ["evaluate"]
    assert computed(fresh, PRUNE, MIXED) == ["score l2", "prune", "evaluate"]
    assert computed(StageRunner(prepared, runner.cache), MIXED) == []


def test_what_is_made_has_the_planned_bits_and_their_bytes(runner: StageRunner, prepared: Prepared) -> None:
    recipe = Recipe.from_plain([PRUNE, MIXED])
    planned = runner.plan(recipe)[-1]
    made = runner.model(recipe).compareto_structure["quantize"]["weight_bits"]
    assert made == {site.name: int(planned.weight_bits[i]) for i, site in enumerate(prepared.graph.sites)}
    assert set(made.values()) == {4, 8}
    assert runner.run(recipe).metrics["size_bytes"] == runner.price(recipe)["size_bytes"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_peak_memory_of_a_training_is_in_the_record_also_where_it_is_loaded(runner: StageRunner, prepared: Prepared) -> None:
    first = {s.name: s.peak_memory_bytes for s in runner.run(Recipe.from_plain([PRUNE, DISTILL])).stages}
    assert first["prune"] is None
    assert first["distill"] is not None
    assert first["distill"] > 50_000_000
    loaded = StageRunner(prepared, runner.cache).run(Recipe.from_plain([PRUNE, DISTILL, QUANTIZE])).stages
    assert {s.name: s.peak_memory_bytes for s in loaded if s.cached and s.name in first} == {name: first[name] for name in ("score l2", "prune", "distill")}
