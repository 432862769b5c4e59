"""A device model that knows how long some variants of a model really take there, and what they draw: anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from compressors.graph import ModelGraph, Shapes
from evaluators.devices.calibration.anchors import Anchor
from evaluators.devices.calibration.correction import explained, grouped_ms, with_factors
from evaluators.devices.device_model import Adjusted, CostArray, DeviceModel, KernelBound
from evaluators.devices.energy import Powered
from evaluators.devices.kernel_table import KernelTable, kernel_table
from evaluators.devices.roofline import Roofline

__all__ = ["Anchored", "anchored"]

Floats = NDArray[np.float64]
_ARITHMETICS = ("fp32", "fp16", "int8", "int8_dynamic", "int4")
_FIXED = "inference:fixed"
_NORMAL_90 = 1.645
_TIER = "public-calibrated"
"""Measured on that device in that runtime, as those whose measurements are public."""
_OWN, _ARITHMETIC, _COMMON = 0.25, 0.3, 0.8
"""Standard deviations of the logarithm of what the rates of a class of kernels, of an arithmetic, and of all kernels are wrong by; the last is wide, so that
one anchor is believed whatever the profile says."""
_RESIDUALS, _TYPICAL, _TELLING = (0.04, 0.06, 0.1, 0.15, 0.25, 0.4), 0.15, 0.7
"""The same of a variant whose classes of kernels are known, since rates also depend on shapes: candidates, the typical one, and how far (logarithm) from it."""
_POWER, _POWER_RESIDUAL = 0.7, 0.1
"""The same of power at rest and of that of work, each and together; and of an energy whose parts are known."""
_CHUNK = 2048


def anchored(model: DeviceModel, anchors: Sequence[Anchor]) -> DeviceModel:
    """``model`` with ``anchors``; as it is where there are none.

    Args:
        model: of one unit of a device, with its power limits.
        anchors: of that device, unit, runtime, number of threads and power mode.
    """
    return Anchored(model, tuple(anchors)) if anchors and isinstance(model, Powered) and isinstance(model.model, Roofline) else model


@dataclass(frozen=True)
class Anchored(Adjusted):
    """Variants of models that anchors are of are priced by rates that explain them; everything else as ``model`` says.

    Every class of kernels in every arithmetic gets a factor. Before anything is measured factors are taken to be alike, the more so in one arithmetic: one
    anchor scales them together, several tell them apart. Intervals are what remains in doubt of the factors, weighted by how much of a candidate's time each
    class takes; what no anchor computes stays nearly as uncertain as before.
    """

    model: Powered
    anchors: tuple[Anchor, ...]
    _known: dict[str, DeviceModel] = field(default_factory=dict, repr=False, compare=False)

    def cost(self, graph: ModelGraph, shapes: Shapes) -> dict[str, CostArray]:
        """The model's costs; of variants of an anchor's model with corrected ``latency_ms`` and, where power was measured, ``energy_mj``."""
        return self._of(graph).cost(graph, shapes)

    def bounds(self, graph: ModelGraph, shapes: Shapes | None = None) -> Sequence[KernelBound]:
        """As the corrected model says."""
        return self._of(graph).bounds(graph, shapes)

    def _of(self, graph: ModelGraph) -> DeviceModel:
        if graph.fingerprint not in self._known:
            mine = [anchor for anchor in self.anchors if anchor.graph == graph.fingerprint and anchor.candidate.fits(graph)]
            self._known[graph.fingerprint] = _corrected(self.model, graph, mine) if mine else self.model
        return self._known[graph.fingerprint]


@dataclass(frozen=True)
class _Explained(Adjusted):
    """A roofline with corrected rates, and how much of the corrections remains in doubt.

    ``latency`` is the covariance of the logarithms of the factors of ``groups``, ``power`` that of power at rest and of work, None where it was not measured;
    ``residual`` is what factors do not explain.
    """

    model: Roofline
    groups: tuple[str, ...]
    latency: Floats
    power: Floats | None
    residual: float

    def cost(self, graph: ModelGraph, shapes: Shapes) -> dict[str, CostArray]:
        costs = self.model.cost(graph, shapes)
        latency, energy = costs["latency_ms"], costs["energy_mj"]
        # The tables are those that the model has just read.
        variances = [self._variance(graph, shapes[i : i + _CHUNK]) for i in range(0, len(shapes), _CHUNK)]
        variance = np.concatenate(variances) if variances else np.zeros(0)
        costs["latency_ms"] = _within(latency.value, variance + self.residual**2)
        if self.power is not None:
            share = (self.model.rates.idle_w * latency.value / energy.value)[:, None]
            shares = np.concatenate([share, 1 - share], axis=1)
            doubt = np.einsum("cp,pq,cq->c", shares, self.power, shares) + shares[:, 0] ** 2 * variance
            costs["energy_mj"] = _within(energy.value, doubt + _POWER_RESIDUAL**2)
        return costs

    def _variance(self, graph: ModelGraph, shapes: Shapes) -> Floats:
        """``[candidates]`` of the logarithm of the latency, for the factors alone."""
        parts = _parts(self.model, graph, shapes, self.groups)
        shares = parts / parts.sum(axis=1, keepdims=True)
        return np.asarray(((shares @ self.latency) * shares).sum(axis=1))


def _corrected(powered: Powered, graph: ModelGraph, anchors: Sequence[Anchor]) -> DeviceModel:
    roofline = powered.model
    assert isinstance(roofline, Roofline), "see `anchored`"
    shapes = Shapes.concatenate([anchor.candidate.shapes() for anchor in anchors])
    # Rates may tell more classes of kernels apart than the graph has, such as products of one row.
    classes = dict.fromkeys([*(k.op_class for k in roofline.target.kernels(graph)), *(c for table in roofline.rates.compute.values() for c in table)])
    groups = (*(f"{c}:{a}" for c in classes for a in _ARITHMETICS), _FIXED)
    prior = _prior(groups)
    ms = np.array([anchor.latency_ms for anchor in anchors])
    logs, latency, residual = _most_likely(_parts(roofline, graph, shapes, groups), ms, prior)
    rates = with_factors(roofline.rates, groups[:-1], logs[:-1])
    rates = rates.model_copy(update={"overhead_ms": rates.overhead_ms * float(np.exp(logs[-1]))})
    roofline = replace(roofline, rates=rates, tier=_TIER)
    measured = [(i, anchor.watts * anchor.latency_ms) for i, anchor in enumerate(anchors) if anchor.watts is not None]
    if not measured:
        return replace(powered, model=_Explained(roofline, groups, latency, None, residual))
    rows, energies = np.array([i for i, _ in measured]), np.array([mj for _, mj in measured])
    predicted = roofline.cost(graph, Shapes.concatenate([anchors[i].candidate.shapes() for i in rows]))
    rest = roofline.rates.idle_w * predicted["latency_ms"].value
    work = np.maximum(predicted["energy_mj"].value - rest, 1e-12)
    found, power = explained(np.stack([rest, work], axis=1), 0.0, energies, _POWER**2 * (np.eye(2) + 1), _POWER_RESIDUAL)
    at_rest, working = (float(factor) for factor in np.exp(found))
    rates = rates.model_copy(
        update={
            "idle_w": roofline.rates.idle_w * at_rest,
            "pj_per_mac": {name: value * working for name, value in roofline.rates.pj_per_mac.items()},
            "pj_per_byte": roofline.rates.pj_per_byte * working,
        }
    )
    budget = replace(powered.budget, idle_w=powered.budget.idle_w * at_rest)
    return replace(powered, model=_Explained(replace(roofline, rates=rates), groups, latency, power, residual), budget=budget, energy_tier=_TIER)


def _most_likely(parts: Floats, ms: Floats, prior: Floats) -> tuple[Floats, Floats, float]:
    """As ``explained``, with the residual under which the anchors are most likely; a single one says nothing about it [MacKay1992].

    [MacKay1992] MacKay: Bayesian interpolation. Neural Computation 4.
    """
    found: list[tuple[float, Floats, Floats, float]] = []
    for residual in _RESIDUALS:
        logs, covariance = explained(parts, 0.0, ms, prior, residual)
        errors = np.log(parts @ np.exp(logs) / ms) / residual
        misfit = errors @ errors + logs @ np.linalg.solve(prior, logs) + 2 * len(ms) * np.log(residual) - np.linalg.slogdet(covariance)[1]
        found.append((float(misfit + (np.log(residual / _TYPICAL) / _TELLING) ** 2), logs, covariance, residual))
    _, logs, covariance, residual = min(found, key=lambda one: one[0])
    return logs, covariance, residual


def _prior(groups: Sequence[str]) -> Floats:
    """Covariance of the logarithms of the factors."""
    arithmetic = np.array([group.partition(":")[2] for group in groups])
    return np.asarray(_COMMON**2 + _ARITHMETIC**2 * (arithmetic[:, None] == arithmetic) + _OWN**2 * np.eye(len(groups)))


def _parts(model: Roofline, graph: ModelGraph, shapes: Shapes, groups: Sequence[str]) -> Floats:
    """Milliseconds of each group of kernels, and what an inference costs beside them, ``[candidates, groups]``."""

    def of(table: KernelTable) -> Floats:
        count = len(table.dynamic)
        times = {**grouped_ms(model, table), _FIXED: np.full(count, model.rates.overhead_ms)}
        return np.stack([times.get(group, np.zeros(count)) for group in groups], axis=1)

    return np.concatenate([of(part) for part in kernel_table(graph, model.target, shapes).parts])


def _within(value: Floats, variance: Floats) -> CostArray:
    width = np.exp(_NORMAL_90 * np.sqrt(variance))
    return CostArray(value, value / width, value * width, _TIER)
