import json
import shutil
import time
from pathlib import Path

import pytest

from compressors.errors import StorageError, UserError
from evaluators.metric import Estimate
from search import mirror as mirroring
from search.cluster import connected
from search.experiment import Experiment
from search.job import Job, new_job
from search.ledger import Ledger
from search.mirror import Mirror
from search.record import TrialRecord
from search.results import Results
from search.study import Study
from search.study_files import find_study


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirroring, "_SETTLE_S", 0.0)


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return Experiment.load("quickstart")


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A study in an object store that is a folder behind the doors."""
    machine(monkeypatch, tmp_path, "first")
    return f"local://{tmp_path}/bucket/studies/mine"


def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """From here on, on a machine with a disk of its own."""
    monkeypatch.setenv("HOME", str(tmp_path / name))


def opened(uri: str, experiment: Experiment, *, resume: bool = False) -> Ledger:
    mirror = Mirror(uri)
    return (Ledger.resume if resume else Ledger.create)(mirror.folder, experiment, mirror)


def job(trial: str) -> Job:
    return new_job(trial, [])


def ended(trial: str) -> TrialRecord:
    return TrialRecord(trial, [], "ok", metrics={"accuracy": Estimate(0.9, 0.88, 0.92)})


def objects(tmp_path: Path) -> list[str]:
    root = tmp_path / "bucket" / "studies" / "mine"
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def lose(ledger: Ledger) -> None:
    """As if the driver's machine had stopped: its lease stays, its lock does not."""
    mirror = ledger._mirror
    assert mirror is not None
    mirror._stop()
    mirror._held.close()
    ledger._held.close()


def heard(tmp_path: Path, seconds_ago: float) -> None:
    path = tmp_path / "bucket" / "studies" / "mine" / "lease.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "beat": time.time() - seconds_ago}))


def test_every_file_is_there_as_soon_as_it_is_written(uri: str, tmp_path: Path, experiment: Experiment) -> None:
    ledger = opened(uri, experiment)
    ledger.start(job("0001"))
    ledger.start(job("0002"))
    assert objects(tmp_path) == ["experiment.yaml", "lease.json", "pending/0001.json", "pending/0002.json"]
    ledger.finish(ended("0001"))
    assert objects(tmp_path) == ["experiment.yaml", "lease.json", "pending/0002.json", "records/0001.json"]
    (ledger.folder / "front.csv").write_text("id")
    (ledger.folder / "artifacts" / "0001").mkdir(parents=True)
    (ledger.folder / "artifacts" / "0001" / "model.onnx").write_bytes(b"model")
    ledger.close()
    assert {"front.csv", "artifacts/0001/model.onnx"} <= set(objects(tmp_path))


def test_another_machine_goes_on_where_a_lost_one_stopped(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: Experiment) -> None:
    first = opened(uri, experiment)
    first.start(job("0001"))
    first.start(job("0002"))
    first.finish(ended("0002"))
    first.publish("0002", {"accuracy": Estimate(0.89, 0.87, 0.91)})
    lose(first)
    machine(monkeypatch, tmp_path, "second")
    with pytest.raises(UserError, match=r"study 'mine' is being written by process \d+ on .*, heard .* ago; .*not heard for 2 minutes"):
        opened(uri, experiment, resume=True)
    heard(tmp_path, mirroring.STALE_S + 1)
    second = opened(uri, experiment, resume=True)
    (record,) = second.records()
    assert (record.id, record.report["accuracy"].value) == ("0002", 0.89)
    assert [j["id"] for j in second.pending()] == ["0001"]
    second.finish(ended("0001"))
    second.close()
    machine(monkeypatch, tmp_path, "first")
    again = opened(uri, experiment, resume=True)
    assert [r.id for r in again.records()] == ["0001", "0002"], "what the other machine has done is here too"
    again.close()


def test_a_writer_that_was_replaced_writes_nothing_more(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: Experiment) -> None:
    asleep = opened(uri, experiment)
    heard(tmp_path, mirroring.STALE_S + 1)
    machine(monkeypatch, tmp_path, "second")
    opened(uri, experiment, resume=True).close()
    monkeypatch.setattr(mirroring, "_BEAT_S", 0.0)  # as it is when it wakes up
    with pytest.raises(StorageError, match="was taken over by process"):
        asleep.finish(ended("0001"))
    asleep.close()
    assert "records/0001.json" not in objects(tmp_path)


def test_a_living_writer_is_heard(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: Experiment) -> None:
    monkeypatch.setattr(mirroring, "_BEAT_S", 0.02)
    ledger = opened(uri, experiment)
    heard(tmp_path, 1000)
    path = tmp_path / "bucket" / "studies" / "mine" / "lease.json"
    until = time.monotonic() + 20
    while time.monotonic() < until and (not path.stat().st_size or time.time() - json.loads(path.read_text() or '{"beat": 0}')["beat"] > 500):
        time.sleep(0.02)
    assert time.time() - json.loads(path.read_text())["beat"] < 500
    ledger.close()
    assert json.loads(path.read_text())["closed"] is True


def test_on_the_same_machine_a_writer_that_died_is_replaced_at_once(uri: str, tmp_path: Path, experiment: Experiment) -> None:
    first = opened(uri, experiment)
    with pytest.raises(UserError, match="being written by another process of this machine"):
        opened(uri, experiment, resume=True)
    first.finish(ended("0001"))
    (first.folder / "records" / "0002.json").write_text(ended("0002").to_json())  # died before it was written through
    lose(first)
    second = opened(uri, experiment, resume=True)
    assert [r.id for r in second.records()] == ["0001", "0002"]
    assert "records/0002.json" in objects(tmp_path)
    second.close()


