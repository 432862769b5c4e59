import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from compressors.errors import StorageError, UserError
from evaluators.metric import Estimate
from search.experiment import Experiment
from search.job import Job, new_job
from search.ledger import Ledger
from search.record import TrialRecord


def job(trial: str) -> Job:
    return new_job(trial, [{"prune": {"ratio": 0.5}}], values={"prune.ratio": 0.5})


def ended(trial: str) -> TrialRecord:
    return TrialRecord(trial, [{"prune": {"ratio": 0.5}}], "ok", metrics={"accuracy": Estimate(0.9, 0.88, 0.92)})


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return Experiment.load("quickstart")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "studies" / "mine"


def test_what_was_finished_is_read_back_with_its_report(folder: Path, experiment: Experiment) -> None:
    ledger = Ledger.create(folder, experiment)
    ledger.start(job("0001"))
    ledger.start(job("0002"))
    assert [j["id"] for j in ledger.pending()] == ["0001", "0002"]
    ledger.finish(ended("0002"))
    ledger.publish("0002", {"accuracy": Estimate(0.89, 0.87, 0.91)})
    ledger.close()
    again = Ledger.resume(folder, experiment)
    (record,) = again.records()
    assert (record.id, record.report["accuracy"].value) == ("0002", 0.89)
    assert again.pending() == [job("0001")]
    again.close()


def test_a_record_is_written_once(folder: Path, experiment: Experiment) -> None:
    ledger = Ledger.create(folder, experiment)
    ledger.finish(ended("0001"))
    with pytest.raises(FileExistsError):
        ledger.finish(TrialRecord("0001", [], "diverged", reason="the loss is nan"))
    assert ledger.records()[0].status == "ok"
    ledger.close()


def test_a_second_writer_is_refused_until_the_first_is_done(folder: Path, experiment: Experiment) -> None:
    first = Ledger.create(folder, experiment)
    for again in (Ledger.resume, Ledger.create):
        with pytest.raises(UserError, match=rf"study 'mine' is being written by process {os.getpid()} on .*; wait for it to end"):
            again(folder, experiment)
    first.start(job("0001"))  # the refused ones changed nothing
    assert [j["id"] for j in first.pending()] == ["0001"]
    first.close()
    Ledger.resume(folder, experiment).close()


