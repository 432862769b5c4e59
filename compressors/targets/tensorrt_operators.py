"""Which operators of an ONNX file TensorRT does not accept.

Sources: the operator table of onnx-tensorrt for TensorRT 10.15 (opsets 9 to 24; ``docs/operators.md`` of github.com/onnx/onnx-tensorrt), and "Quantization
schemes" of NVIDIA's TensorRT documentation: only symmetric quantization, 8-bit integers as INT8, 4-bit integers for weights only, in blocks of 64 or 128.
Nothing is built or run here: TensorRT may still refuse shapes, or prefer other placements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

__all__ = ["TENSORRT_VERSION", "tensorrt_problems"]

TENSORRT_VERSION = "10.15"
_OPSETS = (9, 24)
_INT4_BLOCKS = (64, 128)

# Restrictions of an operator's attributes are not listed; unquantized models of our exporters stay inside them.
_ACCEPTED = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization BlackmanWindow Cast CastLike Ceil Celu Clip Concat
    Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DeformConv DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike
    Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization
    GRU HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity If ImageScaler InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less
    LessOrEqual Log LogSoftmax Loop LRN LSTM LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg NonMaxSuppression
    NonZero Not OneHot Or Pad ParametricSoftplus Pow PRelu QuantizeLinear RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence
    RMSNormalization RNN RoiAlign RotaryEmbedding Round STFT ScaledTanh Scan Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size
    Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh TensorScatter ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze
    Upsample Where Xor
    """.split()  # noqa: SIM905 - the table as it is published
)

_QUANTIZED = {TensorProto.INT8: "INT8", TensorProto.INT4: "INT4"}
# Older versions of onnx lack the narrowest.
_OTHER_INTEGERS = {TensorProto.DataType.Value(n): n for n in ("UINT8", "UINT4", "INT2", "UINT2", "INT16", "UINT16") if n in TensorProto.DataType.keys()}  # noqa: SIM118 - no mapping


def tensorrt_problems(path: Path) -> list[str]:
    """What TensorRT would not accept, a line for each kind with its count and first node; none where every operator is on its list."""
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    found: dict[str, list[str]] = {}
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if not _OPSETS[0] <= opset <= _OPSETS[1]:
        found[f"opset {opset}; TensorRT {TENSORRT_VERSION} reads {_OPSETS[0]} to {_OPSETS[1]}"] = []
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        for problem in _problems(node, stored):
            found.setdefault(problem, []).append(node.name or node.output[0])
    return [f"{problem} ({len(nodes)}, first {nodes[0]})" if nodes else problem for problem, nodes in found.items()]


def _problems(node: onnx.NodeProto, stored: Mapping[str, TensorProto]) -> Iterator[str]:
    if node.domain not in ("", "ai.onnx"):
        yield f"{node.domain}.{node.op_type} is no operator of the ONNX standard"
    elif node.op_type not in _ACCEPTED:
        yield f"{node.op_type} is not supported"
    elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        yield from _quantization(node, stored)
    elif node.op_type in ("Cast", "Gather") and node.input[0] in stored:
        kind = stored[node.input[0]].data_type
        name = {**_QUANTIZED, **_OTHER_INTEGERS}.get(kind)
        if name is not None and not (node.op_type == "Cast" and name == "UINT8"):
            yield f"{node.op_type} of stored {name}: only DequantizeLinear reads quantized types"


def _quantization(node: onnx.NodeProto, stored: Mapping[str, TensorProto]) -> Iterator[str]:
    zero = stored.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    weight = stored.get(node.input[0])
    kind = zero.data_type if zero is not None else weight.data_type if weight is not None else None
    if len(node.input) > 2 and node.input[2] and zero is None:
        yield f"{node.op_type} with a zero point that is computed; scales and zero points must be constants"
    if kind in _OTHER_INTEGERS:
        yield f"{node.op_type} of {_OTHER_INTEGERS[kind]}; accepted: INT8, and INT4 for weights"
    elif kind == TensorProto.INT32:
        yield f"{node.op_type} of INT32, such as a quantized bias; accepted: INT8, and INT4 for weights"
    if zero is not None and np.any(numpy_helper.to_array(zero)):
        yield f"{node.op_type} with a zero point that is not zero"
    if kind == TensorProto.INT4:
        block = next((a.i for a in node.attribute if a.name == "block_size"), 0)
        if weight is None:
            yield f"{node.op_type} of INT4 activations; accepted: weights"
        elif block not in _INT4_BLOCKS:
            yield f"{node.op_type} of INT4 weights {f'in blocks of {block}' if block else 'without blocks'}; accepted: blocks of 64 or 128"
