import json
import shutil

import numpy as np
import pytest

from compressors.errors import UserError
from evaluators.exit_rates import ExitRates
from search.cache import Cache
from search.checksums import write_checksums
from search.experiment import Experiment
from search.export import export_trial
from search.ladder import export_ladder
from search.ladder_run import Ladder
from search.load_artifact import load_artifact
from search.preparing import prepare
from search.raw_files import read_raw
from search.stages import StageRunner
from search.verify import verify
from tests.search.finished import finished_study

EXIT = {"early_exit": {"after": ["stem", "body.1"], "epochs": 6, "learning_rate": 0.01, "threshold": 0.6}}
INT8 = {"quantize": {"weight_bits": 8, "activation_bits": 8}}
RECIPES = {"baseline-fp32": [], "0001": [EXIT, INT8], "0002": [{"prune": {"ratio": {"channels": 0.5}}}, {"distill": {"epochs": 2}}]}


@pytest.fixture(scope="module")
def study(root):
    experiment = Experiment.load("quickstart", ["fit.epochs=2", "constraints=[]", "devices=[raspberry-pi-5/onnxruntime]"])
    runner = StageRunner(prepare(experiment, Cache(), lambda _: None), Cache())
    return finished_study(root / "digits", runner, RECIPES)


@pytest.fixture(scope="module")
def artifact(study):
    return export_trial(study, "0001", study.folder.parent / "artifact", log=lambda _: None)


def test_an_artifact_with_exits_has_one_file_a_stage(artifact):
    assert {path.name for path in artifact.glob("*.onnx")} == {"stage-1.onnx", "stage-2.onnx", "stage-3.onnx"}
    signature = json.loads((artifact / "signature.json").read_text())
    assert signature["model"] == "model.stages"
    assert signature["exits"] == {"after": ["stem", "body.1"], "threshold": 0.6}
    assert np.load(artifact / "examples.npz")["logits"].shape == (256, 10)


def test_it_keeps_quality_exit_rates_and_bytes(artifact, study):
    report = verify(artifact, seconds=0.1, processes=1, threads=1)
    checks = {check.name: check for check in report.checks}
    assert report.passed, report.reasons
    assert checks["accuracy"].kept
    assert checks["size_bytes"].kept
    rates = ExitRates.from_plain(study.record("0001").candidate["exits"])
    for i in (1, 2):
        check = checks[f"reached_{i + 1}"]
        assert check.kept
        assert check.found == pytest.approx(rates.reached[i].value, abs=0.15), "the same on another split"
    assert checks["latency_ms"].found > 0
    assert "mean over the artifact's examples" in checks["latency_ms"].note


def test_it_answers_raw_images_without_torch_in_the_way(artifact):
    predict = load_artifact(artifact)
    raw = read_raw(artifact)
    assert len(raw) == 256
    outputs = predict(raw)
    expected = np.load(artifact / "examples.npz")["logits"][: len(raw)]
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-3)


def test_other_formats_have_no_stages(study, tmp_path):
    from compressors.errors import UnexportableError

    with pytest.raises(UnexportableError, match="early exits") as error:
        export_trial(study, "0001", tmp_path / "torch", form="torch", log=lambda _: None)
    assert "accepted: --format onnx" in str(error.value)


@pytest.fixture(scope="module")
def ladder(study):
    return export_ladder(study, 3, study.folder.parent / "ladder", log=lambda _: None)


def test_a_ladder_picks_the_best_that_there_is_time_for(ladder):
    predict = load_artifact(ladder)
    rungs = predict.ladder.rungs
    latencies, qualities = ([rung[name] for rung in rungs] for name in ("latency_ms", "quality"))
    assert len(rungs) >= 2
    assert latencies == sorted(latencies)
    assert qualities == sorted(qualities)
    pick, best = predict.ladder.pick, len(rungs) - 1
    assert pick() == best
    assert pick(latency_ms=latencies[0] * 1.001) == 0
    assert pick(latency_ms=latencies[0] / 10) == 0, "the fastest where there is time for none"
    assert pick(latency_ms=10 * latencies[-1]) == best
    assert pick(load=0.99) == 0
    assert pick(size=10 * predict.ladder.plan["size"]) == 0, "a large input takes longer"
    assert pick(temperature_c=40) == best
    assert pick(temperature_c=60.5) == best - 1
    assert pick(temperature_c=95) == 0
    image = read_raw(ladder / rungs[0]["folder"])[:1]
    assert predict(image, latency_ms=1e6)["rung"] == rungs[-1]["id"]
    with pytest.raises(UserError, match="load 3 is no share; accepted: 0 to 1"):
        predict(image, load=3)
    with pytest.raises(UserError, match="latency_ms 0 is no time"):
        predict(image, latency_ms=0)


def test_a_ladder_learns_how_long_its_models_take_here(ladder):
    runner = Ladder(ladder, models=[])
    best, size = len(runner.rungs) - 1, runner.plan["size"]
    budget = 1.1 * runner.latency_ms(best)
    assert runner.pick(latency_ms=budget) == best
    for _ in range(40):
        runner.learn(best, 50 * runner.rungs[best]["latency_ms"], size)
    assert runner.pick(latency_ms=budget) == 0, "all are taken to be as slow until they have run"
    for _ in range(3):
        runner.learn(best - 1, runner.rungs[best - 1]["latency_ms"], size)
    assert runner.pick(latency_ms=budget) == best - 1


def test_the_mix_of_a_ladder_is_measured(ladder):
    report = verify(ladder, seconds=0.05, processes=1, threads=1)
    checks = {check.name: check for check in report.checks}
    assert report.passed, report.reasons
    assert checks["mix accuracy"].promised is not None
    assert checks["mix accuracy"].kept
    rungs = json.loads((ladder / "ladder.json").read_text())["rungs"]
    assert sum(checks[f"mix {rung['id']}"].found for rung in rungs) == pytest.approx(1)
    assert checks["mix latency_ms"].found > 0


def test_a_changed_rung_is_found(ladder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(ladder, copy)
    (next((copy / "rungs").iterdir()) / "README.md").write_text("changed")
    assert verify(copy).verdict == "corrupt"


def test_a_ladder_of_a_newer_version_is_refused(ladder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(ladder, copy)
    plan = json.loads((copy / "ladder.json").read_text())
    (copy / "ladder.json").write_text(json.dumps({**plan, "ladder_version": 2}))
    write_checksums(copy)
    with pytest.raises((UserError, ValueError), match="ladder_version 2; accepted: 1"):
        load_artifact(copy)


def test_one_rung_is_no_ladder(study, tmp_path):
    with pytest.raises(UserError, match="--ladder 1: accepted: at least 2 rungs"):
        export_ladder(study, 1, tmp_path / "one")
