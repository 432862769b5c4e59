"""The front as a static SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from compressors.errors import UserError
from evaluators.metric import Metric
from search.figures import figure
from search.pareto import non_dominated
from search.report.names import place_names
from search.report.scale import Scale
from search.results import Results

__all__ = ["picture"]

_WIDTH, _HEIGHT = 760, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 24, 54, 60
_INK, _MUTED, _LINE, _FRONT, _BASELINE = "#1f2430", "#667085", "#e3e6ec", "#2f5fd0", "#c2571a"


def picture(results: Results, *metrics: str) -> str:
    """Trials and baselines over two metrics, with the front between these two drawn as a line.

    Args:
        results: of a study.
        metrics: vertical, then horizontal; the experiment's first objective and its first cost where none are given.

    Raises:
        UserError: nothing to draw: fewer than two metrics, or no point has both.
    """
    chosen = results.objectives(*metrics)[:2]
    if len(chosen) < 2:
        raise UserError(f"a picture needs two metrics; the experiment has one objective, {chosen[0][0]}")
    split = results.split()
    frame = results.front(*metrics, baselines=True)
    points = [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
    points = [point for point in points if all(math.isfinite(point[name]) for name, _ in chosen)]
    if not points:
        raise UserError(f"study {results.name!r} has no point with both {chosen[0][0]} and {chosen[1][0]} yet")
    (y_name, y_metric), (x_name, x_metric) = chosen
    x = Scale.over([p[x_name] for p in points], _LEFT, _WIDTH - _RIGHT)
    y = Scale.over([p[y_name] for p in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [*_axes(x, y, (x_name, x_metric), (y_name, y_metric)), *_line(points, x, y, (x_name, x_metric), (y_name, y_metric))]
    parts += [_mark(x(p[x_name]), y(p[y_name]), p, f"{figure(y_metric, p[y_name])}, {figure(x_metric, p[x_name])}") for p in points]
    parts += _names([(x(p[x_name]), y(p[y_name]), p["baseline"]) for p in points])
    parts += _legend(results.name, split)
    style = "text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:" + _MUTED + "}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img">'
    title = f"<title>{escape(results.name)}: {escape(y_name)} against {escape(x_name)}</title>"
    return "\n".join([head, title, f"<style>{style}</style>", f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>', *parts, "</svg>", ""])


def _axes(x: Scale, y: Scale, x_axis: tuple[str, Metric], y_axis: tuple[str, Metric]) -> list[str]:
    bottom, parts = _HEIGHT - _BOTTOM, []
    for tick in x.ticks():
        at = f"{x(tick):.1f}"
        parts.append(f'<line x1="{at}" y1="{_TOP}" x2="{at}" y2="{bottom}" stroke="{_LINE}"/>')
        parts.append(f'<text x="{at}" y="{bottom + 18}" text-anchor="middle">{_tick(x_axis[1], tick)}</text>')
    for tick in y.ticks():
        at = f"{y(tick):.1f}"
        parts.append(f'<line x1="{_LEFT}" y1="{at}" x2="{_WIDTH - _RIGHT}" y2="{at}" stroke="{_LINE}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{_tick(y_axis[1], tick)}</text>')
    middle_x, middle_y = (_LEFT + _WIDTH - _RIGHT) / 2, (_TOP + bottom) / 2
    parts.append(f'<text x="{middle_x}" y="{_HEIGHT - 16}" text-anchor="middle">{escape(_label(*x_axis))}</text>')
    parts.append(f'<text transform="translate(18 {middle_y}) rotate(-90)" text-anchor="middle">{escape(_label(*y_axis))}</text>')
    return parts


def _tick(metric: Metric, value: float) -> str:
    return figure(metric, value).replace(".0 ", " ")


def _label(name: str, metric: Metric) -> str:
    short, _, device = name.partition("@")
    words = "MACs" if short == "macs" else short.removesuffix("_ms").removesuffix("_mj").removesuffix("_bytes").replace("_", " ")
    known = " (predicted)" if metric.knowledge == "predicted" else ""
    return f"{words}{f' on {device}' if device else ''}{known}, {'lower' if metric.direction == 'min' else 'higher'} is better"


def _line(points: Sequence[Mapping[str, Any]], x: Scale, y: Scale, x_axis: tuple[str, Metric], y_axis: tuple[str, Metric]) -> list[str]:
    """The attainment boundary of the points on the front: a staircase, because nothing between two points was found."""
    members = [(p[x_axis[0]], p[y_axis[0]]) for p in points if p["on_front"]]
    if not members:
        return []
    losses = np.array([[x_axis[1].minimised(a), y_axis[1].minimised(b)] for a, b in members])
    corner = sorted(member for member, keep in zip(members, non_dominated(losses), strict=True) if keep)
    if x_axis[1].direction == "max":
        corner.reverse()
    path = f"M{x(corner[0][0]):.1f} {y(corner[0][1]):.1f}" + "".join(f"H{x(a):.1f}V{y(b):.1f}" for a, b in corner[1:])
    return [f'<path d="{path}" fill="none" stroke="{_FRONT}" stroke-width="1.6" opacity=".55"/>']


def _mark(x: float, y: float, point: Mapping[str, Any], text: str) -> str:
    demoted = point["verdict"] in ("regressed", "unexportable")
    title = f"<title>{escape(str(point['id']))}: {escape(text)}{'; does not count: ' + str(point['verdict']) if demoted else ''}</title>"
    if point["baseline"] is not None:
        fill = _BASELINE if point["on_front"] else "#fff"
        return f'<path d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z" fill="{fill}" stroke="{_BASELINE}" stroke-width="1.5">{title}</path>'
    if demoted:
        return f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m-8 0l8 -8" fill="none" stroke="{_MUTED}" stroke-width="1.5">{title}</path>'
    ring = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8.5" fill="none" stroke="{_FRONT}" stroke-width="1.5"/>' if point["knee"] else ""
    return f'{ring}<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{_FRONT}" stroke="#fff">{title}</circle>'


def _names(marks: Sequence[tuple[float, float, str | None]]) -> list[str]:
    """The baselines' names; those that fell on one another share theirs."""
    shared: dict[tuple[int, int], tuple[float, float, str]] = {}
    for x, y, name in marks:
        if name is not None:
            at = round(x), round(y)
            shared[at] = (x, y, f"{shared[at][2]}, {name}" if at in shared else name)
    placed = place_names(list(shared.values()), [(x, y) for x, y, _ in marks], (_LEFT, _TOP - 8, _WIDTH, _HEIGHT - _BOTTOM))
    style = f"fill:{_BASELINE};font-size:11px;paint-order:stroke;stroke:#fff;stroke-width:3px"
    return [f'<text x="{name.x:.1f}" y="{name.y:.1f}" style="{style}">{escape(name.text)}</text>' for name in placed]


def _legend(name: str, split: str) -> list[str]:
    return [
        f'<text x="{_LEFT}" y="22" style="fill:{_INK};font-size:15px;font-weight:600">{escape(name)}</text>',
        f'<circle cx="{_LEFT + 5}" cy="38" r="4.5" fill="{_FRONT}"/><text x="{_LEFT + 16}" y="42">found by the search, ringed: the knee</text>',
        f'<path d="M{_LEFT + 255} 33l5 5l-5 5l-5 -5z" fill="#fff" stroke="{_BASELINE}" stroke-width="1.5"/>',
        f'<text x="{_LEFT + 266}" y="42">uniform baseline, filled: on the front</text>',
        f'<text x="{_WIDTH - _RIGHT}" y="42" text-anchor="end">quality on the {split} split</text>',
    ]
