import json

import numpy as np
import pytest

from compressors.errors import UserError
from compressors.graph import trace
from compressors.graph.region_scorer import scorer_in
from compressors.graph.stored import graph_json
from compressors.recipe import Recipe
from compressors.sizing import SCORER
from evaluators.metric import Estimate
from search.cache import Cache
from search.check import check
from search.checksums import EXAMPLES
from search.experiment import Experiment
from search.export import export_trial
from search.ledger import Ledger
from search.load_artifact import load_artifact
from search.preparing import prepare
from search.proposals import Proposals
from search.raw_files import read_raw
from search.stages import StageRunner
from search.verify import verify
from search.warm_start import identity_of
from tests.search.finished import finished_study

DEVICE = "raspberry-pi-5/onnxruntime"
SCORED = {"input_size": {"image": 6, "how": "informative", "steps": 20}}
PRUNED = [SCORED, {"prune": {"ratio": {"channels": 0.25}}}, {"distill": {"epochs": 2, "alpha": 0.5}}]
RECIPES = {
    "baseline-fp32": [],
    "0001": [*PRUNED, {"quantize": {"weight_bits": 8, "activation_bits": 8}}],
    "0002": [SCORED, {"early_exit": {"after": [0.4], "epochs": 2, "threshold": 0.6}}],
}


def experiment(*overrides):
    return Experiment.load("quickstart", ["fit.epochs=3", "constraints=[]", f"devices=[{DEVICE}]", *overrides])


def recipe(*steps):
    return Recipe.from_plain(list(steps))


@pytest.fixture(scope="module")
def runner(root):
    return StageRunner(prepare(experiment(), Cache(), lambda _: None), Cache())


def test_a_recipe_is_priced_as_the_model_with_its_scorer(runner):
    made = recipe(*PRUNED)
    priced, outcome = runner.price(made), runner.run(made)
    assert priced == {name: outcome.metrics[name] for name in priced}
    sized, model = runner.at(made), runner.model(made)
    again = trace(model, sized.task.example_inputs)
    assert next(iter(sized.task.example_inputs.values())).shape[-2:] == (8, 8), "the file takes whole images"
    assert again.macs == outcome.metrics["macs"].value
    assert sum(p.numel() for p in model.parameters()) == outcome.metrics["parameters"].value
    alone = sized.devices[DEVICE].cost(again, again.baseline())
    for name in ("latency_ms", "peak_memory_bytes", "energy_mj"):
        assert alone[name].value[0] == pytest.approx(outcome.metrics[f"{name}@{DEVICE}"].value)
    assert any(operator.module.startswith(SCORER) and operator.op_class == "movement" for operator in again.operators)
    assert outcome.candidate["input_size"] == {
        "kind": "image",
        "native": [8, 8],
        "size": [6, 6],
        "how": "informative",
        "trailing": 0,
        "scorer": 8,
        "channels": 1,
    }
    assert any("where it looks" in line for line in StageRunner(runner.prepared, Cache()).run(recipe(SCORED), replicate=1).logs)


def test_its_training_is_a_stage_that_seed_and_steps_belong_to(runner):
    keys = [
        runner.key(recipe(SCORED)),
        runner.key(recipe(SCORED), replicate=1),
        runner.key(recipe({"input_size": {**SCORED["input_size"], "steps": 21}})),
        runner.key(recipe({"input_size": {"image": 6, "how": "crop"}})),
    ]
    assert len(set(keys)) == 4
    runner.run(recipe(SCORED))
    assert all(stage.cached for stage in runner.run(recipe(SCORED)).stages)
    first, second = (runner.model(recipe(SCORED), replicate=i).state_dict()[f"{SCORER}.layers.0.weight"] for i in (0, 1))
    assert not np.array_equal(first, second)


