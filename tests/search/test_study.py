"""A search from the first baseline to the published front, on the quickstart's model with a small budget."""

import json
from pathlib import Path

import pytest

from compressors.errors import UserError
from search.experiment import Experiment
from search.results import Results
from search.study import Study

SMALL = [
    "search.trials=4",
    "fit.epochs=2",
    "search.verify=false",
    "recipe=[{prune: {ratio: {channels: {uniform: [0.1, 0.6]}}}}, {distill: {steps: 8}}, {quantize: {weight_bits: {choice: [4, 8]}}}]",
]

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray and torchao warn about their own internals


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    Study(Experiment.load("quickstart", SMALL), name="small", storage=root).run()
    return root


def test_every_id_has_one_terminal_record_and_nothing_is_pending(folder: Path) -> None:
    study = folder / "small"
    ids = sorted(path.stem for path in (study / "records").glob("*.json"))
    assert ids[:4] == ["0001", "0002", "0003", "0004"]
    assert "baseline-fp32" in ids
    assert not list((study / "pending").iterdir())
    lines = [json.loads(line) for line in (study / "trials.jsonl").read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == ids


def test_the_front_is_published_on_report(folder: Path) -> None:
    results = Results.load("small", folder)
    front = results.front()
    assert len(front) >= 1
    assert front.attrs["split"] == "report"
    assert all(record.report for record in results.records if record.baseline and record.status == "ok")
    assert (folder / "small" / "front.csv").read_text().count("\n") >= 2
    assert "<script" in (folder / "small" / "report.html").read_text()


def test_a_resume_with_a_larger_budget_computes_nothing_twice(folder: Path) -> None:
    before = {r.id: r for r in Results.load("small", folder).records}
    Study(Experiment.load("quickstart", [*SMALL, "search.trials=5"]), name="small", storage=folder, resume=True).run()
    after = {r.id: r for r in Results.load("small", folder).records}
    assert set(after) - set(before) == {"0005"}
    assert all(after[trial].stages == record.stages for trial, record in before.items())
    computed = [s.key for r in after.values() for s in r.stages if not s.cached and not s.name.startswith("score")]
    assert len(computed) == len(set(computed))


def test_a_finished_study_is_verified_by_resuming_it_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Results.load("small", folder).verified == {}
    verifying = Experiment.load("quickstart", [*SMALL, "search.trials=5", "search.verify=true"])
    results = Study(verifying, name="small", storage=folder, resume=True).run()
    front = results.front_records()
    assert {r.id for r in front} <= set(results.verified)
    assert {results.verified[r.id].verdict for r in front} == {"kept"}
    out, err = capsys.readouterr()
    assert f"artifacts of the front in onnxruntime: {len(front)} kept" in out
    assert f"verifying {len(front)} points" in err
    assert "kept" in (folder / "small" / "front.csv").read_text()
    Study(verifying, name="small", storage=folder, resume=True).run()
    assert "verifying" not in capsys.readouterr().err
    assert Results.load("small", folder).verified == results.verified


def test_artifacts_are_not_kept_without_a_verification(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--keep-artifacts: .* search\.verify: false"):
        Study(Experiment.load("quickstart", SMALL), storage=tmp_path, keep_artifacts=True)


def test_a_study_that_exists_is_not_overwritten(folder: Path) -> None:
    with pytest.raises(UserError, match=r"study 'small' exists .* --resume"):
        Study(Experiment.load("quickstart", SMALL), name="small", storage=folder).run()


def test_another_experiments_study_is_not_resumed(folder: Path) -> None:
    with pytest.raises(UserError, match="is of another experiment: objectives differ"):
        Study(Experiment.load("quickstart", [*SMALL, "objectives=[accuracy, size_bytes]"]), name="small", storage=folder, resume=True).run()


def test_a_study_that_is_not_there_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no study 'none'"):
        Study(Experiment.load("quickstart", SMALL), name="none", storage=tmp_path, resume=True).run()


def test_a_corrupt_record_is_named_and_kept(folder: Path) -> None:
    path = folder / "small" / "records" / "0001.json"
    text = path.read_text()
    path.write_text(text[:-30])
    try:
        with pytest.raises(UserError, match=r"0001\.json is not a valid trial record"):
            Study(Experiment.load("quickstart", [*SMALL, "search.trials=5"]), name="small", storage=folder, resume=True).run()
        assert path.read_text() == text[:-30]
    finally:
        path.write_text(text)


def test_an_unwritable_storage_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the study"):
        Study(Experiment.load("quickstart", SMALL), name="x", storage=tmp_path / "file").run()
