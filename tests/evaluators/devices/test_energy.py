from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from compressors.graph import ModelGraph, Shapes
from evaluators.devices import device_named
from evaluators.devices.device_model import GENERATING, PREDICTED, CostArray, DeviceModel
from evaluators.devices.energy import Budget, Powered, hourly_mwh
from evaluators.devices.profile_tables import Heat, Sleep

BUDGET = Budget(1.0, 4.0, Heat(ambient_c=25, limit_c=45, time_constant_s=100), Sleep(sleep_w=0.1, wake_ms=100))


@dataclass(frozen=True)
class Fixed(DeviceModel):
    """A latency and an energy, whatever is asked."""

    latency: float
    energy: float
    key: str = "fixed/onnxruntime"
    memory_bytes: int = 10**9
    tier: str = "public-calibrated"

    def cost(self, graph: ModelGraph, shapes: Shapes) -> dict[str, CostArray]:
        def array(value: float, tier: str) -> CostArray:
            return CostArray(np.array([value]), np.array([value / 2]), np.array([value * 2]), tier)

        return {"latency_ms": array(self.latency, self.tier), "peak_memory_bytes": array(1e6, self.tier), "energy_mj": array(self.energy, self.tier)}

    def bounds(self, graph: ModelGraph) -> Sequence[tuple[str, str, float]]:
        return []


def priced(model: DeviceModel, graph: ModelGraph, **options: Any) -> dict[str, CostArray]:
    return Powered(model, BUDGET, **options).cost(graph, graph.baseline())


def test_a_cool_load_keeps_its_speed_and_energy(graph: ModelGraph) -> None:
    costs = priced(Fixed(10.0, 20.0), graph)
    assert set(costs) == set(PREDICTED) - set(GENERATING)
    assert costs["energy_mj"].value == 20.0
    assert costs["sustained_latency_ms"].value == costs["latency_ms"].value == 10.0


def test_energy_is_capped_at_what_can_be_held_and_the_excess_slows_the_device_down(graph: ModelGraph) -> None:
    costs = priced(Fixed(10.0, 80.0), graph)
    assert costs["energy_mj"].value == pytest.approx(4.0 * 10.0)
    assert costs["sustained_latency_ms"].value > 1.3 * costs["latency_ms"].value
    assert costs["sustained_latency_ms"].low <= costs["sustained_latency_ms"].value <= costs["sustained_latency_ms"].high


def test_energy_is_an_estimate_even_where_latency_was_measured(graph: ModelGraph) -> None:
    costs = priced(Fixed(10.0, 20.0), graph)
    assert {name: cost.tier for name, cost in costs.items()} == {
        "latency_ms": "public-calibrated",
        "peak_memory_bytes": "public-calibrated",
        "energy_mj": "spec-only",
        "sustained_latency_ms": "spec-only",
        "energy_per_hour_mwh": "spec-only",
    }


def test_an_hour_adds_up() -> None:
    one, none = np.array([100.0]), 1e-9
    asleep = hourly_mwh(one, np.array([300.0]), none, BUDGET)
    assert asleep == pytest.approx(0.1 * 3.6e6 / 3600)
    sixty = hourly_mwh(one, np.array([300.0]), 60, BUDGET)
    assert sixty == pytest.approx((60 * 300 + 60 * 100 * 1.0 + (3.6e6 - 60 * 200) * 0.1) / 3600)
    # At 20 requests a second there is no time to sleep, and at 20 no time for all of them either.
    often = hourly_mwh(one, np.array([300.0]), 8 * 3600, BUDGET)
    assert often == pytest.approx((8 * 3600 * 300 + (3.6e6 - 8 * 3600 * 100) * 1.0) / 3600)
    always = hourly_mwh(one, np.array([300.0]), 20 * 3600, BUDGET)
    assert always == pytest.approx(36000 * 300 / 3600)


def test_more_requests_take_more_energy(graph: ModelGraph) -> None:
    hours = [priced(Fixed(10.0, 20.0), graph, requests_per_hour=n)["energy_per_hour_mwh"].value[0] for n in (1, 60, 3600, 36000)]
    assert hours == sorted(hours)
    assert hours[-1] > 2 * hours[0]


def test_a_lower_power_mode_is_slower_and_takes_less_power(graph: ModelGraph) -> None:
    full, balanced, eco = (device_named(f"galaxy-s24/litert{mode}").cost(graph, graph.baseline()) for mode in ("", ":balanced", ":eco"))
    latencies = [costs["latency_ms"].value[0] for costs in (full, balanced, eco)]
    assert latencies == sorted(latencies)
    assert 1.5 < latencies[2] / latencies[0] <= 2.0
    watts = [costs["energy_mj"].value[0] / costs["latency_ms"].value[0] for costs in (full, balanced, eco)]
    assert watts == sorted(watts, reverse=True)


def test_a_phone_under_a_heavy_network_throttles_and_a_data_centre_card_does_not(graph: ModelGraph) -> None:
    model = device_named("galaxy-s24/litert")
    assert isinstance(model, Powered)
    small = replace(model, budget=replace(model.budget, sustained_w=1.0)).cost(graph, graph.baseline())
    assert small["sustained_latency_ms"].value > small["latency_ms"].value
    card = device_named("a100/onnxruntime").cost(graph, graph.baseline())
    assert card["sustained_latency_ms"].value == card["latency_ms"].value