def test_a_search_varies_how_and_how_much_is_cropped(runner):
    step = "{input_size: {image: {choice: [6, 4]}, how: {choice: [resize, crop, informative]}, scorer: {int: [4, 8]}}}"
    asked = experiment(f"recipe=[{{optional: {step}}}, {{prune: {{ratio: {{channels: {{choice: [0.0, 0.5]}}}}}}}}]")
    assert {"input_size.image", "input_size.how", "input_size.scorer"} < {d.name for d in asked.space.dimensions}
    quality = {"accuracy": Estimate(0.9, 0.8, 1.0), "loss": Estimate(0.1, 0.0, 0.2)}
    whole = {**runner.price(recipe()), **quality}
    half = {name: Estimate(0.5 * e.value, 0.5 * e.low, 0.5 * e.high, e.tier) for name, e in whole.items()}
    proposals = Proposals(asked, runner, {"fp32": whole, "half": half}, "fp32")
    common = {"optional.input_size": True, "prune.ratio.channels": 0.5}
    points = [{**common, "input_size.image": size, "input_size.how": how, "input_size.scorer": 4} for size in (4, 6) for how in ("crop", "informative")]
    points.append({**points[-1], "input_size.scorer": 8})
    macs = [row["macs"].value for row in proposals._prices(points)]
    assert macs == [runner.price(asked.space.recipe(point))["macs"].value for point in points]
    assert macs[0] < macs[1]
    assert macs[2] < macs[3] < macs[4], "a scorer costs what it is"


def test_check_names_what_cannot_be_cropped():
    with pytest.raises(UserError) as error:
        check(experiment("fit=null", "data.max_samples=100", "recipe=[{input_size: {image: 9, how: informative}}]"))
    assert str(error.value) == "recipe[0].input_size.image: 9: larger than the data's 8x8; accepted: 1 to 8"
    with pytest.raises(UserError, match=r"input_size.scorer: .*greater than 0"):
        check(experiment("fit=null", "data.max_samples=100", "recipe=[{input_size: {image: 6, how: informative, scorer: 0}}]"))


@pytest.fixture(scope="module")
def study(root, runner):
    return finished_study(root / "digits", runner, RECIPES)


def test_a_late_device_prices_the_scorer_too(study, runner):
    ledger = Ledger(study.folder)
    ledger.keep_graph("6x6-scorer8", lambda: graph_json(runner.at(recipe(SCORED)).graph))
    ledger.describe(identity_of(runner.prepared), graph_json(runner.prepared.graph))
    ledger.close()
    late = study.on("pixel-7/onnxruntime")
    with_it = experiment(f"devices=[{DEVICE}, pixel-7/onnxruntime]")
    again = StageRunner(prepare(with_it, Cache(), lambda _: None), Cache()).run(recipe(*RECIPES["0001"])).metrics
    name = next(name for name in again if name.startswith("latency_ms@pixel-7"))
    assert late.record("0001").metrics[name] == again[name]


@pytest.mark.parametrize("trial", ["0001", "0002"])
def test_the_artifact_takes_whole_images_and_keeps_its_promises(study, trial):
    artifact = export_trial(study, trial, study.folder.parent / f"artifact-{trial}", log=lambda _: None)
    signature = json.loads((artifact / "signature.json").read_text())
    assert signature["inputs"]["image"]["shape"] == ["batch", 1, 8, 8]
    assert "the model itself crops it where it says most" in (artifact / "README.md").read_text()
    report = verify(artifact, seconds=0.1, processes=1, threads=1)
    assert report.passed, report.reasons
    assert {"outputs", "outputs (raw)", "accuracy", "size_bytes"} <= {check.name for check in report.checks if check.kept}
    with np.load(artifact / EXAMPLES) as stored:
        expected = stored["logits"]
    np.testing.assert_allclose(load_artifact(artifact)(read_raw(artifact))["logits"], expected, atol=1e-4)


def test_exits_are_not_put_into_the_scorer(runner):
    found = runner.run(recipe(*RECIPES["0002"]))
    assert not any(name.startswith(SCORER) for name in found.candidate["exits"]["after"])
    model = runner.model(recipe(*RECIPES["0002"]))
    assert scorer_in(model) is not None
