"""The microbenchmarks: chains of one kernel, large and small, in each precision, as ONNX models built by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.calibration.graph_builder import GraphBuilder

__all__ = ["Probe", "probes"]


@dataclass(frozen=True)
class Probe:
    """A model that runs one kernel ``repeats`` times.

    Attributes:
        op_class: of the kernel.
        precision: ``fp32``, ``int8``, ``int8_dynamic`` or ``int4``; of the activations for kernels without arithmetic.
        macs, weights, inputs, outputs: of one kernel, in elements.
        model: serialised ONNX.
        feed: its inputs.
        element_bytes: moved for each element of input and output, for kernels without arithmetic.
        streams: whether it measures weights that no cache holds.
        fixed_cost: whether it measures what one inference costs beside its kernels.
    """

    op_class: str
    precision: str
    macs: float
    weights: float
    inputs: float
    outputs: float
    repeats: int
    model: bytes
    feed: dict[str, NDArray[Any]]
    element_bytes: float = 4.0
    streams: bool = False
    fixed_cost: bool = False


# (class, channels in, channels out, image side, kernel, stride, groups)
_CONVOLUTIONS = (
    ("conv3x3", 3, 16, 32, 3, 1, 1),
    ("conv3x3", 16, 16, 32, 3, 1, 1),
    ("conv3x3", 10, 10, 32, 3, 1, 1),
    ("conv3x3", 21, 21, 16, 3, 1, 1),
    ("conv3x3", 45, 45, 8, 3, 1, 1),
    ("conv3x3", 32, 32, 16, 3, 1, 1),
    ("conv3x3", 64, 64, 8, 3, 1, 1),
    ("conv3x3", 40, 40, 14, 3, 1, 1),
    ("conv3x3", 64, 64, 28, 3, 1, 1),
    ("conv3x3", 128, 128, 14, 3, 1, 1),
    ("conv", 16, 32, 32, 3, 2, 1),
    ("conv", 64, 128, 16, 3, 2, 1),
    ("conv", 12, 27, 32, 3, 2, 1),
    ("conv", 32, 32, 16, 5, 1, 1),
    ("conv", 3, 32, 112, 7, 2, 1),
    ("pointwise", 16, 16, 32, 1, 1, 1),
    ("pointwise", 32, 32, 16, 1, 1, 1),
    ("pointwise", 50, 50, 14, 1, 1, 1),
    ("pointwise", 64, 64, 28, 1, 1, 1),
    ("pointwise", 192, 192, 14, 1, 1, 1),
    ("pointwise", 256, 256, 7, 1, 1, 1),
    ("depthwise", 32, 32, 28, 3, 1, 32),
    ("depthwise", 96, 96, 14, 3, 1, 96),
    ("depthwise", 128, 128, 28, 3, 1, 128),
    ("grouped", 64, 64, 14, 3, 1, 4),
    ("grouped", 128, 128, 14, 3, 1, 8),
)
# (rows, depth, width)
_PRODUCTS = (
    (1, 64, 10),
    (1, 64, 64),
    (1, 256, 256),
    (1, 384, 384),
    (1, 768, 768),
    (8, 64, 64),
    (16, 384, 384),
    (32, 384, 1536),
    (64, 128, 128),
    (128, 64, 192),
    (128, 384, 384),
    (128, 768, 768),
)
# (heads, sequence, head size)
_ATTENTIONS = ((12, 32, 32), (12, 128, 32), (8, 64, 64), (4, 16, 16))
_VECTORS = ((1, 32, 128), (1, 128, 384), (4, 256, 384))


def probes(seed: int = 0) -> Iterator[Probe]:
    """Every microbenchmark; weights and inputs are random."""
    rng = np.random.default_rng(seed)
    for shape in _CONVOLUTIONS:
        for precision in ("fp32", "int8"):
            yield _convolution(rng, precision, *shape)
    for product in _PRODUCTS:
        for precision in ("fp32", "int8", "int8_dynamic", "int4"):
            if precision != "int4" or product[1] % 32 == 0:
                yield _product(rng, precision, *product)
    yield replace(_product(rng, "fp32", 1, 4096, 6144, repeats=1), streams=True)
    for repeats in (1, 33):
        yield replace(_vector(rng, "elementwise", (1, 1, 16), repeats=repeats), fixed_cost=True)
    for attention in _ATTENTIONS:
        yield _attention(rng, *attention)
        yield _batched_product(rng, *attention)
    for vector in _VECTORS:
        for op_class in ("elementwise", "activation", "normalization", "softmax", "movement", "reduction", "quantize"):
            yield _vector(rng, op_class, vector)
        yield _vector(rng, "elementwise", vector, integer=True)
    for side in (16, 56):
        yield _pooling(rng, side, integer=False)
        yield _pooling(rng, side, integer=True)
    yield _embedding(rng)


def _convolution(rng: np.random.Generator, precision: str, op_class: str, cin: int, cout: int, side: int, kernel: int, stride: int, groups: int) -> Probe:
    builder = GraphBuilder(rng, integer=precision == "int8")
    repeats = 4 if cin == cout and stride == 1 else 1
    value = builder.input((1, cin, side, side))
    for _ in range(repeats):
        value = builder.convolution(value, cin, cout, kernel, stride, groups)
    out = -(-side // stride)
    outputs = cout * out * out
    depth = cin // groups * kernel * kernel
    return Probe(op_class, precision, outputs * depth, cout * depth, cin * side * side, outputs, repeats, *builder.finish(value))


def _product(rng: np.random.Generator, precision: str, rows: int, depth: int, width: int, repeats: int = 2) -> Probe:
    builder = GraphBuilder(rng, integer=precision == "int8")
    value = builder.input((1, rows, depth))
    for i in range(repeats):
        # There and back, so that the chain closes.
        k, n = (depth, width) if i % 2 == 0 else (width, depth)
        if precision == "int8_dynamic":
            value = builder.dynamic_product(value, k, n)
        elif precision == "int4":
            value = builder.packed_product(value, k, n) if k % 32 == 0 else builder.product(value, k, n)
        else:
            value = builder.product(value, k, n)
    outputs = rows * (width + depth) / 2 if repeats > 1 else rows * width
    inputs = rows * (width + depth) / 2 if repeats > 1 else rows * depth
    return Probe("gemm", precision, rows * depth * width, depth * width, inputs, outputs, repeats, *builder.finish(value))


def _attention(rng: np.random.Generator, heads: int, sequence: int, size: int) -> Probe:
    """Masked attention as PyTorch exports it, with rows of NaN set to zero."""
    builder = GraphBuilder(rng, integer=False)
    value = builder.input((1, heads, sequence, size))
    mask, scale, zero = builder.constant((1, 1, sequence, sequence)), builder.constant(()), builder.constant(())
    repeats = 2
    for _ in range(repeats):
        transposed = builder.node("Transpose", [builder.node("Mul", [value, scale])], perm=[0, 1, 3, 2])
        scores = builder.node("Add", [builder.node("MatMul", [value, transposed]), mask])
        shares = builder.node("Softmax", [scores], axis=-1)
        value = builder.node("MatMul", [builder.node("Where", [builder.node("IsNaN", [shares]), zero, shares]), value])
    elements = heads * sequence * size
    return Probe("attention", "fp32", 2 * elements * sequence, 0, 3 * elements, elements, repeats, *builder.finish(value))


def _batched_product(rng: np.random.Generator, heads: int, sequence: int, size: int) -> Probe:
    builder = GraphBuilder(rng, integer=False)
    left = builder.input((1, heads, sequence, sequence))
    value = builder.constant((1, heads, sequence, size))
    repeats = 4
    for _ in range(repeats):
        value = builder.node("MatMul", [left, value])
    elements = heads * sequence * size
    return Probe("matmul", "fp32", elements * sequence, 0, heads * sequence * sequence + elements, elements, repeats, *builder.finish(value))


def _vector(rng: np.random.Generator, op_class: str, shape: tuple[int, ...], *, integer: bool = False, repeats: int = 6) -> Probe:
    builder = GraphBuilder(rng, integer=integer)
    value = builder.input(shape)
    other = value if integer else builder.constant(shape)
    elements = float(np.prod(shape))
    inputs, element_bytes = elements, 1.0 if integer else 4.0
    if op_class in ("movement", "quantize"):
        repeats = 1  # a second one would cancel the first
    for _ in range(repeats):
        if op_class == "elementwise":
            value, inputs = builder.add(value, other), 2 * elements
        elif op_class == "activation":
            value = builder.node("Gelu", [value])
        elif op_class == "normalization":
            # Behind a residual sum, as nearly always: the two become one kernel, which is much slower than the norm alone.
            summed = builder.add(value, other)
            value = builder.node("LayerNormalization", [summed, builder.constant(shape[-1:]), builder.constant(shape[-1:])], axis=-1)
        elif op_class == "softmax":
            value = builder.node("Softmax", [value], axis=-1)
        elif op_class == "movement":
            value = builder.node("Transpose", [value], perm=[0, 2, 1])
        elif op_class == "reduction":
            # The subtraction keeps the shape; its traffic is counted with it.
            value, inputs = builder.node("Sub", [value, builder.node("ReduceMean", [value], keepdims=1, axes=[-1])]), 2 * elements
        else:
            # There and back: input and output are each written as one and read as the other.
            value, element_bytes = builder.quantized_and_back(value), 5.0
    return Probe(op_class, "int8" if integer else "fp32", 0, 0, inputs, elements, repeats, *builder.finish(value), element_bytes)


def _pooling(rng: np.random.Generator, side: int, *, integer: bool) -> Probe:
    builder = GraphBuilder(rng, integer=integer)
    value, repeats = builder.input((1, 32, side, side)), 2
    for _ in range(repeats):
        value = builder.pool(value)
    # The mean of two kernels, the second on a quarter of the first's elements.
    elements = 32.0 * side * side * (1 + 1 / 4) / 2
    return Probe("pooling", "int8" if integer else "fp32", 0, 0, elements, elements / 4, repeats, *builder.finish(value), 1.0 if integer else 4.0)


def _embedding(rng: np.random.Generator) -> Probe:
    builder = GraphBuilder(rng, integer=False)
    table = builder.constant((8192, 384))
    value = builder.node("Gather", [table, builder.indices(128, 8192)], axis=0)
    return Probe("embedding", "fp32", 0, 0, 128 * 384, 128 * 384, 1, *builder.finish(value))
