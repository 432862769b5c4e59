"""How a study's trials depend on their size: ``latency = a * P^b + c`` and ``accuracy = 1 - d / (1 + e * P)`` over parameters P.

Each law is fitted by least squares: given its one nonlinear coefficient the others follow in closed form, so that the search is along one line and cannot get
stuck. Latencies count by their ratio to what was measured, since they span orders of magnitude. Intervals (90 %) are percentiles over a bootstrap of the trials
[Efron1979]; they hold for trials like those of the study. A law that explains little is said to be poor: trials differ by more than their size.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar, nnls
from scipy.stats import norm
from scipy.stats import t as student

from compressors.errors import UserError, near_miss
from search.results import Results

__all__ = ["Law", "Reached", "fit_law", "law_lines", "laws_of", "laws_plain"]

Form = Literal["power", "saturation"]
Floats = NDArray[np.float64]

FEWEST_TRIALS, FEWEST_SIZES = 8, 5
"""A law has three coefficients: on fewer trials or sizes it would pass through anything."""
POOR = 0.7
"""Below this share of the variance, parameters alone do not say what a trial reaches."""

_BOOTSTRAP = 300
_LARGEST = math.log(sys.float_info.max)
_LINES = {"power": (0.05, 3.0, 30), "saturation": (math.log(1e-3), math.log(1e5), 60)}


@dataclass(frozen=True, slots=True)
class Reached:
    """The size at which a law has a value.

    Attributes:
        target: the metric's value.
        parameters, low, high: with the 90 % interval; infinite where no size has it.
        beyond: whether that lies outside of the sizes that were tried.
    """

    target: float
    parameters: float
    low: float
    high: float
    beyond: bool


@dataclass(frozen=True, slots=True)
class Law:
    """One metric as a function of parameters.

    Attributes:
        form: ``power``: ``a * P^b + c``; ``saturation``: ``1 - d / (1 + e * P)``.
        trials, sizes: how many, and how many different sizes they have.
        smallest, largest: of the sizes that were tried.
        reason: why there is no fit; else empty.
        coefficients: value, low and high (90 %) by name; P counts parameters one by one.
        explained: share of the variance (R^2; of ratios for latency).
        reached: where a target was given.
    """

    metric: str
    form: Form
    trials: int
    sizes: int
    smallest: float
    largest: float
    reason: str = ""
    coefficients: dict[str, tuple[float, float, float]] | None = None
    explained: float = float("nan")
    reached: Reached | None = None

    @property
    def poor(self) -> bool:
        """Whether parameters alone explain too little."""
        return self.coefficients is not None and not self.explained >= POOR


def laws_of(results: Results, target: str | None = None, seed: int = 0) -> list[Law]:
    """A law of the main quality and one of the latency on each device that the objectives name, over every trial and baseline that ended ``ok``.

    Quality is that of the split ``search``, which every trial has.

    Args:
        results: of the study.
        target: such as ``accuracy=0.95`` or ``latency_ms@raspberry-pi-5=10``.
        seed: of the bootstrap.

    Raises:
        UserError: a target that cannot be read, or of a metric that no law is about.
    """
    names = results.experiment.names
    records = [r for r in results.records if r.status == "ok" and r.replicate == 0 and r.rung >= 1 and "parameters" in r.metrics]
    latencies = [name for name, _ in results.experiment.objective_metrics if name.startswith("latency_ms@")]
    latencies = latencies or [name for name in results.available() if name.startswith("latency_ms@")]
    main = names.quality[0]
    wanted: dict[str, float] = {}
    if target is not None:
        metric, value = _target(target)
        wanted[names.resolve(metric)[0]] = value
        unknown = next((name for name in wanted if name not in (main.name, *latencies)), None)
        if unknown is not None:
            accepted = (main.name, *latencies)
            raise UserError(f"--target {target!r}: there is no law of {unknown}; accepted: {', '.join(accepted)}{near_miss(unknown, accepted)}")
    laws = []
    for name in (main.name, *latencies):
        pairs = [(r.metrics["parameters"].value, r.metrics[name].value) for r in records if name in r.metrics]
        sizes, values = (np.array(column, dtype=np.float64) for column in zip(*pairs, strict=True)) if pairs else (np.empty(0), np.empty(0))
        form: Form = "saturation" if name == main.name else "power"
        if form == "saturation" and (main.direction != "max" or main.unit or bool(((values < 0) | (values > 1)).any())):
            why = f"the law of accuracy is for metrics from 0 to 1 of which more is better; the study has {name}"
            laws.append(Law(name, form, len(values), len(np.unique(sizes)), *_ends(sizes), reason=why))
            continue
        laws.append(fit_law(name, form, sizes, values, wanted.get(name), seed))
    return laws


def fit_law(metric: str, form: Form, sizes: Floats, values: Floats, target: float | None = None, seed: int = 0) -> Law:
    """One law.

    Args:
        metric: its name.
        form: see ``Law``.
        sizes: parameters, ``[trials]``.
        values: of the metric, ``[trials]``.
        target: the value whose size is asked for.
        seed: of the bootstrap.

    Returns:
        The law; without coefficients, and with a reason, where there is too little to fit.
    """
    count, different = len(values), len(np.unique(sizes))
    if count < FEWEST_TRIALS or different < FEWEST_SIZES:
        why = f"{count} trials of {different} sizes are too few; a law needs {FEWEST_TRIALS} of {FEWEST_SIZES}"
        return Law(metric, form, count, different, *_ends(sizes), reason=why)
    scale = float(sizes.max())
    relative, weights = sizes / scale, 1 / values if form == "power" else np.ones_like(values)
    best = _fitted(form, relative, values, weights)
    residual = weights * (values - _predicted(form, best, relative))
    spread = weights * (values - np.average(values, weights=weights**2))
    explained = 1 - float((residual**2).sum() / (spread**2).sum()) if (spread**2).sum() > 0 else 0.0
    rng = np.random.default_rng(seed)
    again: list[Floats] = []
    while len(again) < _BOOTSTRAP:
        rows = rng.integers(count, size=count)
        if len(np.unique(sizes[rows])) >= 3:
            again.append(_fitted(form, relative[rows], values[rows], weights[rows], best))
    others, tail = np.array(again), _tail(count, 3 if form == "power" else 2)
    named = {
        name: (_unscaled(name, best, scale), *_interval((_unscaled(name, row, scale) for row in others), tail)) for name in ("abc" if form == "power" else "de")
    }
    reached = None
    if target is not None:
        at = _size(form, best, target) * scale
        low, high = _interval((_size(form, row, target) * scale for row in others), tail)
        reached = Reached(target, at, min(at, low), max(at, high), not sizes.min() <= at <= sizes.max())
    return Law(metric, form, count, different, *_ends(sizes), coefficients=named, explained=explained, reached=reached)


def _fitted(form: Form, sizes: Floats, values: Floats, weights: Floats, near: Floats | None = None) -> Floats:
    """``(a, b, c)`` or ``(d, e)`` over sizes of which the largest is 1; looked for along a whole line, or around known coefficients."""
    solve = _power if form == "power" else _saturation
    start, stop, count = _LINES[form]
    if near is not None:
        middle = float(near[1]) if form == "power" else math.log(near[1])
        start, stop, count = max(start, middle - 1.5), min(stop, middle + 1.5), 9
    line = np.linspace(start, stop, count)
    errors = [solve(at, sizes, values, weights)[1] for at in line]
    i, step = int(np.argmin(errors)), float(line[1] - line[0])
    inner = minimize_scalar(
        lambda at: solve(at, sizes, values, weights)[1],
        bounds=(max(start, line[i] - step), min(stop, line[i] + step)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    at = float(inner.x) if inner.fun < errors[i] else float(line[i])
    return solve(at, sizes, values, weights)[0]


def _power(b: float, sizes: Floats, values: Floats, weights: Floats) -> tuple[Floats, float]:
    (a, c), error = nnls(np.stack([weights * sizes**b, weights], axis=1), weights * values)
    return np.array([a, b, c]), float(error)


def _saturation(log_e: float, sizes: Floats, values: Floats, weights: Floats) -> tuple[Floats, float]:
    e = math.exp(log_e)
    shape = 1 / (1 + e * sizes)
    # At no parameters at all accuracy is 1 - d: it does not fall below 0.
    d = min(1.0, max(0.0, float((weights**2 * (1 - values) * shape).sum() / (weights**2 * shape**2).sum())))
    return np.array([d, e]), float(np.linalg.norm(weights * (1 - values - d * shape)))


def _predicted(form: Form, coefficients: Floats, sizes: Floats) -> Floats:
    if form == "power":
        a, b, c = coefficients
        return np.asarray(a * sizes**b + c, dtype=np.float64)
    d, e = coefficients
    return np.asarray(1 - d / (1 + e * sizes), dtype=np.float64)


def _size(form: Form, coefficients: Floats, target: float) -> float:
    if form == "power":
        a, b, c = (float(x) for x in coefficients)
        if target <= c:
            return 0.0
        # Of a latency that hardly depends on size: no number is that large.
        power = math.log((target - c) / a) / b if a > 0 else math.inf
        return math.exp(power) if power < _LARGEST else math.inf
    d, e = (float(x) for x in coefficients)
    if 1 - d >= target:
        return 0.0
    return float((d / (1 - target) - 1) / e) if target < 1 and e > 0 else math.inf


def _unscaled(name: str, coefficients: Floats, scale: float) -> float:
    if name in "abc":
        a, b, c = (float(x) for x in coefficients)
        return float({"a": a / scale**b, "b": b, "c": c}[name])
    d, e = (float(x) for x in coefficients)
    return {"d": d, "e": e / scale}[name]


def _tail(count: int, coefficients: int) -> float:
    """Percentile at which a 90 % interval begins: a bootstrap of few trials is too narrow, which this widens [Hesterberg2015]."""
    free = count - coefficients
    return float(100 * norm.cdf(math.sqrt(count / free) * student.ppf(0.05, free)))


def _interval(values: Iterable[float], tail: float) -> tuple[float, float]:
    low, high = np.percentile(list(values), [tail, 100 - tail], method="nearest")
    return float(low), float(high)


def _ends(sizes: Floats) -> tuple[float, float]:
    return (float(sizes.min()), float(sizes.max())) if len(sizes) else (float("nan"), float("nan"))


def _target(text: str) -> tuple[str, float]:
    match = re.fullmatch(r"\s*(\S+?)\s*=\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(%?)\s*", text)
    if match is None:
        raise UserError(f"--target: {text!r} is not accepted; accepted: METRIC=VALUE, such as accuracy=0.95")
    return match[1], float(match[2]) / (100 if match[3] else 1)


def law_lines(laws: Sequence[Law]) -> list[str]:
    """For people."""
    lines = []
    for law in laws:
        if law.coefficients is None:
            lines.append(f"{law.metric}: no law: {law.reason}")
            continue
        shown = {name: f"{value:.3g} ({low:.3g} to {high:.3g})" for name, (value, low, high) in law.coefficients.items()}
        formula = "a * P^b + c" if law.form == "power" else "1 - d / (1 + e * P)"
        lines.append(f"{law.metric} = {formula}, with {', '.join(f'{name} = {text}' for name, text in shown.items())}")
        fit = f"explains {100 * max(0.0, law.explained):.0f} % of {law.trials} trials of {law.smallest:,.0f} to {law.largest:,.0f} parameters"
        lines.append(f"  {fit}{': a poor fit, since trials differ by more than their size' if law.poor else ''}")
        if law.reached is not None:
            lines.append(f"  {_reached_line(law, law.reached)}")
    return lines


def _reached_line(law: Law, reached: Reached) -> str:
    what = f"{law.metric} = {reached.target:g}"
    if math.isinf(reached.parameters):
        return f"{what} is reached at no size"
    high = "any size" if math.isinf(reached.high) else _count(reached.high)
    beyond = "; that is beyond the sizes that were tried" if reached.beyond else ""
    return f"{what} is reached at {_count(reached.parameters)} parameters ({_count(reached.low)} to {high}){beyond}"


def _count(parameters: float) -> str:
    # A law that is nearly flat reaches a target at numbers of hundreds of digits.
    return f"{parameters:,.0f}" if parameters < 1e15 else f"{parameters:.0e}"


def laws_plain(laws: Sequence[Law]) -> list[dict[str, Any]]:
    """For ``--format json``; what is not finite is null."""
    number: Callable[[float], float | None] = lambda value: value if math.isfinite(value) else None  # noqa: E731 - one expression, used six times below
    plain = []
    for law in laws:
        fixed = {"metric": law.metric, "form": law.form, "trials": law.trials, "sizes": law.sizes, "range": [number(law.smallest), number(law.largest)]}
        found = {name: dict(zip(("value", "low", "high"), map(number, three), strict=True)) for name, three in (law.coefficients or {}).items()}
        reached = None
        if law.reached is not None:
            at = {name: number(getattr(law.reached, name)) for name in ("parameters", "low", "high")}
            reached = {"target": law.reached.target, **at, "beyond": law.reached.beyond}
        plain.append({**fixed, "reason": law.reason, "coefficients": found or None, "explained": number(law.explained), "poor": law.poor, "reached": reached})
    return plain