def test_a_name_is_taken_wherever_its_study_was_made(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: Experiment) -> None:
    first = opened(uri, experiment)
    first.finish(ended("0001"))
    first.close()
    machine(monkeypatch, tmp_path, "second")
    with pytest.raises(UserError, match=r"study 'mine' exists .* --resume"):
        opened(uri, experiment)
    with pytest.raises(UserError, match="of another experiment: data differ"):
        opened(uri, Experiment.load("quickstart", ["data.seed=1"]), resume=True)
    opened(uri, experiment, resume=True).close()
    with pytest.raises(UserError, match="no study 'other'"):
        opened(uri.replace("mine", "other"), experiment, resume=True)


def test_a_start_that_failed_leaves_nothing(uri: str, tmp_path: Path, experiment: Experiment) -> None:
    ledger = opened(uri, experiment)
    ledger.start(job("0001"))
    ledger.discard()
    assert objects(tmp_path) == []
    opened(uri, experiment).close()


def test_a_store_that_does_not_answer_leaves_the_job_under_way(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: Experiment) -> None:
    ledger = opened(uri, experiment)
    ledger.start(job("0001"))

    def unreachable(self: object, path: str, content: bytes) -> None:
        raise TimeoutError("timed out")

    with monkeypatch.context() as patch:
        patch.setattr("fsspec.implementations.local.LocalFileSystem.pipe_file", unreachable)
        with pytest.raises(StorageError, match=r"cannot write the study local://.*mine: timed out"):
            ledger.finish(ended("0001"))
    lose(ledger)
    again = opened(uri, experiment, resume=True)
    assert [r.id for r in again.records()] == ["0001"], "it has ended, and is written through now"
    assert "records/0001.json" in objects(tmp_path)
    again.close()


def test_a_study_is_read_by_its_uri_also_while_it_is_written(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: Experiment) -> None:
    ledger = opened(uri, experiment)
    ledger.finish(ended("0001"))
    machine(monkeypatch, tmp_path, "reader")
    assert [r.id for r in Results.load(uri).records] == ["0001"]
    assert Results.load(uri).name == "mine"
    ledger.finish(ended("0002"))
    assert [r.id for r in Results.load("mine", uri.removesuffix("/mine")).records] == ["0001", "0002"]
    ledger.close()
    shutil.rmtree(tmp_path / "bucket")
    with pytest.raises(UserError, match=r"no study 'local://.*': it has no experiment\.yaml"):
        Results.load(uri)


def test_objects_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: Experiment) -> None:
    machine(monkeypatch, tmp_path, "first")
    ledger = opened("memory://bucket/mine", experiment)
    ledger.start(job("0001"))
    ledger.finish(ended("0001"))
    ledger.close()
    machine(monkeypatch, tmp_path, "second")
    ledger = opened("memory://bucket/mine", experiment, resume=True)
    assert [r.id for r in ledger.records()] == ["0001"]
    ledger.close()
    assert find_study("memory://bucket/mine").name == "mine"


@pytest.mark.parametrize("storage", ["gs://bucket/studies", "s3:/bucket"])
def test_a_storage_that_cannot_be_opened(storage: str, experiment: Experiment) -> None:
    with pytest.raises(UserError, match=r"pip install gcsfs|did you mean 's3://bucket'"):
        Study(experiment, name="mine", storage=storage)


def test_a_file_uri_is_a_folder(tmp_path: Path, experiment: Experiment) -> None:
    study = Study(experiment, name="mine", storage=f"file://{tmp_path}/studies")
    assert study.folder == tmp_path / "studies" / "mine"
    Ledger.create(study.folder, experiment).close()
    assert find_study(f"file://{tmp_path}/studies/mine") == study.folder
    assert [path.name for path in tmp_path.iterdir()] == ["studies"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray and torchao warn about their own internals
def test_a_search_in_an_object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    machine(monkeypatch, tmp_path, "first")
    recipe = "recipe=[{prune: {ratio: {channels: {uniform: [0.1, 0.6]}}}}, {distill: {steps: 4}}]"
    settings = ["data.max_samples=300", "fit.epochs=1", "search.algorithm=random", "search.rungs=[]", "search.replicates=0", "search.verify=false", recipe]
    storage, cache = f"local://{tmp_path}/bucket/studies", f"local://{tmp_path}/bucket/cache"
    small, larger = (Experiment.load("quickstart", [*settings, f"search.trials={trials}", "search.workers=1"]) for trials in (2, 3))
    with connected(None):  # one Ray for all: it keeps a token in the home of whoever starts it
        first = Study(small, name="mine", storage=storage, cache=cache).run()
        assert {"front.csv", "trials.jsonl", "report.html", "graph.json", "records/0002.json", "reports/baseline-fp32.json"} <= set(objects(tmp_path))
        assert f"see: compareto front {storage}/mine" in capsys.readouterr().out
        machine(monkeypatch, tmp_path, "second")
        second = Study(larger, name="mine", storage=storage, cache=cache, resume=True).run()
        Study(larger, name="again", storage=storage, cache=cache).run()
    assert {r.id: r.metrics for r in first.records}.items() <= {r.id: r.metrics for r in second.records}.items()
    assert [r.id for r in Results.load("mine", storage).records if r.baseline is None] == ["0001", "0002", "0003"]
    computed = [s.name for r in Results.load("again", storage).records for s in r.stages if not s.cached]
    assert computed == [], "all of it was found in the cache of the object store"
