import json
import shutil
from importlib.resources import files

import pytest

from compressors.errors import UserError
from evaluators.devices import device_named
from evaluators.devices.names import parse_device
from search.anchoring import read_anchor
from search.cli import main

DEVICE = "raspberry-pi-5/onnxruntime:1t"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPARETO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def copied(artifact, tmp_path):
    """An artifact with what its bench.py printed on a device, and a function that changes what was printed."""
    folder = tmp_path / "knee"
    shutil.copytree(artifact, folder)
    model = json.loads((folder / "checksums.json").read_text())["files"]["model.onnx"]

    def printed(**changes):
        document = {"model": "model.onnx", "sha256": model, "runtime": "onnxruntime 1.31.1", "threads": 1, "batch": 1, "latency_ms": {"median": 0.5}}
        (folder / "bench.json").write_text(json.dumps({**document, **changes}))
        return folder

    printed()
    return printed


def test_what_bench_printed_is_an_anchor_wherever_it_lies(copied, tmp_path):
    folder = copied()
    elsewhere = tmp_path / "from_the_phone.json"
    shutil.copy(folder / "bench.json", elsewhere)
    found = [read_anchor(text, parse_device(DEVICE)) for text in (str(folder / "bench.json"), f"{folder}={elsewhere}", f"{folder}=0.5", f"{folder}=0.5ms")]
    assert {anchor.latency_ms for anchor in found} == {0.5}
    assert {(anchor.graph, anchor.candidate, anchor.watts) for anchor in found} == {(found[0].graph, found[0].candidate, None)}
    assert [anchor.source for anchor in found] == [str(folder / "bench.json"), str(elsewhere), "the command line", "the command line"]
    assert read_anchor(f"{folder}=0.5ms,2.5W", parse_device(DEVICE)).watts == 2.5
    assert read_anchor(f"{folder}={elsewhere},2.5W", parse_device(DEVICE)).watts == 2.5


def test_an_anchor_changes_what_the_trials_of_its_study_are_priced_at(copied, trained, capsys):
    folder = copied()
    promised = json.loads((folder / "metrics.json").read_text())["metrics"]["latency_ms@raspberry-pi-5/onnxruntime"]["value"]
    anchor = read_anchor(f"{folder}=0.5", parse_device(DEVICE))
    assert main(["devices", "calibrate", "raspberry-pi-5/onnxruntime", "--anchor", f"{folder}={5 * promised}ms,3W"]) == 0
    assert f"{5 * promised:g} ms, 3 W (from the command line; graph {anchor.graph})" in capsys.readouterr().out
    from search.loading import load_experiment

    graph = load_experiment(trained.experiment).graph
    assert graph.fingerprint == anchor.graph
    shapes = anchor.candidate.shapes()
    after = device_named("raspberry-pi-5/onnxruntime").cost(graph, shapes)["latency_ms"]
    assert after.value[0] == pytest.approx(5 * promised, rel=0.25)
    assert main(["devices", "show", "raspberry-pi-5"]) == 0
    assert "anchor of raspberry-pi-5.cpu/onnxruntime:4t: " in capsys.readouterr().out
    assert main(["devices", "calibrate", "raspberry-pi-5/onnxruntime", "--forget"]) == 0
    assert device_named("raspberry-pi-5/onnxruntime").cost(graph, shapes)["latency_ms"].value[0] == pytest.approx(promised, rel=1e-6)


def test_an_experiment_stands_for_its_uncompressed_model(copied):
    experiment = files("search") / "quickstart" / "quickstart.yaml"
    whole, compressed = (read_anchor(f"{model}=0.9", parse_device(DEVICE)) for model in (experiment, copied()))
    assert whole.graph == compressed.graph
    assert whole.candidate != compressed.candidate
    assert (whole.model, compressed.model.split()[-1]) == ("quickstart, uncompressed", "0001")


@pytest.mark.parametrize(
    ("changes", "device", "said"),
    [
        ({"sha256": "0" * 64}, DEVICE, "is about another model (model.onnx, sha256 000000000000)"),
        ({"runtime": "litert 2.1"}, DEVICE, "was measured in litert, the device was named with onnxruntime"),
        ({"threads": 2}, DEVICE, "was measured with 2, raspberry-pi-5/onnxruntime:1t means 1; accepted: raspberry-pi-5/onnxruntime:2t"),
        ({"threads": 0}, DEVICE, "was measured with as many threads as the runtime chose"),
        ({}, "raspberry-pi-5/onnxruntime", "was measured with 1, raspberry-pi-5/onnxruntime means 4"),
        ({"batch": 8}, DEVICE, "was measured with batches of 8, the workload has 1; run bench.py --batch 1"),
        ({"latency_ms": 3}, DEVICE, "is not what bench.py printed"),
        ({}, "raspberry-pi-5/litert:1t", "the artifact is for onnxruntime, the device was named with litert"),
    ],
)
def test_a_measurement_that_does_not_belong_is_refused(copied, changes, device, said):
    with pytest.raises(UserError) as error:
        read_anchor(f"{copied(**changes)}/bench.json", parse_device(device))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ("=0.000012", "GMAC/s, more than the"),
        ("=12s", "'12s' is no latency; accepted: milliseconds such as 12.3 or"),
        ("=-3", "'-3' is no latency"),
        ("=0", "a latency of 0 is not positive"),
        ("=0.5,0W", "a power of 0 is not positive"),
        ("=gone.json", "gone.json cannot be read: No such file"),
        ("", "is not of a form that is accepted: ARTIFACT=12.3ms"),
    ],
)
def test_figures_that_cannot_be_right_are_refused(copied, figures, said):
    with pytest.raises(UserError) as error:
        read_anchor(f"{copied()}{figures}", parse_device(DEVICE))
    assert said in str(error.value)


def test_a_folder_that_is_no_artifact_or_was_changed_is_refused(copied, tmp_path):
    with pytest.raises(UserError, match="no artifact"):
        read_anchor(f"{tmp_path / 'nowhere'}=3", parse_device(DEVICE))
    stray = tmp_path / "stray.json"
    stray.write_text("{}")
    with pytest.raises(UserError, match="lies in no artifact folder, so that its model is not known; write ARTIFACT="):
        read_anchor(str(stray), parse_device(DEVICE))
    folder = copied()
    (folder / "recipe.yaml").write_text("")
    with pytest.raises(UserError, match=r"recipe.yaml has changed since the export"):
        read_anchor(f"{folder}=3", parse_device(DEVICE))
