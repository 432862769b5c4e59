from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compressors.errors import UserError
from compressors.graph import ModelGraph, Shapes, trace
from evaluators.devices import device_named, resolve_device
from evaluators.devices.energy import Powered
from evaluators.devices.names import parse_device
from evaluators.devices.placement import Placed, place

BOTH = "galaxy-s24.npu+cpu/litert"


def seconds(times: Any, present: Any, moved: Any, enter: Any, per_byte: Any, where: tuple[int, ...], c: int) -> float:
    """Of one placement, added up by hand."""
    total, last = 0.0, None
    for k, unit in enumerate(where):
        if present[k, c]:
            if last is None:
                total += enter[unit]
            elif unit != last:
                total += enter[unit] + per_byte[last, unit] * moved[k, c]
            total += times[unit, k, c]
            last = unit
    return total


def test_no_placement_is_faster_than_the_one_that_is_found() -> None:
    rng = np.random.default_rng(0)
    units, kernels, candidates = 3, 6, 8
    times = rng.exponential(1.0, (units, kernels, candidates))
    times[0, 2] = np.inf
    present = (rng.random((kernels, candidates)) < 0.8).astype(float)
    moved, enter = rng.exponential(10.0, (kernels, candidates)), np.array([0.4, 0.1, 0.2])
    per_byte = np.where(np.eye(units, dtype=bool), 0.0, 0.05)
    found = place(np.where(present > 0, times, 0.0), present, moved, enter, per_byte)
    for c in range(candidates):
        assert present[:, c].any()
        best = min(seconds(times, present, moved, enter, per_byte, where, c) for where in itertools.product(range(units), repeat=kernels))
        mine = tuple(int(u) for u in found.unit[:, c])
        assert seconds(times, present, moved, enter, per_byte, mine, c) == pytest.approx(best)
        first = enter[found.unit[0, c]]
        kernels_ms = sum(times[mine[k], k, c] for k in range(kernels) if present[k, c])
        assert first + kernels_ms + found.transfer[:, c].sum() == pytest.approx(best)


def placed(key: str = BOTH) -> Placed:
    model = device_named(key)
    assert isinstance(model, Powered)
    assert isinstance(model.model, Placed)
    return model.model


def test_two_units_are_never_slower_than_either(graph: ModelGraph, bits: Callable[..., Shapes]) -> None:
    model = placed()
    batch = Shapes.concatenate([graph.baseline(), bits(graph, 8, 8)] * 200)
    both = model.cost(graph, batch)["latency_ms"].value
    alone = [unit.model.cost(graph, batch)["latency_ms"].value for unit in model.units]
    assert (both <= np.minimum(*alone) + 1e-12).all()
    np.testing.assert_allclose(both[:2], both[-2:])


def test_a_model_that_stays_on_one_unit_costs_what_it_costs_there(graph: ModelGraph) -> None:
    model = placed()
    (npu, cpu) = model.units
    slow = replace(cpu, model=replace(cpu.model, rates=cpu.model.rates.model_copy(update={"overhead_ms": 100.0})))
    alone, found = npu.model.cost(graph, graph.baseline()), replace(model, units=(npu, slow)).cost(graph, graph.baseline())
    for name in ("latency_ms", "energy_mj", "peak_memory_bytes"):
        assert found[name].value[0] == pytest.approx(alone[name].value[0]), name
    assert found["latency_ms"].tier == model.tier == max((npu.model.tier, cpu.model.tier), key=("public-calibrated", "transferred", "spec-only").index)


@pytest.fixture(scope="module")
def lookup() -> ModelGraph:
    torch.manual_seed(0)
    layers = [nn.Linear(512, 512) for _ in range(8)]
    return trace(nn.Sequential(nn.Embedding(1000, 512), *layers).eval(), (torch.zeros(1, 512, dtype=torch.int64),))


def test_what_a_unit_has_no_kernels_for_goes_to_the_last_one_and_its_output_is_moved(lookup: ModelGraph) -> None:
    model = placed("galaxy-s24.gpu+cpu/litert")
    assert model.units[0].absent == {"embedding"}
    # Both processors on one memory: what the graphics processor multiplies faster is worth the way there.
    fast = replace(model.units[0], model=replace(model.units[0].model, rates=_faster(model.units[0].model.rates)))
    found = replace(model, units=(fast, model.units[1])).bounds(lookup)
    assert [(k.bound, k.unit) for k in found if k.bound == "transfer"] == [("transfer", "gpu")]
    assert [k.unit for k in found if k.bound != "transfer"] == ["cpu", *["gpu"] * 8]
    assert [k.name for k in found][1] == [k.name for k in found][2], "the first layer waits for what it reads"


def _faster(rates: Any) -> Any:
    compute = {p: {c: r.model_copy(update={"gmacs": 1e6, "half_outputs": 0.0}) for c, r in table.items()} for p, table in rates.compute.items()}
    return rates.model_copy(update={"compute": compute, "launch_us": {"default": 0.1}, "overhead_ms": 0.01})


def test_bounds_add_up_to_the_latency(lookup: ModelGraph) -> None:
    model = placed("galaxy-s24.gpu+cpu/litert")
    found = model.bounds(lookup)
    first = next(unit for unit in model.units if unit.name == found[0].unit)
    total = sum(k.ms for k in found) + first.model.rates.overhead_ms
    assert total == pytest.approx(model.cost(lookup, lookup.baseline())["latency_ms"].value[0])


def test_units_are_written_with_a_plus() -> None:
    assert resolve_device("galaxy-s24.npu+cpu/litert:2t") == "galaxy-s24.npu+cpu/litert:2t"
    assert parse_device(BOTH).units == ("npu", "cpu")
    assert resolve_device("galaxy-s24.gpu+npu") == "galaxy-s24.gpu+npu/litert", "the only runtime of both"
    for text, said in (
        ("galaxy-s24.npu+tpu/litert", "has no unit 'tpu'; accepted: cpu, gpu, npu"),
        ("galaxy-s24.npu+npu/litert", "lists the unit 'npu' twice"),
        ("galaxy-s24.gpu+cpu/onnxruntime", "has no runtime 'onnxruntime'; accepted: litert"),
        ("galaxy-s24.npu+gpu/litert:2t", "threads apply to a cpu only"),
    ):
        with pytest.raises(UserError, match=said):
            parse_device(text)
