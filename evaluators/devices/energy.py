"""What a device model's energy becomes on a real device: capped by what it can draw, slowed by heat, summed over an hour with sleep in between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressors.graph import ModelGraph, Shapes
from evaluators.devices.device_model import Adjusted, CostArray
from evaluators.devices.heat import throttling
from evaluators.devices.profile_tables import Heat, Sleep

__all__ = ["REQUESTS_PER_HOUR", "Budget", "Powered", "hourly_mwh"]

Floats = NDArray[np.float64]
REQUESTS_PER_HOUR = 60.0
"""Where a workload does not say."""
_HOUR_MS = 3.6e6
_MJ_PER_MWH = 3600.0


@dataclass(frozen=True, slots=True)
class Budget:
    """Power of a device: at rest and for ever, watts; heat and sleep as in its profile."""

    idle_w: float
    sustained_w: float
    heat: Heat
    sleep: Sleep


def hourly_mwh(latency_ms: Floats, energy_mj: Floats, requests: float, budget: Budget) -> Floats:
    """Milliwatt hours of an hour with ``requests`` requests.

    Between them the device sleeps and is woken, or stays awake, whichever takes less. Where the requests need more than the hour it works all the time,
    and not all are answered.
    """
    wake_ms = budget.sleep.wake_ms
    served = np.minimum(requests, _HOUR_MS / np.maximum(latency_ms, 1e-9))
    rest_ms = np.maximum(_HOUR_MS - served * latency_ms, 0.0)
    awake_mj = rest_ms * budget.idle_w
    woken_ms = served * wake_ms
    asleep_mj = np.where(woken_ms < rest_ms, woken_ms * budget.idle_w + (rest_ms - woken_ms) * budget.sleep.sleep_w, np.inf)
    total: Floats = (served * energy_mj + np.minimum(awake_mj, asleep_mj)) / _MJ_PER_MWH
    return total


@dataclass(frozen=True)
class Powered(Adjusted):
    """``model`` with the power limits of its device.

    Its energy, power at rest for the whole inference plus what arithmetic and traffic take, is capped at the power that the device can hold for ever. What it
    would draw above that decides how much slower it becomes when it is warm: ``sustained_latency_ms``. Energy is an estimate where no power meter was read:
    its tier is ``energy_tier``.
    """

    budget: Budget
    requests_per_hour: float = REQUESTS_PER_HOUR
    energy_tier: str = "spec-only"

    def cost(self, graph: ModelGraph, shapes: Shapes) -> dict[str, CostArray]:
        """The model's costs, energy capped, with ``sustained_latency_ms`` and ``energy_per_hour_mwh``."""
        costs = self.model.cost(graph, shapes)
        latency, asked = costs["latency_ms"], costs["energy_mj"]
        ends = (latency.value, latency.low, latency.high)
        cap = self.budget.sustained_w * latency.value
        capped = CostArray(np.minimum(asked.value, cap), np.minimum(asked.low, cap), np.minimum(asked.high, cap), self.energy_tier)
        typical, cool, hot = (self._clock(e / np.maximum(latency.value, 1e-12)) for e in (asked.value, asked.low, asked.high))
        sustained = CostArray(latency.value / typical, latency.low / cool, latency.high / hot, self._worse(latency.tier))
        # Hours are of the same inference: slow ones take more energy, so that the ends go together.
        joules = (capped.value, np.minimum(capped.low, capped.value), np.maximum(capped.high, capped.value))
        hours = [hourly_mwh(ms, mj, self.requests_per_hour, self.budget) for ms, mj in zip(ends, joules, strict=True)]
        hourly = CostArray(hours[0], np.minimum(hours[0], hours[1]), np.maximum(hours[0], hours[2]), self.energy_tier)
        return {**costs, "energy_mj": capped, "sustained_latency_ms": sustained, "energy_per_hour_mwh": hourly}

    def _clock(self, power_w: Floats) -> Floats:
        return throttling(power_w, self.budget.idle_w, self.budget.sustained_w)

    def _worse(self, tier: str) -> str:
        from evaluators.metric import TIERS

        return max((tier, self.energy_tier), key=TIERS.index)
