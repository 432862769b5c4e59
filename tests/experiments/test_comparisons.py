"""The classic comparisons: their pages, and that each runs where nothing is needed."""

import json

import pytest

from experiments.comparisons import __main__ as command
from experiments.comparisons.columns import knee
from experiments.comparisons.comparison import RESULTS, Column, Comparison, Curve
from experiments.comparisons.laboratory import Row
from experiments.comparisons.overview import write_overview
from experiments.comparisons.subjects import SUBJECTS

ALL = [command.comparison(name) for name in command.NAMES]


def test_a_page_has_the_figures_the_findings_and_where_they_come_from(tmp_path):
    columns = (Column("quality", "QUALITY on report", ".3f"), Column("size_bytes", "bytes", ",.0f"), Column("latency_ms", "ms", ".2f"))
    asked = Comparison("sizes", "Sizes", "How small?", ("digits",), columns, Curve("size_bytes", "quality"), lambda _: None)
    rows = [
        {"label": "whole", "values": {"quality": 0.98, "size_bytes": 66000.0}, "note": ""},
        {"label": "half", "values": {}, "note": "no layer has a half"},
    ]
    data = {"rows": rows, "findings": ["It is not."], "groups": {}, "quality": "accuracy", "provenance": {"seeds": 3}}
    (tmp_path / "data").mkdir()
    (tmp_path / "data/sizes-digits.json").write_text(json.dumps(data))
    page = asked.page(tmp_path).read_text()
    assert "| | accuracy on report | bytes |\n" in page, "a column without any figure is left out"
    assert "| whole | 0.980 | 66,000 |" in page
    assert "| half |  |  | no layer has a half" in page
    assert "- It is not." in page
    assert "seeds: 3." in page
    assert (tmp_path / "sizes-digits.svg").read_text().startswith("<?xml")


def test_the_overview_has_the_fastest_row_that_loses_little(tmp_path):
    def row(label, quality, ratio):
        return {"label": label, "values": {"quality": quality, "latency_ratio": ratio, "macs": 50.0, "size_bytes": 10.0}, "note": ""}

    def kept(name, rows, quality="accuracy", direction="max"):
        data = {"rows": rows, "findings": [f"Of {name}."], "groups": {}, "quality": quality, "direction": direction, "provenance": {}}
        (tmp_path / f"data/{name}-digits.json").write_text(json.dumps(data))
        return Comparison(name, name.title(), "", ("digits",), (), Curve("macs", "quality"), lambda _: None, technique=name != "sizes")

    (tmp_path / "data").mkdir()
    (tmp_path / "early_exit.md").write_text("# Fixed against early exit\n")
    whole = row("whole", 0.98, 1.0)
    made = [
        kept("pruning", [whole, row("10 %", 0.98, 0.9), row("50 %", 0.975, 0.6), row("90 %", 0.9, 0.1)]),
        kept("sparse", [whole, row("10 %", 0.98, 0.96), row("50 %", 0.98, 1.3)]),
        kept("bits", [row("float", 6.5, 1.0), row("8", 6.55, 0.5), row("2", 500.0, 0.1)], "perplexity", "min"),
        kept("broken", [whole, row("10 %", 0.5, 0.1)]),
        kept("sizes", [whole, row("small", 0.98, 0.5)]),
    ]
    page = write_overview(made, tmp_path).read_text()
    assert "| [Pruning](pruning.md) | digits | 50 % | 1.00 | 1.00 | 0.60 | +0.5 points |" in page
    assert "| [Sparse](sparse.md) | digits | 10 % | 1.00 | 1.00 | 0.96, no faster | +0.0 points |" in page
    assert "| [Bits](bits.md) | digits | 8 | 1.00 | 1.00 | 0.50 | +0.05 |" in page
    assert "- [Broken](broken.md), digits: Of broken." in page, "none of its rows loses so little"
    assert "- [Sizes](sizes.md), digits: Of sizes." in page
    assert "- [Fixed against early exit](early_exit.md)" in page


def test_the_overview_in_the_repository_is_of_the_figures_that_are_kept(tmp_path):
    for path in [*RESULTS.glob("*.md"), *RESULTS.glob("data/*.json")]:
        copy = tmp_path / path.relative_to(RESULTS)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(path.read_text())
    assert write_overview(ALL, tmp_path).read_text() == (RESULTS / "README.md").read_text()


def test_the_knee_is_farthest_from_the_straight_line():
    rows = [Row(str(x), {"macs": x, "quality": y}) for x, y in ((10.0, 0.98), (6.0, 0.97), (3.0, 0.95), (1.0, 0.5))]
    assert knee(rows, "macs", "quality").label == "3.0"


@pytest.mark.parametrize("comparison", ALL, ids=lambda c: c.name)
def test_every_comparison_is_named_as_its_file_and_knows_its_subjects(comparison):
    assert comparison.name in command.NAMES
    assert set(comparison.subjects) <= set(SUBJECTS)


def test_an_unknown_subject_is_one_clear_error(capsys):
    with pytest.raises(SystemExit) as exit_:
        command.main(["pruning_ratio", "--subject", "gpt"])
    assert exit_.value.code == 2
    assert "--subject 'gpt' is not accepted; accepted: resnet20, digits" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(RESULTS.glob("data/*.json")), ids=lambda p: p.stem)
def test_pages_in_the_repository_say_what_was_measured(path):
    name = path.stem.rpartition("-")[0]
    page = (RESULTS / f"{name}.md").read_text()
    for finding in json.loads(path.read_text())["findings"]:
        assert f"- {finding}" in page


@pytest.mark.slow
@pytest.mark.parametrize("name", [c.name for c in ALL if "digits" in c.subjects])
def test_every_comparison_runs_on_digits(name, tmp_path):
    assert command.main([name, "--subject", "digits", "--out", str(tmp_path)]) == 0
    data = json.loads((tmp_path / f"data/{name}-digits.json").read_text())
    assert data["findings"]
    assert all(row["values"] for row in data["rows"]) or sum(bool(row["values"]) for row in data["rows"]) >= 4
