import json
import shutil

import numpy as np
import pytest

from search.artifact import write_checksums, write_json
from search.cli import main
from search.verify import verify


@pytest.fixture
def copied(artifact, tmp_path):
    """An artifact to change; ``change`` rewrites a JSON file and the checksums, as an export with other content would have."""
    folder = tmp_path / "artifact"
    shutil.copytree(artifact, folder)

    class Copied:
        path = folder

        def change(self, name, edit):
            data = json.loads((folder / name).read_text())
            edit(data)
            write_json(folder / name, data)
            self.seal()

        def seal(self):
            (folder / "checksums.json").unlink()
            write_checksums(folder)

    return Copied()


@pytest.fixture(autouse=True)
def built_once(plain, monkeypatch):
    """The uncompressed model is the same for all of these artifacts."""
    monkeypatch.setattr("search.verify.uncompressed_file", lambda *_: plain)


def quick(folder):
    report = verify(folder, seconds=0.05, processes=1)
    return report, {c.name: c for c in report.checks}


def test_a_fresh_artifact_keeps_its_promise(artifact):
    report, checks = quick(artifact)
    assert report.passed
    assert checks["accuracy"].found == pytest.approx(checks["accuracy"].promised, abs=0.005)
    assert checks["size_bytes"].found <= 1.02 * checks["size_bytes"].promised
    assert checks["accuracy"].low < checks["accuracy"].found < checks["accuracy"].high
    assert checks["file_bytes"].found == (artifact / "model.onnx").stat().st_size
    assert checks["overhead_bytes"].found == checks["file_bytes"].found - checks["size_bytes"].found > 0
    assert checks["outputs"].kept
    for name in ("latency_ms", "latency_p90_ms", "load_ms", "peak_memory_bytes"):
        assert checks[name].found > 0
        assert checks[f"{name} (uncompressed)"].found > 0
    assert checks["latency_ratio"].low <= checks["latency_ratio"].found <= checks["latency_ratio"].high
    assert report.notes[0].startswith("TensorRT 10.15, by its list of operators, does not accept: QuantizeLinear of UINT8")


def test_what_was_promised_example_by_example_is_compared_in_pairs(copied):
    with np.load(copied.path / "promised.npz") as stored:
        values = {name: stored[name].copy() for name in stored.files}
    values["accuracy"][int(values["accuracy"].argmin())] = 1
    np.savez(copied.path / "promised.npz", allow_pickle=False, **values)
    copied.seal()
    _, checks = quick(copied.path)
    found = checks["accuracy"].difference
    assert found.low < found.value <= -1 / 500 + 0.004, "one example fewer than promised, but for what the runtime rounds otherwise"
    assert found.high - found.low < 0.03 < checks["accuracy"].high - checks["accuracy"].low, "in pairs much is known that two intervals do not show"
    assert "; to this model in torch, on the same 500 examples: " in checks["accuracy"].note
    assert checks["loss"].difference.value == pytest.approx(0.0, abs=0.01)


def test_the_way_from_raw_inputs_is_measured_without_torch(artifact):
    _, checks = quick(artifact)
    assert checks["outputs (raw)"].kept
    assert checks["end_to_end_ms"].found > 0
    assert checks["end_to_end_ms (uncompressed)"].found > 0
    assert checks["end_to_end_ms"].note.startswith("from encoded images to outputs, through load_artifact, without torch")


def test_other_preprocessing_than_at_the_export_is_regressed(copied):
    copied.change("signature.json", lambda s: s["preprocessing"].update(mean=[0.9]))
    report, checks = quick(copied.path)
    assert report.verdict == "regressed"
    assert checks["outputs"].kept
    assert checks["outputs (raw)"].kept is False
    assert report.reasons[0].startswith("outputs (raw): promised 0, found 0.")


def test_a_worse_model_in_its_place_is_regressed(copied, plain):
    (copied.path / "model.onnx").write_bytes(plain.read_bytes())
    copied.seal()
    report, checks = quick(copied.path)
    assert report.verdict == "regressed"
    assert checks["accuracy"].found < 0.3, "weights that were never fitted"
    assert {r.partition(":")[0] for r in report.reasons} >= {"outputs", "size_bytes", "accuracy"}


def test_a_file_that_cannot_be_read_is_corrupt(copied):
    (copied.path / "examples.npz").write_bytes(b"nothing")
    copied.seal()
    report = verify(copied.path)
    assert (report.verdict, report.checks) == ("corrupt", ())
    assert report.reasons[0].startswith("cannot be read: ")


def test_a_runtime_or_provider_that_is_not_there_is_a_mistake_of_the_user(copied, capsys, monkeypatch):
    assert main(["verify", str(copied.path), "--provider", "cuda"]) == 2
    assert "--provider 'cuda' is not in this onnxruntime; present: " in capsys.readouterr().err
    monkeypatch.setattr("search.load_artifact.find_spec", lambda _: None)
    assert main(["verify", str(copied.path)]) == 2
    assert 'onnxruntime, which is not installed: pip install "compareto"' in capsys.readouterr().err


