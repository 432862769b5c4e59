"""A published point trained again with other seeds: what its quality owes to chance.

A replicate is another training of the same recipe, evaluated on ``report``; replicate 0 is what is exported. The spread between seeds is pooled over the points
that have replicates, since a few seeds of one point say little: ``s`` is the square root of the pooled variance, with one degree of freedom for each replicate.
The interval of a point is then its value -/+ the root of the sum of squares of two half-widths: that of sampling the examples, and ``t s`` with Student's t.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from evaluators.metric import Estimate
from search.record import TrialRecord

__all__ = ["LEVEL", "Seeds", "pooled", "replicate_id", "replicated", "seeds_of", "with_spread"]

LEVEL = 0.95
"""Of one side: intervals are of 90 %, tests of an advantage of 5 %."""

_MARK = "-r"


def replicate_id(trial: str, replicate: int) -> str:
    """Id of a replicate: ``0007-r1``."""
    return f"{trial}{_MARK}{replicate}"


def replicated(identity: str) -> str:
    """Id of the point that a replicate is of."""
    return identity.rpartition(_MARK)[0]


@dataclass(frozen=True)
class Seeds:
    """What the seeds of one point gave on ``report``, replicate 0 first.

    Attributes:
        values: by quality metric, one for each seed that gave any.
        failed: of each that did not, which and why, in a line.
    """

    values: Mapping[str, tuple[float, ...]]
    failed: tuple[str, ...]

    @property
    def count(self) -> int:
        """Seeds that gave a value."""
        return max(map(len, self.values.values()), default=0)

    @property
    def mean(self) -> dict[str, float]:
        """Over the seeds."""
        return {name: float(np.mean(values)) for name, values in self.values.items()}


def seeds_of(record: TrialRecord, others: Sequence[TrialRecord]) -> Seeds:
    """Of a published point and its replicates."""
    values = {name: (e.value, *(r.report[name].value for r in others if r.status == "ok" and name in r.report)) for name, e in record.report.items()}
    failed = tuple(f"replicate {r.replicate}: {r.status}, {(r.reason.strip().splitlines() or [''])[-1]}" for r in others if r.status != "ok")
    return Seeds(values, failed)


def pooled(groups: Sequence[Sequence[float]]) -> tuple[float, int]:
    """Variance within groups, pooled, and its degrees of freedom; NaN and 0 where no group has two values."""
    many = [np.asarray(group, dtype=np.float64) for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in many)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in many)
    return (squares / freedom if freedom else float("nan")), freedom


def with_spread(reports: Mapping[str, Mapping[str, Estimate]], seeds: Mapping[str, Seeds], quality: Sequence[str]) -> dict[str, dict[str, Estimate]]:
    """Estimates on ``report`` by id and metric; intervals of quality cover the spread between seeds where a point has several."""
    found = {trial: dict(report) for trial, report in reports.items()}
    for name in quality:
        variance, freedom = pooled([s.values.get(name, ()) for s in seeds.values()])
        if not freedom:
            continue
        half = float(stdtrit(freedom, LEVEL)) * variance**0.5
        for trial, s in seeds.items():
            before = found.get(trial, {}).get(name)
            if before is not None and len(s.values.get(name, ())) > 1:
                low, high = before.value - np.hypot(before.value - before.low, half), before.value + np.hypot(before.high - before.value, half)
                # Every quality metric that there is counts from 0; a share ends at 1.
                found[trial][name] = Estimate(before.value, max(0.0, float(low)), min(1.0, float(high)) if name == "accuracy" else float(high), before.tier)
    return found
