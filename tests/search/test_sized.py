import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compressors.errors import CompressionError, UserError
from compressors.graph import trace
from compressors.graph.stored import graph_json
from compressors.pipeline import compress
from compressors.recipe import Recipe
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
from search.warm_start import adopted, identity_of
from tests.search.finished import finished_study

DEVICE = "raspberry-pi-5/onnxruntime"
SMALLER = {"input_size": {"image": 6}}
PRUNED = [SMALLER, {"prune": {"ratio": {"channels": 0.25}}}, {"distill": {"epochs": 3, "alpha": 0.5}}]
INT8 = {"quantize": {"weight_bits": 8, "activation_bits": 8}}


def experiment(*overrides):
    return Experiment.load("quickstart", ["fit.epochs=3", "constraints=[]", f"devices=[{DEVICE}]", *overrides])


@pytest.fixture(scope="module")
def runner(root):
    return StageRunner(prepare(experiment(), Cache(), lambda _: None), Cache())


def recipe(*steps):
    return Recipe.from_plain(list(steps))


def test_a_recipe_is_priced_as_the_model_that_it_makes_at_that_size(runner):
    made = recipe(*PRUNED)
    priced, outcome = runner.price(made), runner.run(made)
    assert {name: priced[name] for name in priced} == {name: outcome.metrics[name] for name in priced}
    sized, model = runner.at(made), runner.model(made)
    again = trace(model, sized.task.example_inputs)
    assert next(iter(sized.task.example_inputs.values())).shape[-2:] == (6, 6)
    assert again.macs == outcome.metrics["macs"].value
    alone = sized.devices[DEVICE].cost(again, again.baseline())
    assert alone["latency_ms"].value[0] == pytest.approx(outcome.metrics[f"latency_ms@{DEVICE}"].value)
    native = runner.price(recipe(*PRUNED[1:]))
    assert priced["macs"].value < 0.7 * native["macs"].value
    assert priced["parameters"] == native["parameters"]
    assert outcome.candidate["input_size"]["size"] == [6, 6]


def test_another_size_is_another_stage_and_the_same_size_is_not(runner):
    keys = [runner.key(recipe(*steps)) for steps in ((), (SMALLER,), ({"input_size": {"image": 5}},))]
    assert len(set(keys)) == 3
    assert runner.at(recipe({"input_size": {"scale": 0.75}})) is runner.at(recipe(SMALLER))
    assert runner.at(recipe({"input_size": {"scale": 1}})) is runner.prepared
    assert all(stage.cached for stage in runner.run(recipe(*PRUNED)).stages)


def test_training_sees_the_smaller_input_and_its_teacher_the_whole_one(runner):
    batch = next(runner.at(recipe(SMALLER)).task.batches("train", seed=0))
    (small,), (whole,) = batch.inputs.values(), batch.teacher_inputs.values()
    assert small.shape[-2:] == (6, 6)
    assert whole.shape[-2:] == (8, 8)
    assert runner.run(recipe(*PRUNED)).metrics["accuracy"].value > runner.run(recipe(*PRUNED[:2])).metrics["accuracy"].value


def test_a_search_varies_the_size_as_an_ordered_number_and_never_proposes_one_that_cannot_be(runner):
    steps = "recipe=[{optional: {input_size: {image: {choice: [8, 6, 4]}}}}, {prune: {ratio: {channels: {choice: [0.0, 0.5]}}}}]"
    asked = experiment(steps)
    dimension = next(d for d in asked.space.dimensions if d.name == "input_size.image")
    assert dimension.choices == (4, 6, 8)
    assert dimension.ordinal
    quality = {"accuracy": Estimate(0.9, 0.8, 1.0), "loss": Estimate(0.1, 0.0, 0.2)}
    whole = {**runner.price(recipe()), **quality}
    half = {name: Estimate(0.5 * e.value, 0.5 * e.low, 0.5 * e.high, e.tier) for name, e in whole.items()}
    proposals = Proposals(asked, runner, {"fp32": whole, "half": half}, "fp32")
    points = [{"optional.input_size": True, "input_size.image": size, "prune.ratio.channels": 0.0} for size in (4, 6, 8)]
    points.append({"optional.input_size": False, "prune.ratio.channels": 0.0})
    macs = [row["macs"].value for row in proposals._prices(points)]
    assert macs == [runner.price(asked.space.recipe(point))["macs"].value for point in points]
    assert macs[0] < macs[1] < macs[2] == macs[3]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("{image: 9}", "recipe[0].input_size.image: 9: larger than the data's 8x8; accepted: 1 to 8"),
        ("{length: 4}", "recipe[0].input_size.length: 4: the model takes images; accepted: image or scale"),
    ],
)
def test_check_names_a_size_that_cannot_be(step, said):
    with pytest.raises(UserError) as error:
        check(experiment("fit=null", "data.max_samples=100", f"recipe=[{{input_size: {step}}}]"))
    assert str(error.value) == said


