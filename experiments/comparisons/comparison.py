"""A comparison of the field's classic kind: what it asks, what it measures, and the page that it writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.comparisons.laboratory import Laboratory, Row
from experiments.comparisons.subjects import SUBJECTS

__all__ = ["Column", "Comparison", "Curve", "Measured"]

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        key: of ``Row.values``.
        title: with its unit.
        form: of ``format``, such as ``.1%``.
    """

    key: str
    title: str
    form: str


@dataclass(frozen=True)
class Curve:
    """The plot: columns of the two axes."""

    x: str
    y: str


@dataclass(frozen=True)
class Measured:
    """What came of a comparison on one subject.

    Attributes:
        rows: of the table.
        findings: sentences that the figures say, one each.
        groups: labels of rows that one line of the plot joins, by its name; where it is empty, points are not joined.
    """

    rows: Sequence[Row]
    findings: Sequence[str]
    groups: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Comparison:
    """One of them.

    Attributes:
        name: of its page.
        title: of it.
        question: what it answers, a sentence or two.
        subjects: names of the models that it can be run on, see ``subjects``; the first is the default.
        columns: of the table.
        curve: of the plot.
        run: measures one subject.
        logarithmic: axes of the plot, of ``x`` and ``y``.
        technique: whether rows are a technique applied to the first one's model.
    """

    name: str
    title: str
    question: str
    subjects: Sequence[str]
    columns: Sequence[Column]
    curve: Curve
    run: Callable[[Laboratory], Measured]
    logarithmic: Sequence[str] = ()
    technique: bool = True

    def measure(self, subject: str, folder: Path = RESULTS) -> Path:
        """Run it, keep its figures and write its page; the page's path."""
        laboratory = SUBJECTS[subject]()
        measured = self.run(laboratory)
        data = {"rows": [asdict(row) for row in measured.rows], "findings": list(measured.findings), "groups": {k: list(v) for k, v in measured.groups.items()}}
        place = folder / "data" / f"{self.name}-{subject}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        quality = {"quality": laboratory.quality.name, "direction": laboratory.quality.direction}
        place.write_text(json.dumps({**data, **quality, "provenance": laboratory.provenance}, indent=1, sort_keys=True) + "\n")
        return self.page(folder)

    def page(self, folder: Path = RESULTS) -> Path:
        """The page of all subjects whose figures are kept."""
        parts = [f"# {self.title}", "", self.question, ""]
        for subject in self.subjects:
            place = folder / "data" / f"{self.name}-{subject}.json"
            if place.is_file():
                data = json.loads(place.read_text())
                picture = f"{self.name}-{subject}.svg"
                self._plot(data, subject, folder / picture)
                parts += [f"## {subject}", "", *self._table(data), "", *(f"- {finding}" for finding in data["findings"])]
                parts += ["", f"![{self.title}]({picture})", "", f"`python -m experiments.comparisons {self.name} --subject {subject}`", ""]
                parts += ["; ".join(f"{key}: {_plain(value)}" for key, value in data["provenance"].items()) + ".", ""]
        path = folder / f"{self.name}.md"
        path.write_text("\n".join(parts))
        return path

    def _table(self, data: Mapping[str, Any]) -> list[str]:
        columns = [c for c in self.columns if any(row["values"].get(c.key) is not None for row in data["rows"])]
        lines = ["| | " + " | ".join(c.title.replace("QUALITY", data["quality"]) for c in columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for row in data["rows"]:
            cells = ["" if row["values"].get(c.key) is None else format(row["values"][c.key], c.form) for c in columns]
            lines.append(f"| {row['label']} | " + " | ".join(cells) + f" |{' ' + row['note'] if row['note'] else ''}")
        return lines

    def _plot(self, data: Mapping[str, Any], subject: str, path: Path) -> None:
        import matplotlib as mpl

        mpl.use("Agg")
        mpl.rcParams |= {"svg.hashsalt": "compareto", "svg.fonttype": "none"}
        from matplotlib import pyplot as plt

        titles = {c.key: c.title.replace("QUALITY", data["quality"]) for c in self.columns}
        rows = {row["label"]: row["values"] for row in data["rows"]}
        figure, axes = plt.subplots(figsize=(6.4, 4))
        for name, labels in (data["groups"] or {"": list(rows)}).items():
            points = [rows[label] for label in labels if all(rows[label].get(key) is not None for key in (self.curve.x, self.curve.y))]
            axes.plot(
                [p[self.curve.x] for p in points],
                [p[self.curve.y] for p in points],
                marker="o",
                label=name or None,
                linewidth=1.2,
                markersize=4,
                linestyle="-" if data["groups"] else "",
            )
        axes.set(xlabel=titles.get(self.curve.x, self.curve.x), ylabel=titles.get(self.curve.y, self.curve.y), title=subject)
        for axis in self.logarithmic:
            axes.set(**{f"{axis}scale": "log"})
        axes.grid(alpha=0.3)
        if data["groups"]:
            axes.legend(frameon=False, fontsize=8)
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