def test_a_changed_file_is_corrupt_and_nothing_of_it_is_run(copied):
    model = copied.path / "model.onnx"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 0xFF
    model.write_bytes(data)
    report = verify(copied.path)
    assert report.verdict == "corrupt"
    assert report.reasons == ("model.onnx has changed since the export",)
    assert not report.passed


def test_a_missing_file_is_corrupt(copied, capsys):
    (copied.path / "examples.npz").unlink()
    assert main(["verify", str(copied.path), "--format", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["reasons"]) == ("corrupt", ["examples.npz is missing"])


def test_a_promise_that_was_too_good_is_regressed_and_says_by_how_much(copied):
    copied.change("metrics.json", lambda d: d["metrics"]["accuracy"].update(value=1.0, low=1.0, high=1.0))
    copied.change("metrics.json", lambda d: d["metrics"]["size_bytes"].update(value=100.0, low=100.0, high=100.0))
    report, checks = quick(copied.path)
    assert report.verdict == "regressed"
    assert checks["accuracy"].kept is False
    assert checks["size_bytes"].kept is False
    assert any(r.startswith("accuracy: promised 1, found 0.") for r in report.reasons)


def test_a_model_file_that_the_runtime_cannot_load_is_regressed(copied):
    (copied.path / "model.onnx").write_bytes(b"not a model")
    copied.seal()
    report = verify(copied.path, seconds=0.0, processes=1)
    assert report.verdict == "regressed"
    assert "cannot run model.onnx" in report.reasons[0]


def test_without_the_experiments_data_what_can_be_checked_is(copied):
    def moved(provenance):
        provenance["experiment"]["data"] = {"files": {"all": "gone.parquet"}}

    copied.change("provenance.json", moved)
    report, checks = quick(copied.path)
    assert report.verdict == "kept"
    assert checks["accuracy"].found is None
    assert "cannot be reached" in checks["accuracy"].note
    assert checks["latency_ratio"].found is None
    assert checks["latency_ms"].found > 0
    assert checks["size_bytes"].kept


def test_other_data_is_not_judged(copied):
    copied.change("provenance.json", lambda p: p["experiment"]["data"].update(seed=5))
    _, checks = quick(copied.path)
    assert checks["accuracy"].found is None
    assert "the experiment's data has changed" in checks["accuracy"].note


@pytest.fixture
def ratio(monkeypatch):
    """The ratio of latencies that will be found."""
    from search import runtime_process

    def fake(value):
        def bench(*args, **kwargs):
            run = runtime_process.bench(*args, **kwargs)
            return {**run, "ratio": value}

        monkeypatch.setattr("search.verifying.speed.bench", bench)
        monkeypatch.setattr("search.verify.verify.__kwdefaults__", {**verify.__kwdefaults__, "seconds": 0.0, "processes": 1})

    return fake


def test_a_model_no_faster_than_the_uncompressed_one_is_no_speed_up_and_says_why(artifact, ratio, capsys):
    ratio(0.97)
    assert main(["verify", str(artifact)]) == 0
    said = capsys.readouterr().out.partition("no speed-up\n")[2].splitlines()
    assert said[0] == "  latency is 0.97x that of the uncompressed model on this machine"
    assert said[1].startswith("  1 of 5 products run in float on what is converted at every run; first head (Gemm)")


def test_promised_is_printed_beside_found_and_the_uncompressed_model(artifact, ratio, capsys):
    ratio(0.5)
    assert main(["verify", str(artifact)]) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.lstrip().startswith("accuracy"))
    assert line.count("%") >= 2
    assert "kept" in line
    latency = next(line for line in out.splitlines() if line.lstrip().startswith("latency_ms"))
    assert latency.count(" ms ") >= 2
    assert out.rstrip().endswith("kept")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "nothing", "no artifact"),
        (lambda p: p, "is not an artifact: it has no checksums.json"),
    ],
)
def test_what_is_not_an_artifact(tmp_path, capsys, make, message):
    assert main(["verify", str(make(tmp_path))]) == 2
    assert message in capsys.readouterr().err


def test_an_artifact_of_a_newer_version(copied, capsys):
    path = copied.path / "checksums.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "artifact_version": 99}))
    assert main(["verify", str(copied.path)]) == 1
    assert "corrupt\n  artifact_version 99; accepted: 1. A newer compareto wrote it" in capsys.readouterr().out


def test_checksums_of_files_outside_are_corrupt(copied):
    path = copied.path / "checksums.json"
    document = json.loads(path.read_text())
    document["files"]["../secret"] = "0" * 64
    path.write_text(json.dumps(document))
    assert verify(copied.path).reasons == ("../secret lies outside of the folder",)
