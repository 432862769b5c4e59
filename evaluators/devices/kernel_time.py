"""How long kernels take: from arrays of kernels and the rates of a device to milliseconds of arithmetic, of memory traffic and of launches.

This is the only place that knows the form of a kernel's time; the roofline, the fit to public measurements and host calibration share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressors.graph.exits import STAGE
from evaluators.devices.rates import BLOCK, PRECISIONS, Rate, Rates

__all__ = ["CONVOLUTIONS", "GEMV", "ODD", "KernelTimes", "Load", "Product", "arithmetic_name", "kernel_times", "odd", "slowdown"]

Floats = NDArray[np.float64]
_HALVES = (("half_depth", "depth"), ("half_width", "width"), ("half_rows", "rows"), ("half_side", "side"), ("half_outputs", "outputs"))
_MISALIGNED = (("misaligned_width", "width"), ("misaligned_depth", "depth"))
GEMV = "gemv"
"""Op class of products of one row by a matrix, in rates that tell them from others."""
CONVOLUTIONS = frozenset(("conv3x3", "conv", "pointwise", "depthwise", "grouped"))
_PRODUCTS = frozenset(("gemm", "gemv"))
ODD = "_odd"
"""Appended to the op class of convolutions whose channels are not whole blocks, where a runtime has other kernels for them."""
_INPUT_BLOCK = 4
_KERNEL_AREAS = {"conv3x3": (9,), "conv": (49, 25, 9, 1), "pointwise": (1,)}
_MOST_WASTE = 4.0
"""A tile of Winograd's algorithm saves about this much arithmetic; where padding to whole tiles would cost more, runtimes compute directly."""


@dataclass(frozen=True, slots=True)
class Product:
    """Kernels of one op class as products of ``[rows, depth]`` by ``[depth, width]``; arrays are ``[kernels, candidates]``.

    Attributes:
        op_class: of all of them.
        kernels: their positions among all kernels.
        macs, outputs: multiply-accumulates and elements.
        depth, width, rows: of the matrices; the width is infinite where there are no weights.
        arithmetics: the pairs that occur of a precision (index into ``PRECISIONS``) and whether inputs are quantized at run time.
        which: index into ``arithmetics``.
    """

    op_class: str
    kernels: NDArray[np.int64]
    macs: Floats
    outputs: Floats
    depth: Floats
    width: Floats
    rows: Floats
    arithmetics: tuple[tuple[int, bool], ...]
    which: NDArray[np.int64]

    @property
    def side(self) -> Floats:
        """Of the feature maps of convolutions, which are taken as square."""
        found: Floats = np.sqrt(np.maximum(self.rows, 1.0))
        return found

    @staticmethod
    def of(
        op_class: str,
        kernels: NDArray[np.int64],
        macs: Floats,
        weights: Floats,
        outputs: Floats,
        arithmetics: tuple[tuple[int, bool], ...],
        which: NDArray[np.int64],
    ) -> Product:
        """The shapes of the matrices follow from the counts."""
        depth = macs / np.maximum(outputs, 1.0)
        width = np.where(weights > 0, weights / np.maximum(depth, 1.0), np.inf)
        rows = outputs / np.maximum(np.minimum(width, outputs), 1.0)
        return Product(op_class, kernels, macs, outputs, depth, width, rows, arithmetics, which)


@dataclass(frozen=True, slots=True)
class Load:
    """What kernels ask of a device, each array ``[kernels, candidates]``.

    Attributes:
        op_classes: of every kernel.
        products: those that multiply.
        integer: whether activations arrive and leave as 8-bit integers.
        computes_integers: whether the kernel is one for integers.
        moved: activations read and written, elements.
        weight_bytes: weights read.
        converted: activations converted between float and integers, elements.
        launches: how many times something is launched, 0 where a candidate does not have the kernel.
        streamed: ``[candidates]`` whether the weights do not stay in a cache.
        uncached: ``[candidates]`` the share of them that none holds, where others use it, too.
    """

    op_classes: tuple[str, ...]
    products: Sequence[Product]
    integer: NDArray[np.bool_]
    computes_integers: NDArray[np.bool_]
    moved: Floats
    weight_bytes: Floats
    converted: Floats
    launches: Floats
    streamed: NDArray[np.bool_]
    uncached: Floats