def test_a_size_that_only_a_trial_meets_is_infeasible(runner):
    with pytest.raises(CompressionError, match="larger than the data's"):
        runner.run(recipe({"input_size": {"image": 12}}))


@pytest.fixture(scope="module")
def study(root, runner):
    return finished_study(root / "digits", runner, {"baseline-fp32": [], "0001": [*PRUNED, INT8]})


def test_a_finished_study_is_priced_on_a_late_device_at_each_trial_s_size(study, runner):
    ledger = Ledger(study.folder)
    ledger.describe(identity_of(runner.prepared), graph_json(runner.prepared.graph))
    with pytest.raises(UserError, match=r"cannot be priced on pixel-7.*6x6.json is missing"):
        study.on("pixel-7/onnxruntime")
    for _ in range(2):
        ledger.keep_graph("6x6", lambda: graph_json(runner.at(recipe(SMALLER)).graph))
    ledger.close()
    late = study.on("pixel-7/onnxruntime")
    with_it = experiment(f"devices=[{DEVICE}, pixel-7/onnxruntime]")
    again = StageRunner(prepare(with_it, Cache(), lambda _: None), Cache()).run(recipe(*PRUNED, INT8)).metrics
    name = next(name for name in again if name.startswith("latency_ms@pixel-7"))
    assert late.record("0001").metrics[name] == again[name]


def test_trials_at_another_size_are_taken_over_by_another_study(study, runner):
    (study.folder / "study.json").write_text(json.dumps(identity_of(runner.prepared)))
    (found,) = adopted("digits", study.folder.parent, runner.prepared, lambda _: None, runner.at)
    known = study.record("0001").metrics
    assert {name: found.metrics[name] for name in known} == known


def test_without_an_experiment_the_data_is_made_smaller_too(runner):
    p, lines = runner.prepared, []
    made = compress(p.model, [SMALLER, {"distill": {"epochs": 1}}], p.task.example_inputs, p.task, log=lines.append)
    assert made.compareto_structure["input_size"]["size"] == [6, 6]
    assert any("accuracy" in line for line in lines)


@pytest.fixture(scope="module")
def artifact(study):
    return export_trial(study, "0001", study.folder.parent / "artifact", log=lambda _: None)


def test_the_artifact_takes_the_smaller_input_and_says_how_it_is_made(artifact):
    signature = json.loads((artifact / "signature.json").read_text())
    assert signature["inputs"]["image"]["shape"] == ["batch", 1, 6, 6]
    described = signature["preprocessing"]
    assert described["shape"] == [1, 8, 8]
    assert described["input_size"] == {"kind": "image", "native": [8, 8], "size": [6, 6], "how": "resize", "trailing": 0}
    assert "then resized (bilinear, antialiased) to 6x6" in (artifact / "README.md").read_text()


def test_it_keeps_its_promises_against_the_uncompressed_model_at_the_data_s_size(artifact):
    report = verify(artifact, seconds=0.1, processes=1, threads=1)
    checks = {check.name: check for check in report.checks}
    assert report.passed, report.reasons
    for name in ("outputs", "outputs (raw)", "accuracy", "size_bytes"):
        assert checks[name].kept, name
    assert checks["latency_ratio"].found > 0
    assert checks["end_to_end_ms (uncompressed)"].found > 0


def test_whoever_has_native_inputs_need_not_know(artifact):
    predict = load_artifact(artifact)
    with np.load(artifact / EXAMPLES) as stored:
        expected, small = stored["logits"], stored["input.image"]
    raw = read_raw(artifact)
    np.testing.assert_allclose(predict(raw)["logits"], expected, atol=1e-4)
    np.testing.assert_allclose(predict({"image": small})["logits"], expected, atol=1e-4)
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(Path(artifact / "raw").glob("*.png"), key=lambda path: int(path.stem))])
    native = (pixels[:, None].astype(np.float32) / 255 - 0.3) / 0.37
    np.testing.assert_allclose(predict({"image": native.astype(np.float32)})["logits"], expected, atol=1e-4)
    with pytest.raises(UserError, match=r"has the shape \[1, 1, 7, 7\]"):
        predict({"image": np.zeros((1, 1, 7, 7), np.float32)})


@pytest.mark.filterwarnings("ignore")  # torchao warns about its own internals
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_an_artifact_of_pixels_makes_pixels_smaller(study, artifact, layout, tmp_path):
    folder = export_trial(study, "0001", tmp_path / "pixels", raw_images=layout, log=lambda _: None)
    assert json.loads((folder / "signature.json").read_text())["inputs"]["image"]["shape"] == ["batch", *([6, 6, 1] if layout == "nhwc" else [1, 6, 6])]
    raw, predict = read_raw(folder), load_artifact(folder)
    with np.load(folder / EXAMPLES) as stored:
        np.testing.assert_allclose(predict(raw)["logits"], stored["logits"], atol=1e-4)
    # Pixels are rounded where they are made smaller.
    plain = load_artifact(artifact)(raw)["logits"]
    np.testing.assert_allclose(predict(raw)["logits"], plain, atol=0.1 * np.ptp(plain))
