"""The points of a small study, exported and measured; and what becomes of a point whose artifact computes something else."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from compressors.errors import UnexportableError, UserError
from search.artifact import Artifact, corrupted
from search.artifact_files import write_artifact
from search.cache import Cache
from search.front_verification import FrontVerifier
from search.preparing import prepare
from search.runtime_process import RuntimeProcess

pytestmark = pytest.mark.filterwarnings("ignore")  # torchao warns about its own internals


@pytest.fixture(scope="module")
def prepared(trained):
    return prepare(trained.experiment, Cache(), lambda _: None)


class Study:
    """The front of the trained study, verified with a cache of its own."""

    def __init__(self, trained, prepared, root):
        self.results, self.prepared, self.root = trained, prepared, root

    def verify(self, verified=None, *, artifacts=None, cache="cache"):
        """What was found, whether the front changed, and the lines."""
        found, lines = {}, []
        verifier = FrontVerifier(self.prepared, Cache(self.root / cache), lines.append, artifacts)
        changed = verifier.run(dataclasses.replace(self.results, verified=verified or {}), found.__setitem__)
        verifier.close()
        return found, changed, lines


@pytest.fixture(scope="module")
def kept(trained, prepared, tmp_path_factory):
    """A front that was verified, with its artifacts."""
    study = Study(trained, prepared, tmp_path_factory.mktemp("verified"))
    study.found, study.changed, study.lines = study.verify(artifacts=study.root / "artifacts")
    return study


@pytest.fixture
def study(trained, prepared, tmp_path, kept, monkeypatch):
    """The same with an empty cache; what was exported once is not exported again."""

    def write(source, folder):
        if not (kept.root / "artifacts" / source.record.id).is_dir():
            return write_artifact(source, folder)
        shutil.copytree(kept.root / "artifacts" / source.record.id, folder, dirs_exist_ok=True)
        return folder / "model.onnx"

    monkeypatch.setattr("search.front_verification.write_artifact", write)
    return Study(trained, prepared, tmp_path)


class Shuffled(RuntimeProcess):
    """A runtime that mixes up the classes of trial 0001."""

    def __init__(self, model, *options):
        super().__init__(model, *options)
        self._shift = 3 if json.loads((model.parent / "provenance.json").read_text())["trial"] == "0001" else 0

    def __call__(self, inputs):
        return {name: np.roll(value, self._shift, axis=-1) for name, value in super().__call__(inputs).items()}


@pytest.fixture
def shuffled(monkeypatch):
    monkeypatch.setattr("search.front_verification.RuntimeProcess", Shuffled)


def test_a_front_that_keeps_its_promise(kept):
    front = kept.results.front_records()
    assert len(front) >= 2
    assert set(kept.found) == {r.id for r in front}
    assert not kept.changed
    for record in front:
        found = kept.found[record.id]
        assert found.verdict == "kept", found.reasons
        assert found.found["accuracy"] == pytest.approx(record.report["accuracy"].value, abs=0.005)
        assert found.found["size_bytes"] <= 1.02 * record.metrics["size_bytes"].value
        assert "latency_ms@raspberry-pi-5/onnxruntime" not in found.found, "not at hand"
    assert kept.lines[0] == f"verifying {len(front)} points of the front in onnxruntime"
    assert any("0001: kept: accuracy" in line and "promised" in line for line in kept.lines)


def test_artifacts_that_are_kept_are_whole(kept):
    for record in kept.results.front_records():
        folder = kept.root / "artifacts" / record.id
        assert corrupted(folder) == []
        assert Artifact.load(folder).promised["accuracy"] == record.report["accuracy"]
        assert {"promised.npz", "raw", "bench.py"} <= {p.name for p in folder.iterdir()}


def test_nothing_is_measured_twice(kept, monkeypatch):
    monkeypatch.setattr("search.front_verification.write_artifact", lambda *_: pytest.fail("exported again"))
    assert kept.verify(kept.found) == ({}, False, []), "a resumed study"
    assert kept.verify()[0] == kept.found, "another study of the same experiment"
    assert kept.verify(kept.found, artifacts=kept.root / "artifacts")[0] == {}


def test_artifacts_that_are_wanted_later_are_made_then(kept, study, tmp_path):
    found, _, _ = study.verify(kept.found, artifacts=tmp_path / "artifacts")
    assert found == kept.found
    assert {p.name for p in (tmp_path / "artifacts").iterdir()} == set(found)


@pytest.mark.usefixtures("shuffled")
def test_a_point_whose_artifact_computes_something_else_is_demoted(kept, study, tmp_path):
    found, changed, lines = study.verify(artifacts=tmp_path / "artifacts")
    assert changed
    assert {trial for trial, v in found.items() if v.demoted} == {"0001"}
    assert found["0001"].verdict == "regressed"
    assert found["0001"].reasons[0].startswith("accuracy: promised ")
    assert not (tmp_path / "artifacts" / "0001").exists()
    assert any(line.startswith("0001: regressed; accuracy: promised") for line in lines)
    results = dataclasses.replace(kept.results, verified=found)
    front = {r.id for r in results.front_records()}
    assert "0001" not in front
    row = results.front(baselines=True).set_index("id").loc["0001"]
    assert (row["on_front"], row["verdict"]) == (False, "regressed")
    assert row["accuracy_found"] == found["0001"].found["accuracy"] < row["accuracy"]
    again, changed, _ = study.verify(found)
    assert set(again) == front - set(found), "only what came to the front in its place"
    assert not changed


def test_a_demoted_point_counts_again_where_another_runtime_computes_the_right_thing(kept, study):
    older = dataclasses.replace(kept.found["0001"], verdict="regressed", key="of an older runtime", reasons=("accuracy",))
    found, changed, _ = study.verify({**kept.found, "0001": older})
    assert {trial: v.verdict for trial, v in found.items()}["0001"] == "kept"
    assert not changed


@pytest.mark.parametrize(
    ("error", "verdict", "changed"),
    [
        (UnexportableError("ONNX cannot express the model: aten.fft"), "unexportable", True),
        (UserError("workload: image is of another size"), "unverified", False),
        (OSError(28, "No space left on device"), "unverified", False),
        (RuntimeError("a bug"), "unverified", False),
    ],
)
def test_what_cannot_be_exported_or_measured_says_why(study, monkeypatch, error, verdict, changed):
    def fail(*_):
        raise error

    monkeypatch.setattr("search.front_verification.write_artifact", fail)
    found, demoted, lines = study.verify()
    assert {v.verdict for v in found.values()} == {verdict}
    assert demoted is changed
    assert all(str(error) in v.reasons[0] for v in found.values())
    assert str(error) in lines[1]


def test_what_could_not_be_measured_is_tried_again(kept, study):
    unknown = {trial: dataclasses.replace(v, verdict="unverified", reasons=("No space left on device",)) for trial, v in kept.found.items()}
    assert {v.verdict for v in study.verify(unknown)[0].values()} == {"kept"}
