"""A front for people at a terminal: one or two lines a point where the width allows."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from rich.text import Text

from search.figures import figure, interval, short_name
from search.front_formats import brief, brief_heading, metric_columns, varied_settings
from search.front_summary import front_summaries, spread_lines, technique_lines, tied_lines
from search.results import Results

__all__ = ["explain", "front_lines", "verified_lines"]

_GAP = "  "


class _Column(NamedTuple):
    """A metric: lines of its heading, and of every row its figure and its interval (empty where it is exact)."""

    head: list[str]
    figures: list[str]
    intervals: list[str]


def front_lines(results: Results, frame: pd.DataFrame, width: int) -> list[Text]:
    """The front with the baselines that are not on it below it, dim; unit and interval with every figure, tiers in the heading.

    Recipes stand beside the figures where ``width`` (characters) has room for them, else below; and intervals below the figures only where they must.
    """
    columns = list(_columns(results, frame))
    varied = varied_settings(results.records)
    rows = frame.to_dict("records")
    ids = [f"{row['baseline'] or row['id']}{_marks(row)}" for row in rows]
    recipes = ["" if row["baseline"] is not None else brief(row["recipe"], varied) for row in rows]

    first = _longest(["id", *ids])
    inline = first + sum(len(_GAP) + _width(column, inline=True) for column in columns) <= width
    widths = [_width(column, inline=inline) for column in columns]
    rule = first + sum(len(_GAP) + size for size in widths)
    beside = rule + len(_GAP) + _longest(["recipe", *recipes]) <= width
    if beside:
        rule += len(_GAP) + _longest(["recipe", *recipes])

    lines = []
    for i in range(max([1, *(len(column.head) for column in columns)])):
        cells = [(column.head[i] if i < len(column.head) else "").rjust(size) for column, size in zip(columns, widths, strict=True)]
        lines.append(Text(_GAP.join([("" if i else "id").ljust(first), *cells, "recipe" if beside and not i else ""]).rstrip(), "bold"))
    lines.append(Text("─" * rule, "dim"))
    for i, row in enumerate(rows):
        for line in _row(ids[i].ljust(first), columns, widths, i, inline=inline, recipe=recipes[i], beside=beside, width=width):
            if not row["on_front"]:
                line.stylize("dim")
            lines.append(line)
    return lines


def _marks(row: Mapping[Any, Any]) -> str:
    marks = "".join(mark for mark, holds in (("*", row["knee"]), ("~", row["tied"]), ("!", row["unstable"])) if holds)
    return f" {marks}" if marks else ""


def _row(name: str, columns: Sequence[_Column], widths: Sequence[int], i: int, *, inline: bool, recipe: str, beside: bool, width: int) -> Iterator[Text]:
    line, below = Text(name), Text(" " * len(name))
    for column, size in zip(columns, widths, strict=True):
        spread = _longest(column.intervals)
        if inline and spread:
            line.append(_GAP + column.figures[i].rjust(size - len(_GAP) - spread)).append(_GAP + column.intervals[i].rjust(spread), "dim")
        else:
            line.append(_GAP + column.figures[i].rjust(size))
            below.append(_GAP + column.intervals[i].rjust(size), "dim")
    if beside:
        line.append(_GAP + recipe)
    line.rstrip()
    yield line
    if not inline:
        below.rstrip()
        yield below
    if not beside:
        indent = " " * 4
        yield from (Text(part) for part in textwrap.wrap(recipe, max(width, 40), initial_indent=indent, subsequent_indent=indent))


def _columns(results: Results, frame: pd.DataFrame) -> Iterator[_Column]:
    """Each metric, beside it the mean over seeds and what a verification found; then the verdicts, where there are any."""
    for name in metric_columns(frame):
        yield _column(results, frame, name)
        mean = frame.get(f"{name}_mean", pd.Series(dtype=float)).where(frame["seeds"] > 1)
        if mean.notna().any():
            metric = results.experiment.names.resolve(name)[1]
            most = int(frame["seeds"].max())
            yield _Column(["mean of", f"{most} seeds"], ["" if pd.isna(value) else figure(metric, value) for value in mean], [""] * len(mean))
        found = frame.get(f"{name}_found", pd.Series(dtype=float))
        if found.notna().any():
            metric = results.experiment.names.resolve(name)[1]
            yield _Column(["found"], ["" if pd.isna(value) else figure(metric, value) for value in found], [""] * len(found))
    if any(frame["verdict"]):
        yield _Column(["verdict"], list(frame["verdict"]), [""] * len(frame))


def _column(results: Results, frame: pd.DataFrame, name: str) -> _Column:
    metric = results.experiment.names.resolve(name)[1]
    short, _, device = name.partition("@")
    head = [short]
    if device:
        several = sum(short_name(other) == short for other in metric_columns(frame)) > 1
        head.append(device if several else device.partition("/")[0])
    tiers = [tier for tier in dict.fromkeys(frame[f"{name}_tier"]) if tier not in ("", "exact", "measured")]
    if tiers:
        head.append(f"predicted, {', '.join(tiers)}")
    rows = list(zip(*(frame[f"{name}{end}"] for end in ("", "_low", "_high")), strict=True))
    return _Column(head, [figure(metric, value) for value, _, _ in rows], [interval(metric, *row) for row in rows])


def _width(column: _Column, *, inline: bool) -> int:
    spread = _longest(column.intervals)
    body = _longest(column.figures) + (len(_GAP) + spread if spread else 0) if inline else max(_longest(column.figures), spread)
    return max(body, _longest(column.head))


def _widths(widths: Mapping[str, tuple[int, int]]) -> list[str]:
    """Units before and after, an axis a line; layers that are cut alike and differ in their number alone share one."""
    alike: dict[tuple[str, int, int], list[str]] = {}
    for axis, (before, after) in widths.items():
        alike.setdefault((re.sub(r"\d+", "*", axis), before, after), []).append(axis)
    rows = [(_name(axes), units) for (_, *units), axes in alike.items()]
    size = _longest([name for name, _ in rows])
    return ["widths:", *(f"    {name.ljust(size)}  {before} -> {after}" for name, (before, after) in rows)] if rows else []


def _name(axes: Sequence[str]) -> str:
    """One name for axes that differ in numbers: a star for those that do."""
    parts = zip(*(re.split(r"(\d+)", axis) for axis in axes), strict=True)
    together = "".join(part[0] if len(set(part)) == 1 else "*" for part in parts)
    return together if len(axes) == 1 else f"{together} ({len(axes)})"


def _longest(texts: Sequence[str]) -> int:
    return max(map(len, texts), default=0)


def verified_lines(results: Results) -> list[str]:
    """What became of the promises of the front's points, and why those that were demoted do not count."""
    if not results.verified:
        return []
    front = results.front_records()
    verdicts = [results.verified[r.id].verdict if r.id in results.verified else "not verified" for r in front]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    costs = [name for name in results.available() if short_name(name) == "latency_ms" and name not in results.measurable]
    elsewhere = "; latency on devices that are not at hand is unverified" if costs else ""
    lines = [f"artifacts of the front in {results.experiment.target}: {counts or 'none'}{elsewhere}"]
    said: dict[tuple[str, str], list[str]] = {}
    for record in results.records:
        found = results.verified.get(record.id)
        if found is not None and (found.demoted or (found.verdict == "unverified" and record in front)):
            what = "left out" if found.demoted else "could not be verified"
            said.setdefault((what, "; ".join([found.verdict, *found.reasons] if found.demoted else found.reasons)), []).append(record.id)
    lines += [f"{', '.join(ids)} {what}: {why}" for (what, why), ids in said.items()]
    return lines