@dataclass(frozen=True, slots=True)
class KernelTimes:
    """Milliseconds of each kernel, ``[kernels, candidates]``, and the bytes that it moves.

    ``launch`` includes conversions between float and integers. ``hidden``: memory traffic happens behind the arithmetic.
    """

    compute: Floats
    memory: Floats
    launch: Floats
    bytes: Floats
    hidden: bool

    @property
    def kernel(self) -> Floats:
        """The whole time of each kernel."""
        return (np.maximum(self.compute, self.memory) if self.hidden else self.compute + self.memory) + self.launch


def kernel_times(load: Load, rates: Rates) -> KernelTimes:
    """The times of ``load`` on a device with ``rates``."""
    float_bytes = 2.0 if rates.runs_as("fp32") == "fp16" else 4.0
    activation_bytes = load.moved * np.where(load.integer, 1.0, float_bytes)
    # Every converted element is read in one form and written in the other.
    converted_bytes = load.converted * (1.0 + float_bytes)
    classes = list(load.op_classes)
    for product in load.products:
        for kernel in product.kernels:
            classes[kernel] = product.op_class
    bandwidth = np.where(load.integer, *(np.array([rates.bandwidth(c, integer=i) for c in classes])[:, None] for i in (True, False)))
    weight_rate = np.where(load.streamed, rates.weight_gb_s, np.maximum(rates.weight_gb_s, rates.bandwidth("default")))
    memory: Floats = activation_bytes / (bandwidth * 1e6) + load.weight_bytes / (weight_rate * 1e6)
    conversion = converted_bytes / (rates.bandwidth("quantize") * 1e6)
    launch_us = np.where(load.computes_integers, *(np.array([rates.launch(c, integer=i) for c in classes])[:, None] for i in (True, False)))
    stages = [i for i, op_class in enumerate(classes) if op_class == STAGE]
    if stages:
        count = np.maximum(load.launches[stages].sum(axis=0), 1.0)
        launch_us[stages] = rates.stages_us(count, (activation_bytes + load.weight_bytes).sum(axis=0) / count) / count
    launch = launch_us * load.launches * 1e-3 + conversion
    compute = np.zeros_like(memory)
    for product in load.products:
        compute[product.kernels] = _compute_ms(_rates(rates, product), product)
        if rates.distinguishes(product.op_class + ODD):
            other = odd(product) & ~load.computes_integers[product.kernels]
            compute[product.kernels] = np.where(other, _compute_ms(_rates(rates, product, ODD), product), compute[product.kernels])
            started = rates.launch(product.op_class + ODD) * load.launches[product.kernels] * 1e-3 + conversion[product.kernels]
            launch[product.kernels] = np.where(other, started, launch[product.kernels])
    if rates.correction:
        factor = _correction(load, rates)
        compute, memory, launch = compute * factor, memory * factor, launch * factor
    if rates.late_weights:
        late = np.array([rates.late_weights.get(waits_as(c), 0.0) for c in load.op_classes])[:, None]
        compute = compute + late * load.uncached * load.weight_bytes / (rates.weight_gb_s * 1e6)
    return KernelTimes(compute, memory, launch, activation_bytes + load.weight_bytes + converted_bytes, rates.hidden_traffic)


def waits_as(op_class: str) -> str:
    """Which share of ``Rates.late_weights`` holds for a class; none for an embedding, which only moves."""
    return "convolution" if op_class in CONVOLUTIONS else "product" if op_class in _PRODUCTS else ""


