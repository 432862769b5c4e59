import dataclasses
import io
import json
import math

import pandas as pd
import pytest

from compressors.errors import UserError
from evaluators.metric import Estimate
from search.cli import main
from search.front_formats import front_csv, trials_jsonl, write_exports
from search.record import TrialRecord
from search.verification import Verification

PI, PIXEL = "raspberry-pi-5/onnxruntime", "pixel-7/onnxruntime"


def test_the_front_is_judged_on_the_report_split(study):
    results = study()
    front = results.front("accuracy", "size_bytes")
    assert front["id"].tolist() == ["baseline-fp32", "baseline-int8", "0001", "0002"]
    assert front["accuracy"].tolist() == [0.975, 0.965, 0.94, 0.90]
    assert front.attrs["split"] == "report"


def test_on_the_search_split_the_unpublished_points_count(study):
    front = study((*study().records, dataclasses.replace(study().record("0001"), id="0009", report={}))).front("accuracy", "size_bytes", split="search")
    assert {"0001", "0009"} <= set(front["id"])
    assert front.attrs["split"] == "search"


def test_before_anything_is_published_the_front_says_that_it_is_of_the_search_split(study):
    results = study([dataclasses.replace(r, report={}) for r in study().records])
    for path in (results.folder / "reports").iterdir():
        path.unlink()
    results = type(results).load(results.folder)
    front = results.front()
    assert front.attrs["split"] == "search"
    assert front.loc[front["id"] == "0001", "accuracy"].item() == 0.95


REGRESSED = Verification("regressed", "onnxruntime", "", {"accuracy": 0.62, "size_bytes": 20e3}, ("accuracy: promised 94.0 %, found 62.0 %",))


def test_a_point_that_broke_its_promise_does_not_count(study):
    whole = study()
    broken = dataclasses.replace(whole, verified={"0001": REGRESSED})
    assert [r.id for r in whole.front_records("accuracy", "size_bytes")] == ["baseline-fp32", "baseline-int8", "0001", "0002"]
    assert [r.id for r in broken.front_records("accuracy", "size_bytes")] == ["baseline-fp32", "baseline-int8", "0002"]
    assert broken.hypervolume("accuracy", "size_bytes") < whole.hypervolume("accuracy", "size_bytes")
    assert broken.hypervolume(which="baselines") == whole.hypervolume(which="baselines")
    rows = broken.front(baselines=True).set_index("id")
    assert not rows.loc["0001", "on_front"]
    assert rows.loc["0001", ["accuracy", "accuracy_found"]].tolist() == [0.94, 0.62]
    assert whole.dominated_baselines("0001") == ("prune-50",)
    assert rows.loc["0001", "dominates"] == []


def test_a_demoted_uncompressed_model_is_still_what_others_are_compared_with(study):
    results = dataclasses.replace(study(), verified={"baseline-fp32": REGRESSED})
    assert "baseline-fp32" not in [r.id for r in results.front_records()]
    assert results.summary("0001").startswith("parameters -80 %")


def test_found_stands_beside_promised_in_csv_and_json(study, capsys):
    folder = study().folder
    (folder / "verified").mkdir()
    (folder / "verified" / "0001.json").write_text(REGRESSED.to_json())
    (folder / "verified" / "0002.json").write_text(dataclasses.replace(REGRESSED, verdict="kept", found={"accuracy": 0.9}, reasons=()).to_json())
    assert main(["front", str(folder), "--by", "accuracy,size_bytes", "--format", "json"]) == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)["front"]}
    assert rows["0002"]["verification"] == {"verdict": "kept", "reasons": [], "runtime": "onnxruntime", "found": {"accuracy": 0.9}}
    assert rows["0001"]["verification"]["reasons"] == list(REGRESSED.reasons)
    assert rows["baseline-fp32"]["verification"] is None
    assert main(["front", str(folder), "--format", "csv"]) == 0
    csv = pd.read_csv(io.StringIO(capsys.readouterr().out), dtype={"id": str}).set_index("id")
    assert csv.loc["0001", ["verdict", "reasons", "accuracy_found"]].tolist() == ["regressed", REGRESSED.reasons[0], 0.62]
    assert main(["front", str(folder)]) == 0
    assert "0001 left out: regressed; accuracy: promised 94.0 %, found 62.0 %" in capsys.readouterr().out.replace("\n", " ")


