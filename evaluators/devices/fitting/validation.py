"""Predictions of latencies, and how good they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.fitting.measurements import Measurements
from evaluators.devices.fitting.metrics import scores

__all__ = ["Validation", "threads_group"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Validation:
    """Predictions of one unit's rows, made without them.

    Attributes:
        measured: with the rows that were used as anchors removed.
        predicted, low, high: ``[settings, networks]`` milliseconds, NaN where nothing is predicted; the interval is to hold 90 %.
        scales: standard deviation of the logarithm that the fit expects.
        baselines: as ``predicted``, by name.
        integer: ``[networks]`` whether it computes in 8-bit integers.
        unmatched: devices that no profile lists.
    """

    measured: Measurements
    predicted: Floats
    scales: Floats
    low: Floats
    high: Floats
    baselines: Mapping[str, Floats]
    integer: NDArray[np.bool_]
    unmatched: tuple[str, ...]

    def groups(self) -> list[dict[str, Any]]:
        """Figures by thread count and precision, as fractions."""
        found = []
        for threads in ("1", "2+"):
            rows = np.flatnonzero([threads_group(s.threads) == threads for s in self.measured.settings])
            for precision in ("fp32", "int8"):
                columns = np.flatnonzero(self.integer == (precision == "int8"))
                if len(rows) and len(columns) and np.isfinite((self.predicted * self.measured.ms)[np.ix_(rows, columns)]).any():
                    found.append({"class": self.measured.settings[rows[0]].unit, "threads": threads, "precision": precision} | self._group(rows, columns))
        return found

    def _group(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> dict[str, Any]:
        cells = np.ix_(rows, columns)
        devices, networks = [self.measured.settings[i].device for i in rows], [self.measured.networks[i] for i in columns]
        measured, predicted = self.measured.ms[cells], self.predicted[cells]
        both = np.isfinite(measured) & np.isfinite(predicted)
        inside = (self.low[cells] <= measured) & (measured <= self.high[cells])
        return {
            "rows": int(both.sum()),
            **scores(predicted, measured, devices, networks),
            "coverage_90": round(float(inside[both].mean()), 4),
            "baselines": {name: scores(np.where(both, values[cells], np.nan), measured, devices, networks) for name, values in self.baselines.items()},
        }


def threads_group(count: int) -> str:
    """The two groups in which figures are given."""
    return "1" if count == 1 else "2+"
