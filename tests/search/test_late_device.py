import dataclasses
import json
import subprocess
import sys

import pytest

from compressors.errors import UserError
from compressors.graph.stored import graph_json
from search.cli import main
from search.experiment import Experiment
from search.preparing import prepare
from search.stages import StageRunner

LATE = ("pixel-7/litert", "jetson-orin-nano", "galaxy-s24.npu+cpu/litert")


@pytest.fixture(scope="module")
def kept(trained):
    """The trained study with what pricing needs, as a search keeps it."""
    from compressors.recipe import Recipe
    from evaluators.devices.calibration.anchors import Candidate
    from search.cache import Cache

    runner = StageRunner(prepare(trained.experiment, Cache(), lambda _: None), Cache())
    (trained.folder / "graph.json").write_text(graph_json(runner.prepared.graph))
    records = []
    for record in trained.records:
        if record.status == "ok":
            recipe = Recipe.from_plain(record.recipe)
            outcome = runner.run(recipe)
            assert outcome.candidate == Candidate.of(runner.shapes(recipe, runner.model(recipe))).model_dump(mode="json")
            record = dataclasses.replace(record, candidate=outcome.candidate)
        records.append(record)
    return dataclasses.replace(trained, records=tuple(records))


@pytest.mark.parametrize("device", LATE)
def test_a_late_device_costs_what_the_study_would_have_recorded(kept, device):
    from compressors.recipe import Recipe
    from search.cache import Cache

    late = kept.on(device)
    key = late.experiment.devices[-1]
    with_it = Experiment.from_plain({**kept.experiment.to_plain(), "devices": [*kept.experiment.devices, device]})
    runner = StageRunner(prepare(with_it, Cache(), lambda _: None), Cache())
    for record in (r for r in late.records if r.status == "ok"):
        recorded = runner.run(Recipe.from_plain(record.recipe)).metrics
        assert {n: e for n, e in record.metrics.items() if "@" in n} == {n: e for n, e in recorded.items() if "@" in n}
        if not key.endswith("/onnxruntime"):
            assert record.metrics[f"latency_ms@{key}"].tier == "transferred"
    assert late.record("0003").metrics == kept.record("0003").metrics, "a trial that failed has no figures"


def test_objectives_move_to_the_late_device(kept):
    late = kept.on("pixel-7/litert")
    front = late.front("accuracy", "latency_ms@pixel-7")
    assert list(front["latency_ms@pixel-7/litert"]) == sorted(front["latency_ms@pixel-7/litert"], reverse=True)
    assert [n for n, _ in late.objectives()] == [n.partition("@")[0] + "@pixel-7/litert" if "@" in n else n for n in kept.experiment.objectives]
    assert kept.on("raspberry-pi-5").objectives() == kept.objectives()


def test_what_does_not_fit_a_late_device_is_not_on_its_front(kept):
    late = kept.on("pixel-7/litert")
    small = dataclasses.replace(late, memory_bytes={"pixel-7/litert": 1})
    assert len(late.front()) > 0
    assert len(small.front()) == 0


@pytest.fixture
def folder(kept, tmp_path):
    """The same on disk."""
    folder = tmp_path / "digits"
    (folder / "records").mkdir(parents=True)
    (folder / "experiment.yaml").write_text(kept.experiment.to_yaml())
    (folder / "graph.json").write_text((kept.folder / "graph.json").read_text())
    for record in kept.records:
        (folder / "records" / f"{record.id}.json").write_text(dataclasses.replace(record, report={}).to_json())
    return folder


def test_on_the_command_line_with_all_that_a_front_can_do(folder, capsys):
    where = ["--by", "accuracy,latency_ms", "--where", "peak_memory_bytes@pixel-7/litert <= 1GB", "--pick", "min latency_ms@pixel-7/litert"]
    assert main(["front", str(folder), "--device", "pixel-7/litert", *where, "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["metrics"]) == {"accuracy", "latency_ms@pixel-7/litert"}
    assert document["front"][0]["id"] == document["pick"]
    assert document["front"][0]["metrics"]["energy_mj@pixel-7/litert"]["tier"] == "transferred"
    assert main(["front", str(folder), "--device", "pixel-7/litert"]) == 0
    assert "transferred" in capsys.readouterr().out
    assert main(["report", str(folder), "--device", "pixel-7/litert"]) == 0
    assert "latency_ms@pixel-7/litert" in (folder / "report-pixel-7-litert.html").read_text()
    assert not (folder / "report.html").exists()


def test_an_unknown_device_names_those_of_the_study(kept):
    with pytest.raises(UserError, match=r"raspbery-pi-5.*devices of the study: raspberry-pi-5/onnxruntime"):
        kept.on("raspbery-pi-5")


def test_an_older_study_says_why_it_cannot_be_priced(study):
    with pytest.raises(UserError, match="'digits' cannot be priced on jetson-orin-nano/onnxruntime: an older compareto wrote it"):
        study().on("jetson-orin-nano")


def test_it_needs_no_torch(folder):
    code = f"import sys; from search.cli import main; main(['front', {str(folder)!r}, '--device', 'pixel-7/litert']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0
