"""What lies in a ``.pte`` file: bytes of weights, and which kernels run the operators.

A program is a flatbuffer: a list of calls of portable kernels and of delegates, with the constants that portable kernels read. Each delegate is a graph in a
flatbuffer of XNNPACK's, whose constants (weights, biases, scales) are named data of the program, by the digest of their content.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from compressors.errors import UserError
from compressors.targets.executorch_quiet import quiet
from compressors.targets.executorch_session import MISSING

__all__ = ["executed_operators", "weight_bytes"]

_STORED = {0: 1, 1: 1, 5: 2, 6: 4}
"""Bytes of an element, by ``ScalarType``: bytes (packed or not), halves and floats. Integers of 64 bits are positions, no weights."""
_SINGLE = 4
_HEADER = b"XH00"


def weight_bytes(path: Path) -> int:
    """Bytes of weights, scales and biases: every constant but single numbers and tables of 64-bit integers. What is equal is stored once."""
    loaded = _loaded(path)
    named = [len(buffer) for buffer in (loaded.named_data.buffers if loaded.named_data else [])]
    constants: dict[int, int] = {}
    for value in loaded.program.execution_plan[0].values:
        tensor = value.val
        if type(tensor).__name__ == "Tensor" and tensor.data_buffer_idx and tensor.allocation_info is None and int(tensor.scalar_type) in _STORED:
            # Not the length of the buffer, which is filled up to 16 bytes.
            constants[tensor.data_buffer_idx] = _STORED[int(tensor.scalar_type)] * math.prod(tensor.sizes)
    return sum(size for size in (*named, *constants.values()) if size > _SINGLE)


def executed_operators(path: Path) -> Counter[str]:
    """How many of each operator the runtime executes.

    XNNPACK's are named ``xnnpack.Conv2d[qint8 x qcint8]``, with the type that enters and that of the weight; what fell back to ExecuTorch's own kernels
    ``portable.aten::slice_copy``; ``xnnpack.delegate`` counts the calls of XNNPACK as a whole, between which tensors are handed over.
    """
    loaded = _loaded(path)
    program, found = loaded.program, Counter[str]()
    plan = program.execution_plan[0]
    for instruction in plan.chains[0].instructions:
        call = instruction.instr_args
        if type(call).__name__ == "KernelCall":
            found[f"portable.{plan.operators[call.op_index].name}"] += 1
        elif type(call).__name__ == "DelegateCall":
            found["xnnpack.delegate"] += 1
            found += _delegated(bytes(program.backend_delegate_data[plan.delegates[call.delegate_index].processed.index].data))
    return found


def _loaded(path: Path) -> Any:
    try:
        with quiet():
            from executorch.exir._serialize._program import deserialize_pte_binary
    except ImportError as error:
        raise UserError(MISSING) from error
    try:
        return deserialize_pte_binary(path.read_bytes())
    except Exception as error:
        # The reader has no class of its own: parts that do not fit raise whatever they come across.
        raise UserError(f"{path}: not a program of ExecuTorch: {error}") from error


def _delegated(blob: bytes) -> Counter[str]:
    from executorch.backends.xnnpack import serialization
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    if blob[XNNHeader.MAGIC_OFFSET] != _HEADER:
        return Counter()
    header = XNNHeader.from_bytes(blob[: XNNHeader.EXPECTED_LENGTH])
    schema = Path(str(serialization.__path__[0])) / "schema.fbs"
    with tempfile.TemporaryDirectory() as folder:
        # XNNPACK's reader takes either; the schema for writing names every field.
        binary = Path(folder) / "graph.bin"
        binary.write_bytes(blob[header.flatbuffer_offset : header.flatbuffer_offset + header.flatbuffer_size])
        _flatc_decompile(folder, str(schema), str(binary), ["--raw-binary"])
        # Bounds of activations are infinite, which is no JSON as it is written.
        graph = json.loads(re.sub(r":\s*-?(inf|nan)\b", ": null", (Path(folder) / "graph.json").read_text()))
    types = {}
    for value in graph["xvalues"]:
        tensor = value["xvalue_union"].get("tensor_value", value["xvalue_union"])
        types[tensor["id_out"]] = str(tensor["datatype"]).removeprefix("xnn_datatype_")
    return Counter(_named(node, types) for node in graph["xnodes"])


def _named(node: dict[str, Any], types: dict[int, str]) -> str:
    fields = node["xnode_union"]
    first = next((fields[name] for name in ("input1_id", "input_id") if name in fields), None)
    read = [types.get(n, "?") for n in (first, fields.get("filter_id")) if n is not None]
    return f"xnnpack.{node['xnode_union_type'].removeprefix('XNN')}[{' x '.join(read)}]"