def explain(results: Results, frame: pd.DataFrame, picked: str | None = None) -> list[str]:
    """Lines below the table: what the marks mean, the split, hypervolumes, what the knee gains."""
    metrics, split = frame.attrs["metrics"], frame.attrs["split"]
    rows = frame.to_dict("records")
    lines = []
    if picked is None:
        front, alone = (results.hypervolume(*metrics, split=split, which=which) for which in ("front", "baselines"))
        volume = f"; hypervolume {front:.4g}, of the baselines alone {alone:.4g}" if front == front else ""
        lines.append(f"{int(frame['on_front'].sum())} points on the front{volume}")
        own = metrics == [name for name, _ in results.objectives()]
        summaries = front_summaries(results) if own else []
        lines += summaries
        lines.append(f"named rows are uniform baselines, dim where off the front; * is the knee{' on a device' if summaries else ''}")
        lines += [*technique_lines(results), *tied_lines(rows), *spread_lines(results), *verified_lines(results)]
    beaten: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        if row["dominates"] and row["baseline"] is None:
            beaten.setdefault(tuple(row["dominates"]), []).append(str(row["id"]))
    lines += [f"{', '.join(ids)} {'dominates' if len(ids) == 1 else 'dominate'} {', '.join(names)}" for names, ids in beaten.items()]
    if split == "report":
        missing = [r.id for r in results.front_records(*metrics, split="search") if not r.report]
        if missing:
            more = ", ..." if len(missing) > 5 else ""
            lines.append(f"left out, because they were never evaluated on report: {', '.join(missing[:5])}{more}, on the front of the search split")
    unpublished = "" if split == "report" else ": nothing was evaluated on the report split yet, so these figures are those that the search ranked by"
    lines.append(f"quality on the {split} split{unpublished}; ranges are 90 % intervals")
    settings = brief_heading(results.records)
    lines.append(f"recipes show {settings}" if settings else "nothing differs between recipes")
    marked = picked or next((str(row["id"]) for row in rows if row["knee"]), None)
    if marked is not None:
        lines.append(f"{marked} against the uncompressed model: {results.summary(marked)}")
    if picked is not None:
        checked = results.verified.get(picked)
        if checked is not None:
            lines.append(f"its artifact in {checked.runtime}: {'; '.join([checked.verdict, *checked.reasons])}")
        lines += _widths(results.record(picked).widths)
    return lines
