"""Which points of a front are tied: their quality is not significantly better than that of a point that is cheaper in every cost.

The advantage is the mean difference over the examples of ``report``, paired, of each model's mean over its seeds. Its variance is that of the mean over the
examples plus that of the seeds, pooled over the points that have several; the degrees of freedom follow Welch and Satterthwaite [Satterthwaite1946]. An
advantage counts where a one-sided t test at 5 % says so. Where nothing is known example by example, the intervals of the two points stand for the examples.

[Satterthwaite1946] F. E. Satterthwaite. An approximate distribution of estimates of variance components. Biometrics Bulletin 2(6), 1946.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from evaluators.metric import Metric
from search.example_scores import unpack
from search.replicates import LEVEL, pooled

if TYPE_CHECKING:
    from search.judging import Judged, Split
    from search.record import TrialRecord

__all__ = ["ties"]

_MANY = 1e6
"""Degrees of freedom of a variance that counts as known."""


def ties(results: Judged, records: Sequence[TrialRecord], objectives: Sequence[tuple[str, Metric]], split: Split) -> dict[str, list[str]]:
    """Ids of the points that each point of a front is tied with; only on ``report``, and where there is something to pay for quality."""
    quality = [(name, metric) for name, metric in objectives if metric.knowledge == "observed"]
    costs = [(name, metric) for name, metric in objectives if metric.knowledge != "observed"]
    if split != "report" or not quality or not costs:
        return {}
    losses = results.losses(records, costs, split)
    cheaper = (losses[None] <= losses[:, None]).all(-1) & (losses[None] < losses[:, None]).any(-1)
    tied: dict[str, list[str]] = {}
    advantages = [_advantages(results, records, name, metric) for name, metric in quality]
    for i, j in np.argwhere(cheaper).tolist():
        if not any(significant[i, j] for significant in advantages):
            tied.setdefault(records[i].id, []).append(records[j].id)
    return tied


def _advantages(results: Judged, records: Sequence[TrialRecord], name: str, metric: Metric) -> NDArray[np.bool_]:
    """Whether each point is significantly better than each, ``[records, records]``."""
    main = name == results.experiment.names.quality[0].name
    examples = [_examples(results, record) if main else [] for record in records]
    paired = all(examples) and len({len(seed) for seeds in examples for seed in seeds}) == 1
    if paired:
        scores = [[float(seed.mean()) for seed in seeds] for seeds in examples]
        means = np.array([np.mean(seeds, axis=0) for seeds in examples])
    else:
        seeds = [results.seeds(record) for record in records]
        scores = [list(s.values.get(name, ())) if s else [] for s in seeds]
    between, freedom = pooled(scores)
    values = np.array([np.mean(s) if s else results.estimate(r, name, "report").value for r, s in zip(records, scores, strict=True)])
    sampling = [(r.report[name].high - r.report[name].low) / (2 * stdtrit(_MANY, LEVEL)) for r in records]
    better = metric.minimised(1.0) * (values[None] - values[:, None])
    found = np.zeros((len(records), len(records)), dtype=np.bool_)
    for i in range(len(records)):
        for j in range(len(records)):
            if better[i, j] <= 0:
                continue
            if paired:
                n = means.shape[1]
                within, known = float(np.var(means[i] - means[j], ddof=1)) / n if n > 1 else 0.0, n - 1.0
            else:
                within, known = sampling[i] ** 2 + sampling[j] ** 2, _MANY
            # A point of one seed alone trains nothing, or nobody knows what its seeds do.
            seeds_part = between * sum(1 / len(s) for s in (scores[i], scores[j]) if len(s) > 1) if freedom else 0.0
            total = within + seeds_part
            degrees = total**2 / (within**2 / max(known, 1.0) + seeds_part**2 / max(freedom, 1)) if total > 0 else _MANY
            found[i, j] = better[i, j] > stdtrit(degrees, LEVEL) * total**0.5
    return found


def _examples(results: Judged, record: TrialRecord) -> list[NDArray[np.float64]]:
    """What each example contributed, a row for each seed."""
    others = [r for r in results.replicates.get(record.id, ()) if r.status == "ok"]
    rows = [unpack(r.examples, f"those of {r.id}") for r in (record, *others)]
    return rows if all(len(row) for row in rows) else []
