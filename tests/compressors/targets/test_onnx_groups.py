from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch

from compressors.targets.onnx_groups import packed, unpacked
from compressors.targets.onnx_session import optimised_operators

from .conftest import TOKENS, bert, llama

IDS = {"input_ids": TOKENS["input_ids"]}
GROUPS = {"granularity": 32, "mode": "dynamic"}


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packing_is_undone_by_unpacking(bits: int) -> None:
    values = torch.randint(0, 2**bits, (3, 5), generator=torch.Generator().manual_seed(0))
    stored = packed(values, bits)
    assert stored.dtype == torch.uint8
    assert stored.shape == (3, -(-5 * bits // 8))
    assert torch.equal(unpacked(stored, bits, 5), values.float())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_matrices_in_groups_run_packed_and_embeddings_are_read_packed(exported: Any, bits: int, symmetric: bool) -> None:
    made = exported(bert(), TOKENS, {**GROUPS, "weight_bits": bits, "symmetric": symmetric})
    operators = optimised_operators(made.path)
    # Query, key, value, attention output, two of the feed-forward, pooler and classifier; two of three embeddings have groups of whole rows, as has the third.
    assert operators["MatMulNBits"] == 8
    assert operators["GatherBlockQuantized"] == 3
    assert operators["MatMul"] + operators["Gemm"] + operators["FusedMatMul"] <= 2, "attention itself"
    assert made.file_bytes == made.priced_bytes
    ours, theirs = made.both({key: torch.cat([value, value.flip(-1)]) for key, value in TOKENS.items()})
    np.testing.assert_allclose(ours, theirs, atol=2e-3 * np.ptp(ours) + 1e-4)


@pytest.mark.parametrize(("bits", "symmetric"), [(2, False), (4, True), (8, False)])
def test_float_activations_cost_nothing_at_run_time(exported: Any, bits: int, symmetric: bool) -> None:
    made = exported(bert(), TOKENS, {"granularity": 32, "weight_bits": bits, "activation_bits": "float", "symmetric": symmetric})
    operators = optimised_operators(made.path)
    assert operators["MatMulNBits"] == operators["BitShift"] == operators["Sub"] == 0, "weights are unpacked when the file is loaded"
    assert operators["GatherBlockQuantized"] == 3, "tables are unpacked where they are read"
    assert made.file_bytes == made.priced_bytes
    ours, theirs = made.both(TOKENS)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_tied_table_in_groups_is_stored_once(exported: Any) -> None:
    made = exported(llama(tied=True), IDS, {**GROUPS, "weight_bits": 4})
    table = [t for t in made.proto().graph.initializer if t.data_type == onnx.TensorProto.UINT8 and 500 in t.dims]
    assert len(table) == 1
    assert made.file_bytes == made.priced_bytes
    ours, theirs = made.both(IDS)
    np.testing.assert_allclose(ours, theirs, atol=2e-3 * np.ptp(ours))


def test_what_groups_do_not_divide_has_one_scale_a_channel_and_the_log_says_so(exported: Any) -> None:
    made = exported(bert(), TOKENS, {**GROUPS, "granularity": 128, "weight_bits": 4})
    assert all("one scale a channel: groups of 128 do not divide its inputs" in line for line in made.lines)
    assert optimised_operators(made.path)["MatMulNBits"] == 0
    assert made.file_bytes == made.priced_bytes


def test_static_ranges_leave_matrices_in_groups_float(exported: Any) -> None:
    made = exported(bert(), TOKENS, {"granularity": 32, "weight_bits": 4})
    assert "activations stay float: kernels of weights in groups take the ranges of activations at run time (mode: dynamic)" in made.lines[0]
    assert made.file_bytes == made.priced_bytes
    ours, theirs = made.both(TOKENS)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
