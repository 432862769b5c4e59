"""The first page of the results: what each technique is worth at a glance, from the figures that comparisons have kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.comparisons.columns import change, lost
from experiments.comparisons.comparison import Comparison
from experiments.comparisons.laboratory import Row

__all__ = ["write_overview"]

_TOLERATED = {"accuracy": 0.01, "perplexity": 0.1}
"""What may be lost, in the metric's own unit."""
_FASTER = 0.9
"""Files that are equal but for their weights differ by up to a tenth."""
_HEAD = """# What is each technique worth?

Of each comparison the fastest row that loses at most one point of accuracy, or .1 of perplexity, against the same model uncompressed; measured in ONNX Runtime
on the machine that the page names, quality on `report`. Less than a tenth faster counts as no faster: there the technique saves that model no time.
What several techniques do together a search finds; see the README.

| technique | model | row | of the MACs | of the bytes | of the latency | lost |
|---|---|---|---|---|---|---|"""


def write_overview(comparisons: Sequence[Comparison], folder: Path) -> Path:
    """Write ``README.md`` into the folder of the pages; its path."""
    lines, others = [_HEAD], []
    for comparison in comparisons:
        for subject in comparison.subjects:
            place = folder / "data" / f"{comparison.name}-{subject}.json"
            if place.is_file():
                data = json.loads(place.read_text())
                row = _headline(data) if comparison.technique else None
                link = f"[{comparison.title}]({comparison.name}.md)"
                if row is None:
                    others.append(f"- {link}, {subject}: {data['findings'][0]}")
                else:
                    lines.append(f"| {link} | {subject} | {' | '.join(_cells(data, row))} |")
    made = {comparison.name for comparison in comparisons} | {"README"}
    elsewhere = [f"- [{page.read_text().splitlines()[0].removeprefix('# ')}]({page.name})" for page in sorted(folder.glob("*.md")) if page.stem not in made]
    path = folder / "README.md"
    path.write_text("\n".join([*lines, "", *others, *elsewhere, ""]))
    return path


def _headline(data: dict[str, Any]) -> Row | None:
    """None where nothing was timed, or nothing loses so little."""
    rows = [Row(**row) for row in data["rows"] if row["values"].get("latency_ratio") is not None]
    if len(rows) < 2 or data["quality"] not in _TOLERATED:
        return None
    good = [row for row in rows[1:] if lost(row, rows[0], data["direction"]) <= _TOLERATED[data["quality"]]]
    return min(good, key=lambda row: row.values["latency_ratio"] or 0.0, default=None)


def _cells(data: dict[str, Any], row: Row) -> Iterator[str]:
    first = Row(**data["rows"][0])
    yield row.label
    for key in ("macs", "size_bytes"):
        yield f"{change(row, key, first):.2f}"
    ratio = row.values["latency_ratio"] or 0.0
    yield f"{ratio:.2f}" if ratio <= _FASTER else f"{ratio:.2f}, no faster"
    yield f"{100 * lost(row, first, data['direction']):+.1f} points" if data["quality"] == "accuracy" else f"{lost(row, first, data['direction']):+.2f}"
