"""The microbenchmarks: a short and a long chain of a kernel, in each precision, as ONNX models built by hand.

What the long one takes more is that of its kernels alone: what one inference costs, and turning inputs and outputs into the kernels' own layout, is in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.calibration.graph_builder import GraphBuilder
from evaluators.devices.kernel_time import GEMV

__all__ = ["Chain", "Probe", "probes"]

Chain = tuple[bytes, dict[str, NDArray[Any]]]
"""A serialised ONNX model and its inputs."""


@dataclass(frozen=True)
class Probe:
    """Kernels of one class, run ``repeats`` times more by one model than by another.

    Attributes:
        op_class: of the kernels.
        precision: ``fp32``, ``int8``, ``int8_dynamic`` or ``int4``; of the activations for kernels without arithmetic.
        macs, weights, inputs, outputs: ``[kernels]`` that are repeated together, in elements.
        repeats: how often.
        short, long: the two models.
        element_bytes: moved for each element of input and output, for kernels without arithmetic.
        streams: whether it measures weights that no cache holds.
        fixed_cost: whether the short one also tells what an inference costs beside its kernels.
    """

    op_class: str
    precision: str
    macs: tuple[float, ...]
    weights: tuple[float, ...]
    inputs: tuple[float, ...]
    outputs: tuple[float, ...]
    repeats: int
    short: Chain
    long: Chain
    element_bytes: float = 4.0
    streams: bool = False
    fixed_cost: bool = False


# (class, channels in, channels out, image side, kernel, stride, groups)
_CONVOLUTIONS = (
    ("conv3x3", 16, 16, 32, 3, 1, 1),
    ("conv3x3", 32, 32, 16, 3, 1, 1),
    ("conv3x3", 64, 64, 8, 3, 1, 1),
    ("conv3x3", 40, 40, 14, 3, 1, 1),
    ("conv3x3", 64, 64, 28, 3, 1, 1),
    ("conv3x3", 128, 128, 14, 3, 1, 1),
    ("conv3x3", 256, 256, 4, 3, 1, 1),
    ("conv3x3", 24, 72, 16, 3, 1, 1),
    ("conv3x3", 16, 8, 32, 3, 1, 1),
    ("conv3x3", 16, 12, 32, 3, 1, 1),
    ("conv3x3", 32, 20, 16, 3, 1, 1),
    ("conv3x3", 64, 44, 8, 3, 1, 1),
    ("conv3x3", 48, 36, 28, 3, 1, 1),
    ("conv3x3", 128, 92, 5, 3, 1, 1),
    ("conv3x3", 10, 10, 32, 3, 1, 1),
    ("conv3x3", 21, 21, 16, 3, 1, 1),
    ("conv3x3", 45, 45, 8, 3, 1, 1),
    ("conv3x3", 90, 90, 14, 3, 1, 1),
    ("conv3x3", 59, 59, 28, 3, 1, 1),
    ("conv3x3", 173, 210, 5, 3, 1, 1),
    ("conv3x3", 13, 30, 16, 3, 1, 1),
    ("conv3x3", 29, 58, 8, 3, 1, 1),
    ("conv3x3", 205, 230, 4, 3, 1, 1),
    ("conv", 16, 32, 32, 3, 2, 1),
    ("conv", 64, 128, 16, 3, 2, 1),
    ("conv", 12, 27, 32, 3, 2, 1),
    ("conv", 45, 90, 16, 3, 2, 1),
    ("conv", 202, 290, 8, 3, 2, 1),
    ("conv", 128, 256, 8, 3, 2, 1),
    ("conv", 64, 96, 28, 3, 2, 1),
    ("conv", 32, 32, 16, 5, 1, 1),
    ("conv", 3, 32, 112, 7, 2, 1),
    ("conv", 3, 24, 96, 3, 2, 1),
    ("pointwise", 16, 16, 32, 1, 1, 1),
    ("pointwise", 16, 96, 32, 1, 1, 1),
    ("pointwise", 24, 144, 20, 1, 1, 1),
    ("pointwise", 32, 12, 28, 1, 1, 1),
    ("pointwise", 20, 116, 14, 1, 1, 1),
    ("pointwise", 384, 64, 2, 1, 1, 1),
    ("pointwise", 64, 64, 28, 1, 1, 1),
    ("pointwise", 192, 192, 14, 1, 1, 1),
    ("pointwise", 64, 384, 7, 1, 1, 1),
    ("pointwise", 160, 960, 4, 1, 1, 1),
    ("pointwise", 96, 576, 14, 1, 1, 1),
    ("pointwise", 256, 256, 7, 1, 1, 1),
    ("pointwise", 160, 960, 1, 1, 1, 1),
    ("pointwise", 11, 90, 28, 1, 1, 1),
    ("pointwise", 50, 50, 14, 1, 1, 1),
    ("pointwise", 30, 207, 7, 1, 1, 1),
    ("pointwise", 51, 313, 14, 1, 1, 1),
    ("pointwise", 110, 517, 1, 1, 1, 1),
    ("pointwise", 173, 341, 7, 1, 1, 1),
    ("depthwise", 32, 32, 28, 3, 1, 32),
    ("depthwise", 96, 96, 14, 3, 1, 96),
    ("depthwise", 128, 128, 28, 3, 1, 128),
    ("depthwise", 576, 576, 7, 3, 1, 576),
    ("depthwise", 384, 384, 2, 3, 1, 384),
    ("depthwise", 960, 960, 4, 3, 1, 960),
    ("depthwise", 144, 144, 8, 3, 1, 144),
    ("depthwise", 192, 192, 14, 3, 1, 192),
    ("depthwise", 32, 32, 96, 3, 1, 32),
    ("depthwise", 960, 960, 1, 3, 1, 960),
    ("depthwise", 22, 22, 28, 3, 1, 22),
    ("depthwise", 101, 101, 14, 3, 1, 101),
    ("depthwise", 207, 207, 4, 3, 1, 207),
    ("depthwise", 497, 497, 1, 3, 1, 497),
    ("depthwise", 341, 341, 7, 3, 1, 341),
    ("depthwise", 46, 46, 8, 3, 1, 46),
    ("depthwise", 313, 313, 2, 3, 1, 313),
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
    (1, 1024, 2816),
    (8, 64, 64),
    (16, 384, 384),
    (32, 384, 1536),
    (24, 160, 384),
    (64, 128, 128),
    (128, 64, 192),
    (128, 384, 384),
    (128, 768, 768),
    (65, 192, 517),
    (197, 320, 901),
)
# (heads, sequence, head size)
_ATTENTIONS = ((12, 32, 32), (12, 128, 32), (8, 64, 64), (4, 16, 16), (5, 197, 64), (3, 65, 64))
_VECTORS = ((1, 32, 128), (1, 128, 384), (4, 256, 384))
_POOLED = (16, 56)


def probes(seed: int = 0) -> Iterator[Probe]:
    """Every microbenchmark; weights and inputs are random."""
    rng = np.random.default_rng(seed)
    for shape in _CONVOLUTIONS:
        for precision in ("fp32", "int8"):
            yield _convolution(rng, precision, *shape)
    for product in _PRODUCTS:
        for precision in ("fp32", "int8", "int8_dynamic", "int4"):
            if precision != "int4" or (product[1] % 32 == 0 and product[2] % 32 == 0):
                yield _product(rng, precision, *product)
    yield _streaming(rng)
    yield _vector(rng, "elementwise", (1, 1, 16), fixed_cost=True)
    for attention in _ATTENTIONS:
        yield _attention(rng, *attention)
        yield _batched_product(rng, *attention)
    for vector in _VECTORS:
        for op_class in ("elementwise", "activation", "normalization", "softmax", "movement", "reduction", "quantize"):
            yield _vector(rng, op_class, vector)
        yield _vector(rng, "elementwise", vector, integer=True)
    for side in _POOLED:
        yield _pooling(rng, side, integer=False)
        yield _pooling(rng, side, integer=True)
    yield _embedding(rng)


def _chain(rng: np.random.Generator, shape: tuple[int, ...], step: Callable[[GraphBuilder, str], str], steps: int, *, integer: bool = False) -> Chain:
    """A model that applies ``step`` to an input as often as told."""
    builder = GraphBuilder(rng, integer=integer)
    value = builder.input(shape)
    for _ in range(steps):
        value = step(builder, value)
    return builder.finish(value)


def _convolution(rng: np.random.Generator, precision: str, op_class: str, cin: int, cout: int, side: int, kernel: int, stride: int, groups: int) -> Probe:
    integer, out, image = precision == "int8", -(-side // stride), (1, cin, side, side)

    def there(builder: GraphBuilder, value: str) -> str:
        return builder.convolution(value, cin, cout, kernel, stride, groups)

    if stride == 1:
        # There and back, so that the chain closes.
        def step(builder: GraphBuilder, value: str) -> str:
            value = there(builder, value)
            return value if cin == cout else builder.convolution(value, cout, cin, kernel, stride, groups)

        repeats, short, long = 4, _chain(rng, image, step, 1, integer=integer), _chain(rng, image, step, 5, integer=integer)
        ways = ((cin, cout),) if cin == cout else ((cin, cout), (cout, cin))
    else:
        repeats, short, long = 1, _chain(rng, image, there, 0, integer=integer), _chain(rng, image, there, 1, integer=integer)
        ways = ((cin, cout),)
    macs = tuple(float(b * out * out * (a // groups) * kernel * kernel) for a, b in ways)
    weights = tuple(float(b * (a // groups) * kernel * kernel) for a, b in ways)
    inputs, outputs = tuple(float(a * side * side) for a, _ in ways), tuple(float(b * out * out) for _, b in ways)
    return Probe(op_class, precision, macs, weights, inputs, outputs, repeats, short, long)


def _product(rng: np.random.Generator, precision: str, rows: int, depth: int, width: int) -> Probe:
    def multiplied(builder: GraphBuilder, value: str, k: int, n: int) -> str:
        if precision == "int8_dynamic":
            return builder.dynamic_product(value, k, n)
        return builder.packed_product(value, k, n) if precision == "int4" else builder.product(value, k, n)

    def step(builder: GraphBuilder, value: str) -> str:
        return multiplied(builder, multiplied(builder, value, depth, width), width, depth)

    integer = precision == "int8"
    short, long = (_chain(rng, (1, rows, depth), step, steps, integer=integer) for steps in (1, 4))
    ends = (float(rows * depth), float(rows * width))
    op_class = GEMV if rows == 1 else "gemm"
    return Probe(op_class, precision, (float(rows * depth * width),) * 2, (float(depth * width),) * 2, ends, ends[::-1], 3, short, long)


def _streaming(rng: np.random.Generator, depth: int = 4096, width: int = 6144) -> Probe:
    builder = GraphBuilder(rng, integer=False)
    long = builder.finish(builder.product(builder.input((1, 1, depth)), depth, width))
    short = _chain(rng, (1, 1, depth), _nothing, 0)
    return Probe("gemm", "fp32", (float(depth * width),), (float(depth * width),), (float(depth),), (float(width),), 1, short, long, streams=True)


def _nothing(builder: GraphBuilder, value: str) -> str:  # noqa: ARG001 - a step's form
    return value


def _attention(rng: np.random.Generator, heads: int, sequence: int, size: int) -> Probe:
    """Masked attention as PyTorch exports it, with rows of NaN set to zero."""

    def step(builder: GraphBuilder, value: str) -> str:
        mask, scale, zero = builder.constant((1, 1, sequence, sequence)), builder.constant(()), builder.constant(())
        transposed = builder.node("Transpose", [builder.node("Mul", [value, scale])], perm=[0, 1, 3, 2])
        scores = builder.node("Add", [builder.node("MatMul", [value, transposed]), mask])
        shares = builder.node("Softmax", [scores], axis=-1)
        return builder.node("MatMul", [builder.node("Where", [builder.node("IsNaN", [shares]), zero, shares]), value])

    elements = float(heads * sequence * size)
    short, long = (_chain(rng, (1, heads, sequence, size), step, steps) for steps in (1, 3))
    return Probe("attention", "fp32", (2 * elements * sequence,), (0.0,), (3 * elements,), (elements,), 2, short, long)


def _batched_product(rng: np.random.Generator, heads: int, sequence: int, size: int) -> Probe:
    def step(builder: GraphBuilder, value: str) -> str:
        return builder.node("MatMul", [builder.constant((1, heads, sequence, sequence)), value])

    elements = float(heads * sequence * size)
    short, long = (_chain(rng, (1, heads, sequence, size), step, steps) for steps in (1, 4))
    return Probe("matmul", "fp32", (elements * sequence,), (0.0,), (float(heads * sequence**2) + elements,), (elements,), 3, short, long)


def _vector(rng: np.random.Generator, op_class: str, shape: tuple[int, ...], *, integer: bool = False, fixed_cost: bool = False) -> Probe:
    elements = float(np.prod(shape))
    inputs, element_bytes, steps = elements, 1.0 if integer else 4.0, (1, 33) if fixed_cost else (2, 8)

    def step(builder: GraphBuilder, value: str) -> str:
        if op_class == "elementwise":
            return builder.add(value, value if integer else builder.constant(shape))
        if op_class == "activation":
            return builder.node("Gelu", [value])
        if op_class == "normalization":
            return builder.node("LayerNormalization", [value, builder.constant(shape[-1:]), builder.constant(shape[-1:])], axis=-1)
        if op_class == "softmax":
            return builder.node("Softmax", [value], axis=-1)
        if op_class == "movement":
            return builder.node("Transpose", [value], perm=[0, 2, 1])
        if op_class == "reduction":
            # The subtraction keeps the shape; its traffic is counted with it.
            return builder.node("Sub", [value, builder.node("ReduceMean", [value], keepdims=1, axes=[-1])])
        return builder.quantized_and_back(value)

    if op_class in ("elementwise", "reduction"):
        inputs = 2 * elements
    if op_class in ("movement", "quantize"):
        steps = (0, 1)  # a second one would cancel the first
    if op_class == "quantize":
        element_bytes = 5.0  # input and output are each written as one and read as the other
    short, long = (_chain(rng, shape, step, count, integer=integer) for count in steps)
    precision = "int8" if integer else "fp32"
    return Probe(op_class, precision, (0.0,), (0.0,), (inputs,), (elements,), steps[1] - steps[0], short, long, element_bytes, fixed_cost=fixed_cost)


def _pooling(rng: np.random.Generator, side: int, *, integer: bool, channels: int = 32) -> Probe:
    """Between convolutions, whose layout it then has; the short chain halves the image by the stride of the second one."""

    def halved(builder: GraphBuilder, value: str) -> str:
        return builder.convolution(builder.convolution(value, channels, channels, 1, 1, 1), channels, channels, 1, 2, 1)

    def pooled(builder: GraphBuilder, value: str) -> str:
        return builder.convolution(builder.pool(builder.convolution(value, channels, channels, 1, 1, 1)), channels, channels, 1, 1, 1)

    short, long = (_chain(rng, (1, channels, side, side), step, 1, integer=integer) for step in (halved, pooled))
    elements, precision = float(channels * side * side), "int8" if integer else "fp32"
    return Probe("pooling", precision, (0.0,), (0.0,), (elements,), (elements / 4,), 1, short, long, 1.0 if integer else 4.0)


def _embedding(rng: np.random.Generator, rows: int = 8192, width: int = 384, tokens: int = 128) -> Probe:
    def chain(count: int) -> Chain:
        builder = GraphBuilder(rng, integer=False)
        ids = builder.indices(tokens, rows)
        value = builder.node("Gather", [builder.constant((rows, width)), ids], axis=0)
        for _ in range(count - 1):
            value = builder.add(value, builder.node("Gather", [builder.constant((rows, width)), ids], axis=0))
        return builder.finish(value)

    moved = float(tokens * width)
    # The sum that joins two tables is counted with them: it reads and writes as much again.
    return Probe("embedding", "fp32", (0.0,), (0.0,), (3 * moved,), (2 * moved,), 2, chain(1), chain(3))