def _correction(load: Load, rates: Rates) -> Floats:
    factor: Floats = np.where(load.computes_integers, *(np.array([rates.corrected(c, name) for c in load.op_classes])[:, None] for name in ("int8", "fp32")))
    for product in load.products:
        factor[product.kernels] = _corrections(rates, product)[product.which]
        if rates.distinguishes(product.op_class + ODD):
            factor[product.kernels] = np.where(odd(product), _corrections(rates, product, ODD)[product.which], factor[product.kernels])
    return factor


def odd(product: Product) -> NDArray[np.bool_]:
    """Whether convolutions have channels that ONNX Runtime's blocked kernels do not take: of a depthwise one, not whole blocks; else, to read, not fours.

    Fewer channels than a block, as an image has, are read as they are. The area of a kernel is not known: it is taken as the largest usual one that divides.
    """
    if product.op_class == "depthwise":
        return np.asarray(np.rint(product.width) % BLOCK != 0)
    depth = np.rint(product.depth)
    channels = np.zeros_like(depth)
    for area in reversed(_KERNEL_AREAS.get(product.op_class, ())):
        channels = np.where(depth % area == 0, depth / area, channels)
    return np.asarray((channels >= BLOCK) & (channels % _INPUT_BLOCK != 0))


def _corrections(rates: Rates, product: Product, form: str = "") -> Floats:
    """Of each of ``product.arithmetics``; integers have no form of their own for odd channels."""
    names = [arithmetic_name(p, dynamic=dynamic) for p, dynamic in product.arithmetics]
    return np.array([rates.corrected(product.op_class + (form if name == "fp32" else ""), name) for name in names])


def _rates(rates: Rates, product: Product, form: str = "") -> list[Rate]:
    return [rates.rate(PRECISIONS[p], product.op_class, form, dynamic=dynamic) for p, dynamic in product.arithmetics]


def arithmetic_name(precision: int, *, dynamic: bool) -> str:
    """``fp32``, ``fp16``, ``int8``, ``int8_dynamic`` or ``int4``, of an index into ``PRECISIONS``."""
    name = PRECISIONS[precision]
    return f"{name}_dynamic" if dynamic and name == "int8" else name


def _compute_ms(rates: Sequence[Rate], product: Product) -> Floats:
    """Milliseconds of every product, ``[kernels, candidates]``; ``rates`` are those of ``product.arithmetics``."""

    def chosen(name: str) -> Floats:
        return np.array([getattr(rate, name) for rate in rates], dtype=np.float64)[product.which]

    used = {
        name: chosen(name) for name in Rate.model_fields if name != "gmacs" and any(getattr(rate, name) != Rate.model_fields[name].default for rate in rates)
    }
    return product.macs * slowdown(product, used) / (chosen("gmacs") * 1e6)


def slowdown(product: Product, coefficients: Mapping[str, Floats]) -> Floats:
    """By how much products are slower than at the full rate; ``coefficients`` are fields of ``Rate``, broadcast against the products."""
    factor = np.ones_like(product.macs)
    for half, size in _HALVES:
        if half in coefficients:
            factor *= 1 + coefficients[half] / np.maximum(getattr(product, size), 1.0)
    for misaligned, size in _MISALIGNED:
        if misaligned in coefficients:
            sizes = getattr(product, size)
            partial = np.isfinite(sizes) & (np.rint(np.minimum(sizes, 1e9)) % BLOCK != 0)
            more = (np.maximum(coefficients[misaligned], 1.0) - 1) * np.minimum(BLOCK / np.maximum(sizes, 1.0), 1.0)
            factor *= np.where(partial, 1 + more, 1.0)
    if "tile" in coefficients:
        # An edge that is not a whole number of tiles pays for the next one.
        side = product.side
        tile = np.maximum(coefficients["tile"], 1e-9)
        padded = np.minimum((np.ceil(side / tile - 1e-6) * tile / side) ** 2, _MOST_WASTE)
        factor *= np.where(coefficients["tile"] > 0, padded, 1.0)
    return factor
