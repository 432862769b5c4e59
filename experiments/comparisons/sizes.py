"""Sizes of one architecture, and the laws that latency and accuracy follow."""

from __future__ import annotations

import numpy as np

from experiments.comparisons.columns import BYTES, LATENCY, MACS, PARAMETERS, QUALITY, RATIO
from experiments.comparisons.comparison import Comparison, Curve, Measured
from experiments.comparisons.laboratory import Laboratory, side_by_side
from search.laws import fit_law

__all__ = ["COMPARISON"]

_WIDTHS = {4: "", 6: "", 8: "small", 11: "", 16: "base", 23: "", 32: "large", 45: "", 64: ""}


def _run(laboratory: Laboratory) -> Measured:
    def of(width: int) -> Laboratory:
        return Laboratory(laboratory.experiment, [*laboratory.settings, f"model.arguments={{width: {width}}}"], laboratory.recovery)

    rows = side_by_side({f"width {width}{f' ({name})' if name else ''}": (of(width), []) for width, name in _WIDTHS.items()})
    sizes, quality, latency = (np.array([row.values[key] for row in rows], dtype=np.float64) for key in ("parameters", "quality", "latency_ms"))
    found = []
    for law in (fit_law("latency_ms", "power", sizes, latency), fit_law("accuracy", "saturation", sizes, quality, target=0.98)):
        assert law.coefficients is not None
        formula = "latency_ms = a * P^b + c" if law.form == "power" else "accuracy = 1 - d / (1 + e * P)"
        values = ", ".join(f"{name} = {value:.3g} ({low:.3g} to {high:.3g})" for name, (value, low, high) in law.coefficients.items())
        found.append(f"{formula}: {values}; it explains {law.explained:.0%} of the variance{' and says little' if law.poor else ''}.")
        if law.reached is not None:
            beyond = ", beyond what was tried" if law.reached.beyond else ""
            found.append(f"98 % would be reached with {law.reached.parameters:,.0f} parameters ({law.reached.low:,.0f} to {law.reached.high:,.0f}{beyond}).")
    return Measured(rows, found, {})


COMPARISON = Comparison(
    "sizes",
    "Small, base and large of one architecture",
    "What does size buy? One architecture in nine widths, each trained alike from scratch, and the laws that are fitted to them, with 90 % intervals.",
    ("digits",),
    (QUALITY, PARAMETERS, MACS, BYTES, LATENCY, RATIO),
    Curve("parameters", "quality"),
    _run,
    ("x",),
    technique=False,
)
