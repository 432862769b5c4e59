import json
import shutil

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


def quick(folder):
    report = verify(folder, seconds=0.05, processes=1)
    return report, {c.name: c for c in report.checks}


def test_a_fresh_artifact_keeps_its_promise(artifact):
    report, checks = quick(artifact)
    assert report.passed
    assert checks["accuracy"].found == pytest.approx(checks["accuracy"].promised, abs=0.005)
    assert checks["size_bytes"].found <= 1.02 * checks["size_bytes"].promised
    assert checks["file_bytes"].found == (artifact / "model.onnx").stat().st_size
    assert checks["latency_ratio"].found > 0
    assert checks["outputs"].kept


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


def test_a_model_no_faster_than_the_uncompressed_one_is_no_speed_up(copied, monkeypatch, capsys):
    monkeypatch.setattr("search.verify._bench", faked(ratio=1.2))
    assert main(["verify", str(copied.path)]) == 0
    out = capsys.readouterr().out
    assert "no speed-up\n  latency is 1.20x that of the uncompressed model" in out


def faked(ratio):
    def bench(artifact, *options, seconds=0.0, threads=1):
        times = {"median": ratio, "min": ratio, "p90": ratio, "runs": 1}
        outputs = {"examples": 8, "relative_difference": 0.0, "same_best_class": 1.0}
        return {"batch": 1, "latency_ms": times, "against": {"latency_ms": {**times, "median": 1.0}}, "ratio": ratio, "outputs": outputs}

    return bench


def test_promised_is_printed_beside_found(artifact, monkeypatch, capsys):
    monkeypatch.setattr("search.verify._bench", faked(ratio=0.5))
    assert main(["verify", str(artifact)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.lstrip().startswith("accuracy"))
    assert line.count("%") == 2
    assert "kept" in line


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