def test_devices_may_be_abbreviated_and_costs_carry_interval_and_tier(study):
    front = study().front("accuracy", "latency_ms@raspberry-pi-5")
    row = front[front["id"] == "0001"].iloc[0]
    assert row[f"latency_ms@{PI}"] == pytest.approx(0.2)
    assert row[f"latency_ms@{PI}_low"] == pytest.approx(0.08)
    assert row[f"latency_ms@{PI}_high"] == pytest.approx(0.5)
    assert row[f"latency_ms@{PI}_tier"] == "spec-only"


def test_the_front_on_another_device(study):
    assert f"latency_ms@{PIXEL}" in study().front(device="pixel-7").columns


def test_a_failed_trial_a_nan_and_a_replicate_are_never_on_the_front(study):
    nan = Estimate(float("nan"), float("nan"), float("nan"))
    good = study().record("0000")
    records = [
        *study().records,
        dataclasses.replace(good, id="0010", metrics={**good.metrics, "size_bytes": Estimate.exact(1)}, report=good.report, replicate=1),
        dataclasses.replace(good, id="0011", metrics={**good.metrics, "size_bytes": Estimate.exact(1)}, status="error", reason="bug"),
    ]
    results = study(records)
    with_nan = dataclasses.replace(results, records=(*results.records, dataclasses.replace(good, id="0012", report={**good.report, "accuracy": nan})))
    assert not {"0005", "0010", "0011", "0012"} & set(with_nan.front()["id"])


def test_a_point_that_breaks_a_constraint_is_not_on_the_front(study):
    # 0004 is the smallest of all, but more than 0.2 below the baseline's accuracy.
    results = study()
    assert "0004" not in results.front("accuracy", "size_bytes")["id"].tolist()
    assert "0004" in study(overrides=["constraints=[]"]).front("accuracy", "size_bytes")["id"].tolist()
    assert not results.trials().set_index("id").loc["0004", "feasible"]


def test_baselines_stand_below_the_front_and_are_marked(study):
    frame = study().front("accuracy", "size_bytes", baselines=True)
    assert frame["id"].tolist()[-1] == "baseline-prune-50"
    assert frame["on_front"].tolist() == [True] * 4 + [False]
    assert frame["baseline"].tolist() == ["fp32", "int8", None, None, "prune-50"]


def test_dominated_baselines(study):
    results = study()
    assert results.dominated_baselines("0001", "accuracy", "size_bytes") == ("prune-50",)
    assert results.dominated_baselines("0002", "accuracy", "size_bytes") == ()


def test_hypervolume_of_the_front_is_at_least_that_of_the_baselines(study):
    results = study()
    front, alone = results.hypervolume("accuracy", "size_bytes"), results.hypervolume("accuracy", "size_bytes", which="baselines")
    assert 0 < alone < front


def test_where_filters_by_the_figures_shown(study):
    results = study()
    assert results.front("accuracy", "size_bytes", where="latency_ms@raspberry-pi-5 <= 0.25")["id"].tolist() == ["0001", "0002"]
    assert results.front("accuracy", "size_bytes", where="accuracy >= baseline - 0.02 and size_bytes <= 50KB")["id"].tolist() == ["baseline-int8"]


def test_pick(study):
    results = study()
    assert results.pick("min size_bytes") == "0002"
    assert results.pick("max accuracy where size_bytes <= 25KB") == "0001"
    assert results.pick("knee") in results.front()["id"].tolist()
    assert results.front()["knee"].sum() == 1
    with pytest.raises(UserError, match=r"no point of the front .* keeps 'min size_bytes where accuracy >= 0.99'"):
        results.pick("min size_bytes where accuracy >= 0.99")


def test_widths_before_and_after(study):
    assert study().widths("0")[["axis", "before", "after"]].to_numpy().tolist() == [["conv1", 16, 9], ["conv2", 32, 12]]


def test_summary_against_the_uncompressed_model(study):
    assert study().summary("0001") == "parameters -80 %, accuracy -3.5 points, latency 0.20x, size -80 %"


def test_trials_hold_what_failed_with_its_reason(study):
    trials = study().trials().set_index("id")
    assert trials.loc["0005", "status"] == "diverged"
    assert trials.loc["0005", "reason"] == "the loss was NaN at step 3"
    assert math.isnan(trials.loc["0005", "accuracy"])
    assert trials.loc["0000", "prune.ratio.channels"] == 0.7
    assert study().statuses() == {"ok": 5, "diverged": 1}


