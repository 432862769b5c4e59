"""A trial beside others: the baselines that it dominates, and in one line what it gains over the uncompressed model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from evaluators.devices.device_model import PREDICTED
from evaluators.metric import Metric
from search.figures import change, short_name
from search.pareto import dominates

if TYPE_CHECKING:
    from search.record import TrialRecord
    from search.results import Results, Split

__all__ = ["dominated_baselines", "summary"]


def dominated_baselines(results: Results, record: TrialRecord, objectives: Sequence[tuple[str, Metric]], split: Split) -> tuple[str, ...]:
    """See ``Results.dominated_baselines``."""
    others = [r for r in results.records if r.baseline and r.status == "ok"]
    beaten = dominates(results.losses([record], objectives, split), results.losses(others, objectives, split))
    return tuple(str(r.baseline) for r, loses in zip(others, beaten, strict=True) if loses)


def summary(results: Results, record: TrialRecord) -> str:
    """One line: a trial against the uncompressed model, such as ``parameters -38 %, latency 0.62x, accuracy -0.4 points``."""
    experiment, uncompressed = results.experiment, results.uncompressed
    if uncompressed is None:
        return "the uncompressed model was not evaluated"
    wanted = ["parameters", *(name for name, _ in experiment.objective_metrics if name != "parameters")]
    if not any(n.partition("@")[0] in PREDICTED for n in wanted) and experiment.devices:
        wanted.append(f"latency_ms@{experiment.devices[0]}")
    split = results.split() if record.report else "search"
    several = len({n for n in wanted if "@" in n}) != len({short_name(n) for n in wanted if "@" in n})
    parts = []
    for name in wanted:
        before, after = results.estimate(uncompressed, name, split).value, results.estimate(record, name, split).value
        if np.isfinite([before, after]).all():
            where = f" on {name.partition('@')[2]}" if several and "@" in name else ""
            parts.append(change(experiment.names.resolve(name)[1], before, after) + where)
    return ", ".join(parts)
