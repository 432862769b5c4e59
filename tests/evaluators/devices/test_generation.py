from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from compressors.graph import ModelGraph, Shapes, generation_entries, trace
from evaluators.devices import device_named
from evaluators.devices.generation import in_place
from evaluators.devices.profile import load_profile
from tests.conformance.families import build


def traced(family: str = "llama", **tokens: int) -> ModelGraph:
    model, inputs = build(family)
    inputs = {name: value[:1] for name, value in inputs.items()}
    return trace(model, inputs, check_cuts=False, programs=generation_entries(model, inputs, **tokens))


@pytest.fixture(scope="module")
def llama() -> ModelGraph:
    return traced(prompt_tokens=40, new_tokens=20)


def costs(graph: ModelGraph, key: str = "cortex-a53-2gb/onnxruntime", shapes: Shapes | None = None) -> dict[str, Any]:
    return {name: cost.value for name, cost in device_named(key).cost(graph, graph.baseline() if shapes is None else shapes).items()}


def test_the_prompt_and_a_step_are_priced_as_their_programs(llama: ModelGraph) -> None:
    found = costs(llama)
    plain = device_named("cortex-a53-2gb/onnxruntime")
    assert found["ttft_ms"] == plain.cost(llama.by_program["prefill"], llama.baseline())["latency_ms"].value
    assert found["ms_per_token"] == plain.cost(llama.by_program["decode"], llama.baseline())["latency_ms"].value
    assert found["latency_ms"] < found["ttft_ms"], "ten tokens, a prompt of forty"


def test_a_prompt_as_long_as_the_sequence_is_the_forward_pass() -> None:
    graph = traced()
    assert [program.name for program in graph.programs] == ["decode"]
    found = costs(graph)
    assert found["ttft_ms"] == found["latency_ms"]


def test_the_step_stands_in_the_middle_and_memory_holds_the_whole_cache(llama: ModelGraph) -> None:
    (decode,) = (p for p in llama.programs if p.name == "decode")
    cache = next(t for t in decode.tensors if t.name.startswith("past_key_values"))
    assert cache.dims[2].evaluate(llama.baseline().widths).item() == 40 + 20 // 2
    assert decode.growth == pytest.approx(60 / 50)


def test_a_longer_cache_takes_longer_and_more_memory(llama: ModelGraph) -> None:
    longer = traced(prompt_tokens=4000, new_tokens=20)
    short, long = costs(llama), costs(longer)
    assert long["ms_per_token"] > 1.2 * short["ms_per_token"]
    assert long["peak_memory_bytes"] > short["peak_memory_bytes"]


def test_a_step_streams_its_weights_so_that_fewer_bits_are_faster(llama: ModelGraph) -> None:
    base = llama.baseline()
    packed = replace(
        base,
        weight_bits=np.full_like(base.weight_bits, 4),
        activation_bits=np.full_like(base.activation_bits, 8),
        granularity=np.full_like(base.granularity, 32),
        dynamic=np.array([True]),
    )
    found = costs(llama, "galaxy-s24.npu/litert", Shapes.concatenate([base, packed]))
    assert found["ms_per_token"][1] < found["ms_per_token"][0]


def test_candidates_are_priced_alike_alone_and_in_a_batch(llama: ModelGraph) -> None:
    base = llama.baseline()
    narrow = base.widths.copy()
    for i, axis in enumerate(llama.axes):
        if axis.fixed is None and axis.kind == "ffn":
            narrow[:, i] = axis.size // 2
    rows = [base, replace(base, widths=narrow)]
    together = costs(llama, shapes=Shapes.concatenate(rows))
    for name in ("ttft_ms", "ms_per_token"):
        np.testing.assert_allclose(together[name], [costs(llama, shapes=row)[name][0] for row in rows])
        assert together[name][1] < together[name][0]


def test_a_server_answers_after_a_round_trip_and_streams_then(llama: ModelGraph) -> None:
    model, network = device_named("remote/onnxruntime"), load_profile("remote").network
    assert network is not None
    there, here = (m.cost(llama, llama.baseline()) for m in (model, model.model))  # type: ignore[attr-defined]
    assert there["ttft_ms"].value - here["ttft_ms"].value == pytest.approx(network.rtt_ms)
    assert there["ms_per_token"].value == here["ms_per_token"].value


def test_other_models_have_no_tokens(graph: ModelGraph, device: Callable[..., Any]) -> None:
    assert not {"ttft_ms", "ms_per_token"} & set(device("raspberry-pi-5").cost(graph, graph.baseline()))
    assert not {"ttft_ms", "ms_per_token"} & set(costs(traced("t5"))), "an encoder-decoder reads in another program"


def moved(graph: ModelGraph, model: Any) -> float:
    """Elements that the kernels of a step read and write beside their weights."""
    return float(model.table(graph.by_program["decode"], graph.baseline()).moved.sum())


def test_only_onnx_runtime_copies_the_cache_in_every_step() -> None:
    short, long = traced(prompt_tokens=10), traced(prompt_tokens=1010)
    copying, appending = (device_named(f"cortex-a53-2gb/{runtime}").model for runtime in ("onnxruntime", "litert"))  # type: ignore[attr-defined]
    # Keys and values of 4 groups of 4, 2 layers: read once where heads share them, and beside them scores and masks.
    cache = 2 * 2 * 4 * 4 * 1000
    assert cache <= moved(long, appending) - moved(short, appending) < 2 * cache
    assert moved(long, copying) - moved(short, copying) > 4 * cache
    step = long.by_program["decode"]
    assert appending.target.stored_bytes(in_place(step), step.baseline()) == copying.target.stored_bytes(step, step.baseline())
    assert in_place(step) is in_place(step)
    assert in_place(long) is long


def test_rates_may_tell_products_of_one_row_from_others(llama: ModelGraph) -> None:
    model = device_named("cortex-a53-2gb/onnxruntime").model  # type: ignore[attr-defined]
    slow = {p: {**table, "gemv": table["gemm"].model_copy(update={"gmacs": table["gemm"].gmacs / 50})} for p, table in model.rates.compute.items()}
    before, after = (m.cost(llama, llama.baseline()) for m in (model, replace(model, rates=model.rates.model_copy(update={"compute": slow}))))
    assert after["ms_per_token"].value > 2 * before["ms_per_token"].value
    assert after["ttft_ms"].value == before["ttft_ms"].value
    table = model.table(llama.by_program["decode"], llama.baseline())
    assert {p.op_class for p in table.products} - {"attention", "matmul"} == {"gemm"}
    assert {p.op_class for p in table.row_products} - {"attention", "matmul"} == {"gemv"}