KILLED = """
import os, signal, sys
from pathlib import Path
from search.experiment import Experiment
from search.ledger import Ledger
from search.record import TrialRecord

ledger = Ledger.create(Path(sys.argv[1]), Experiment.load("quickstart"))
for trial in ("0001", "0002", "0003"):
    ledger.start({"id": trial, "recipe": [], "values": {"x": 1}, "baseline": None, "split": "search"})
ledger.finish(TrialRecord("0002", [], "ok"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_records_and_pending_jobs_survive_a_kill_and_the_lease_does_not(folder: Path, experiment: Experiment) -> None:
    died = subprocess.run([sys.executable, "-W", "ignore", "-c", KILLED, str(folder)], check=False, cwd=Path(__file__).parents[2])
    assert died.returncode == -signal.SIGKILL
    with pytest.raises(UserError, match=r"study 'mine' exists .* --resume"):
        Ledger.create(folder, experiment)
    ledger = Ledger.resume(folder, experiment)
    assert [r.id for r in ledger.records()] == ["0002"]
    assert [j["id"] for j in ledger.pending()] == ["0001", "0003"]
    assert ledger.pending()[0]["values"] == {"x": 1}
    ledger.close()


def test_a_study_without_a_record_does_not_block_its_name(folder: Path, experiment: Experiment) -> None:
    first = Ledger.create(folder, experiment)
    first.start(job("0001"))
    first.close()  # as a search that is interrupted during its first baseline leaves it
    second = Ledger.create(folder, Experiment.load("quickstart", ["search.seed=3"]))
    assert second.pending() == []
    second.close()
    with pytest.raises(UserError, match=r"search\.seed differ"):
        Ledger.resume(folder, experiment)


@pytest.mark.parametrize("name", ["precious.txt", "records/0001.json"])
def test_a_folder_with_anything_of_value_is_neither_taken_over_nor_discarded(folder: Path, experiment: Experiment, name: str) -> None:
    ledger = Ledger.create(folder, experiment)
    (folder / name).write_text("{}")
    ledger.discard()
    assert (folder / name).read_text() == "{}"
    with pytest.raises(UserError, match="study 'mine' exists"):
        Ledger.create(folder, experiment)


def test_a_discarded_start_leaves_nothing(folder: Path, experiment: Experiment) -> None:
    ledger = Ledger.create(folder, experiment)
    ledger.start(job("0001"))
    ledger.discard()
    assert not folder.exists()
    again = Ledger.create(folder, experiment)
    ledger.close()  # closing twice gives nobody else's lease back
    with pytest.raises(UserError, match="being written"):
        Ledger.resume(folder, experiment)
    again.close()


def test_more_trials_or_workers_continue_a_study_anything_else_is_another(folder: Path, experiment: Experiment) -> None:
    Ledger.create(folder, experiment).close()
    Ledger.resume(folder, Experiment.load("quickstart", ["search.trials=96", "search.workers=1", "name=renamed"])).close()
    with pytest.raises(UserError, match=r"study 'mine' is of another experiment: data, objectives, search\.algorithm differ"):
        Ledger.resume(folder, Experiment.load("quickstart", ["data.seed=1", "objectives=[accuracy, macs]", "search.algorithm=random"]))


def test_a_refused_resume_holds_no_lease(folder: Path, experiment: Experiment) -> None:
    Ledger.create(folder, experiment).close()
    with pytest.raises(UserError, match="another experiment"):
        Ledger.resume(folder, Experiment.load("quickstart", ["data.seed=1"]))
    Ledger.resume(folder, experiment).close()


@pytest.mark.parametrize("text", ["{not json", "{}", "[]", json.dumps({**job("0001"), "id": None})[:-9]])
def test_corrupt_files_are_named(folder: Path, experiment: Experiment, text: str) -> None:
    ledger = Ledger.create(folder, experiment)
    (folder / "records" / "0001.json").write_text(text)
    (folder / "pending" / "0002.json").write_text(text)
    with pytest.raises(UserError, match=r"records/0001\.json is not a valid trial record .* delete it"):
        ledger.records()
    with pytest.raises(UserError, match=r"pending/0002\.json is not a job under way .* delete it"):
        ledger.pending()
    ledger.close()


@pytest.mark.parametrize("text", ["", "- a list", "model: {", "search: 5"])
def test_a_corrupt_experiment_is_named(folder: Path, experiment: Experiment, text: str) -> None:
    Ledger.create(folder, experiment).close()
    (folder / "experiment.yaml").write_text(text)
    with pytest.raises(UserError, match=r"experiment\.yaml"):
        Ledger.resume(folder, experiment)


def test_an_unwritable_place_is_one_clear_error(tmp_path: Path, experiment: Experiment) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write the study .*: Not a directory"):
        Ledger.create(tmp_path / "file" / "mine", experiment)


def test_a_record_that_finds_no_space_leaves_the_job_under_way(folder: Path, experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger.create(folder, experiment)
    ledger.start(job("0001"))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"cannot write the study .*mine: No space left on device; .* --resume"):
            ledger.finish(ended("0001"))
    assert [p.name for p in (folder / "records").iterdir()] == []
    assert ledger.pending() == [job("0001")]
    ledger.finish(ended("0001"))
    assert [r.id for r in ledger.records()] == ["0001"]
    ledger.close()


def test_a_study_that_was_moved_goes_on(folder: Path, experiment: Experiment) -> None:
    ledger = Ledger.create(folder, experiment)
    ledger.start(job("0002"))
    ledger.finish(ended("0001"))
    ledger.close()
    moved = folder.parent / "elsewhere" / "renamed"
    moved.parent.mkdir()
    folder.rename(moved)
    again = Ledger.resume(moved, experiment)
    assert ([r.id for r in again.records()], [j["id"] for j in again.pending()]) == (["0001"], ["0002"])
    again.close()


def test_a_study_that_is_half_deleted_says_what_is_missing(folder: Path, experiment: Experiment) -> None:
    ledger = Ledger.create(folder, experiment)
    ledger.finish(ended("0001"))
    ledger.finish(ended("0002"))
    ledger.publish("0002", {"accuracy": Estimate(0.89, 0.87, 0.91)})
    (folder / "records" / "0002.json").unlink()
    with pytest.raises(UserError, match=r"half deleted: records/0002\.json missing, which reports/0002\.json is about; put the records back, or delete these"):
        ledger.records()
    (folder / "reports" / "0002.json").unlink()
    assert [r.id for r in ledger.records()] == ["0001"]
    (folder / "records" / "0001.json").rename(folder / "saved.json")
    (folder / "records").rmdir()
    with pytest.raises(UserError, match=r"half deleted: it has no folder records; put it back"):
        ledger.records()
    (folder / "records").mkdir()
    assert ledger.records() == ()
    ledger.close()
