"""A one-shot sensitivity profile: what quality each axis costs where it alone is cut, without recovery."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.compressor import GraphEdit
from compressors.errors import TrialError
from compressors.graph import Axis
from compressors.graph.surgery import cut
from compressors.pruning import Prune
from compressors.pruning.prune import KINDS
from compressors.recipe import Recipe
from evaluators.metric import Estimate, Metric
from evaluators.tasks.array_task import ArrayTask, module_predict
from search.experiment import Experiment
from search.figures import change
from search.preparing import state_key
from search.stages import StageRunner

__all__ = ["SHARES", "Cut", "Sensitivity", "first_criterion", "profile"]

SHARES = (0.25, 0.5)
"""Of an axis's units that are removed."""

_VERSION = 1
_SPLIT = "search"
_SAMPLES = 500
_DEFAULT = "l2"
_VALUES, _LOST = "values.npz", "lost.json"

PerExample = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Cut:
    """One axis, cut alone.

    Attributes:
        share: of its units that was asked for.
        units: that are left of ``axis.size``; widths are whole, so that small axes may lose more or fewer than asked for.
        lost: how much worse the main metric is than the uncompressed model's, in the metric's unit; positive is worse. None where it cannot be said.
        parameters, macs: of the whole model, cut so.
        reason: why ``lost`` is None.
    """

    axis: Axis
    share: float
    units: int
    lost: Estimate | None
    parameters: int
    macs: int
    reason: str = ""

    def to_plain(self) -> dict[str, Any]:
        """As plain data."""
        figures = {"units": self.units, "lost": self.lost.to_plain() if self.lost else None, "parameters": self.parameters, "macs": self.macs}
        return {"axis": self.axis.name, "kind": self.axis.kind, "size": self.axis.size, "share": self.share, **figures, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What ``profile`` found.

    Attributes:
        metric: the task's main one.
        criterion: by which units were chosen.
        split, examples: on which it was evaluated.
        baseline: the metric of the uncompressed model.
        cuts: for each axis one of every share, the axis that loses most first.
    """

    metric: Metric
    criterion: str
    split: str
    examples: int
    baseline: Estimate
    cuts: tuple[Cut, ...]

    def to_plain(self) -> dict[str, Any]:
        """As plain data."""
        about = {"metric": self.metric.name, "criterion": self.criterion, "split": self.split, "examples": self.examples}
        return {**about, "baseline": self.baseline.to_plain(), "cuts": [c.to_plain() for c in self.cuts]}


def first_criterion(experiment: Experiment) -> str:
    """Of the first pruning step of the recipe (the first choice where it is searched), or ``l2``."""
    for _, name, settings in experiment.space.steps():
        if name in ("prune", "prune_iteratively"):
            criterion = settings.get("criterion", _DEFAULT)
            return str(criterion["choice"][0] if isinstance(criterion, Mapping) else criterion)
    return _DEFAULT


def profile(runner: StageRunner, criterion: str, log: Callable[[str], None]) -> Sensitivity:
    """Cut every prunable axis alone by each of ``SHARES``, and evaluate on ``search``; what was evaluated before comes from the runner's cache.

    Args:
        runner: of the prepared experiment.
        criterion: chooses the units that go.
        log: receives a line for every cut.

    Raises:
        TrialError: the scores, or the uncompressed model, are not finite.
    """
    prepared = runner.prepared
    graph, metric = prepared.graph, prepared.task.quality[0]
    base = _baseline(runner)
    kinds = [kind for kind in KINDS if any(axis.kind == kind for axis in graph.prunable)]
    # Selection is local: what it keeps of an axis does not depend on the others.
    steps = {share: Prune.from_config({"criterion": criterion, "ratio": dict.fromkeys(kinds, share)}) for share in SHARES} if kinds else {}
    plans = {share: runner.plan(Recipe((step,)))[-1] for share, step in steps.items()}
    axes = [axis for axis in graph.prunable if axis.kind in kinds]
    cuts: list[Cut] = []
    for axis in axes:
        for share, plan in plans.items():
            found = _cut(runner, base, axis, share, plan)
            cuts.append(found)
            # Zero is added so that nothing lost has no sign.
            said = change(metric, 0.0, metric.minimised(found.lost.value) + 0.0) if found.lost else found.reason
            log(f"{len(cuts)}/{len(axes) * len(plans)}  {axis.name}: {axis.kind} {axis.size} -> {found.units}, {said}")
    worst = {axis.name: max((c.lost.value for c in cuts if c.axis is axis and c.lost), default=-np.inf) for axis in axes}
    # The sort is stable: the axes of a tie stay in the model's order.
    ranked = sorted(cuts, key=lambda c: -worst[c.axis.name])
    baseline = prepared.task.summarise(base)[metric.name]
    return Sensitivity(metric, criterion, _SPLIT, len(base[metric.name]), baseline, tuple(ranked))


def _cut(runner: StageRunner, base: PerExample, axis: Axis, share: float, plan: GraphEdit) -> Cut:
    graph = runner.prepared.graph
    if axis.name not in plan.kept:
        return Cut(axis, share, axis.size, None, graph.parameters, graph.macs, f"{share:.0%} of {axis.size} units is less than half a unit")
    kept = {axis.name: plan.kept[axis.name]}
    shapes = GraphEdit.identity(graph).cut(kept).shapes(graph)
    parameters, macs = int(graph.count_parameters(shapes)[0]), int(graph.count_macs(shapes)[0])
    found = _stored(runner, [axis.name, kept[axis.name].tolist()], lambda folder: (folder / _LOST).write_text(json.dumps(_evaluated(runner, base, kept))))
    said = json.loads((found / _LOST).read_text())
    lost = Estimate.from_plain(said["lost"]) if said["lost"] else None
    return Cut(axis, share, len(kept[axis.name]), lost, parameters, macs, said["reason"])


def _evaluated(runner: StageRunner, base: PerExample, kept: Mapping[str, NDArray[np.int64]]) -> dict[str, Any]:
    prepared = runner.prepared
    try:
        values = prepared.task.per_example(module_predict(cut(prepared.model, prepared.graph, kept)), _SPLIT)
        return {"lost": _lost(prepared.task, prepared.task.quality[0], base, values).to_plain(), "reason": ""}
    except TrialError as error:
        return {"lost": None, "reason": str(error)}


def _baseline(runner: StageRunner) -> PerExample:
    """Each metric's contributions, example by example, of the uncompressed model."""
    prepared = runner.prepared

    def write(folder: Path) -> None:
        np.savez(str(folder / _VALUES), allow_pickle=False, **prepared.task.per_example(module_predict(prepared.model), _SPLIT))

    with np.load(_stored(runner, [], write) / _VALUES, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _stored(runner: StageRunner, cut_units: Sequence[Any], write: Callable[[Path], Any]) -> Path:
    """The folder of an evaluation in the cache. Its key is what was evaluated, whatever criterion chose it."""
    p = runner.prepared
    key = state_key("sensitivity", _VERSION, p.graph.fingerprint, p.model_key, p.data_key, p.versions["torch"], runner.device.type, _SPLIT, *cut_units)
    with runner.cache.computing(key):
        return runner.cache.get(key) or runner.cache.put(key, write, kind="sensitivity", model=p.model_name)


def _lost(task: ArrayTask, metric: Metric, before: PerExample, after: PerExample) -> Estimate:
    """How much worse ``after`` is, with a percentile bootstrap interval [Efron1979]_ over examples: both models are judged on the same ones.

    .. [Efron1979] Efron, Bootstrap Methods: Another Look at the Jackknife, Annals of Statistics 1979.
    """

    def worse(rows: Any) -> float:
        # What other metrics are of is another number of examples: of prompts, or of one part of the data.
        drawn = ({name: v[rows] if len(v) == examples else v for name, v in values.items()} for values in (before, after))
        old, new = (task.summarise(values)[metric.name].value for values in drawn)
        return metric.minimised(new) - metric.minimised(old)

    examples = len(before[metric.name])
    rng = np.random.default_rng(0)
    low, high = np.quantile([worse(rng.integers(examples, size=examples)) for _ in range(_SAMPLES)], (0.05, 0.95))
    value = worse(slice(None))
    return Estimate(value, min(float(low), value), max(float(high), value))