def test_a_study_without_a_finished_trial_is_empty_but_shown(study):
    results = study([])
    assert len(results.front()) == 0
    assert results.summary() == "no point of the front yet"
    assert math.isnan(results.hypervolume())


def test_exported_files(study):
    results = study()
    write_exports(results, results.folder)
    lines = [TrialRecord.from_json(line) for line in (results.folder / "trials.jsonl").read_text().splitlines()]
    assert [r.id for r in lines] == [r.id for r in results.records]
    header, *rows = (results.folder / "front.csv").read_text().splitlines()
    assert header.startswith("id,baseline,on_front,knee,accuracy,accuracy_low,accuracy_high,accuracy_tier,latency_ms@raspberry-pi-5/onnxruntime,")
    assert len(rows) == 5
    assert {p.name for p in results.folder.iterdir()} == {"experiment.yaml", "records", "reports", "trials.jsonl", "front.csv", "report.html"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.front("acuracy"), r"unknown metric 'acuracy'.*did you mean 'accuracy'"),
        (lambda r: r.front("latency_ms@pi-5"), "device 'pi-5' is not listed"),
        (lambda r: r.front(split="test"), "unknown split 'test'; accepted: report, search"),
        (lambda r: r.record("17"), "has no trial '17'; accepted: 0000, 0001"),
        (lambda r: type(r).load("no-such-study", r.folder.parent), "no study 'no-such-study'; accepted: a study's folder, or one of digits"),
        (lambda r: type(r).load(r.folder / "records"), "is not a study"),
    ],
)
def test_mistakes(study, call, message):
    with pytest.raises(UserError, match=message):
        call(study())


def test_a_corrupt_record_is_named(study):
    results = study()
    (results.folder / "records" / "0001.json").write_text('{"id": "0001"')
    with pytest.raises(UserError, match=r"0001\.json is not a valid trial record"):
        type(results).load(results.folder)


def test_a_corrupt_report_is_named(study):
    results = study()
    (results.folder / "reports" / "0001.json").write_text("[]")
    with pytest.raises(UserError, match=r"reports.0001\.json is not a valid report"):
        type(results).load(results.folder)


def test_front_as_table(study, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["front", str(study().folder)]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert "94.0 %" in out
    assert "92.0-96.0" in out
    assert "spec-only" in out
    assert "prune-50" in out
    assert "on the report split" in out


def test_front_as_json(study, capsys):
    assert main(["front", str(study().folder), "--by", "accuracy,size_bytes", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["metrics"] == {"accuracy": "max", "size_bytes": "min"}
    assert document["split"] == "report"
    first = document["front"][2]
    assert first["id"] == "0001"
    assert first["dominates"] == ["prune-50"]
    assert first["metrics"]["size_bytes"] == {"value": 20000.0, "low": 20000.0, "high": 20000.0, "tier": "exact", "unit": "B"}
    assert document["hypervolume"]["front"] > document["hypervolume"]["baselines"]


def test_front_as_csv_and_one_picked(study, capsys):
    assert main(["front", str(study().folder), "--pick", "min size_bytes", "--format", "csv"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert row.startswith("0002,,True")
    assert header.count(",") <= row.count(",")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by", "accurcy"], "unknown metric 'accurcy'"),
        (["--where", "accuracy >"], "accuracy >"),
        (["--pick", "best"], "cannot pick by 'best'; accepted: knee"),
        (["--device", "a1001"], "unknown device 'a1001'"),
    ],
)
def test_mistakes_on_the_command_line(study, capsys, options, message):
    assert main(["front", str(study().folder), *options]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_csv_of_nothing_has_its_header(study):
    assert front_csv(study([]).front()).startswith("id,baseline,on_front,knee,accuracy,")
    assert trials_jsonl([]) == ""


def test_every_field_of_the_formats_is_documented(study):
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    plain = [c for c in study().front().columns if "accuracy" not in c and "@" not in c and "size_bytes" not in c]
    fields = [*plain, *(f.name for f in dataclasses.fields(TrialRecord))]
    assert [f for f in fields if f"`{f}`" not in page] == []
