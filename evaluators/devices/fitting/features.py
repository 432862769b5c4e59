"""A network as a sum of costs: how much of each kind of work it has. A setting's costs of these kinds turn into ``Rates`` and back.

Work is multiply-accumulates by op class (times what saturation adds), elements moved by op class, weights read, launches, and conversions to integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.fitting.layers import CLASSES, PRODUCTS, MeasuredKernel
from evaluators.devices.kernel_time import Load, Product, kernel_times, slowdown
from evaluators.devices.rates import PRECISIONS, Rate, Rates

__all__ = ["COMPUTE_AS", "FEATURES", "MOVED_AS", "SATURATION", "TYPICAL", "design", "load_of", "milliseconds", "rates_from", "work"]

Floats = NDArray[np.float64]
_INT8 = PRECISIONS.index("int8")
SATURATION: dict[str, dict[str, float]] = {
    # Winograd's algorithm on 4 x 4 outputs: its transforms cost as much as the products of some 8 channels in and 24 out.
    "conv3x3": {"half_depth": 72.0, "half_width": 24.0, "half_rows": 16.0, "tile": 4.0},
    "conv": {"half_depth": 16.0, "half_width": 8.0, "half_rows": 16.0},
    "pointwise": {"half_depth": 4.0, "half_width": 4.0, "half_rows": 4.0},
    "depthwise": {"half_depth": 4.0, "half_rows": 16.0},
    "grouped": {"half_depth": 16.0, "half_width": 8.0, "half_rows": 16.0},
}
"""Sizes at which kernels reach half of their speed. Fixed: two dozen networks do not determine them, and fitted ones were no better on networks held out."""
TYPICAL: dict[str, float] = {
    "macs.conv3x3": 0.07,
    "macs.conv": 0.17,
    "macs.pointwise": 0.17,
    "macs.depthwise": 0.25,
    "macs.grouped": 0.2,
    "macs.conv3x3.int8": 0.042,
    "macs.conv.int8": 0.1,
    "macs.pointwise.int8": 0.1,
    "macs.depthwise.int8": 0.15,
    "moved.conv": 1.0,
    "moved.pointwise": 1.0,
    "moved.depthwise": 1.0,
    "moved.elementwise": 1.0,
    "moved.pooling": 1.5,
    "moved.movement": 1.5,
    "moved.activation": 4.0,
    "moved.softmax": 8.0,
    "weights": 1.0,
    "launch": 0.5,
    "quantize": 1.5,
}
"""Typical costs of a small core: milliseconds of 1e6 multiply-accumulates or elements (of 4 bytes), units of 10 us of a launch. Their ratios are the prior."""
FEATURES = tuple(TYPICAL)
COMPUTE_AS = {"gemm": "pointwise", "matmul": "pointwise", "attention": "pointwise"}
MOVED_AS = {"conv3x3": "conv", "grouped": "conv", "gemm": "pointwise", "matmul": "pointwise", "attention": "pointwise"}
MOVED_AS |= {"reduction": "movement", "embedding": "movement", "normalization": "activation"}


def load_of(kernels: Sequence[MeasuredKernel]) -> Load:
    """The kernels of a network as ``kernel_times`` takes them, one candidate."""

    def column(name: str) -> Floats:
        return np.array([[float(getattr(k, name))] for k in kernels])

    macs, weights, outputs = column("macs"), column("weights"), column("outputs")
    integer = column("integer") > 0
    by_class: dict[str, list[int]] = {}
    for i, kernel in enumerate(kernels):
        if kernel.macs:
            by_class.setdefault(kernel.op_class, []).append(i)
    products = [
        Product.of(op_class, np.array(chosen), macs[chosen], weights[chosen], outputs[chosen], ((0, False), (_INT8, False)), integer[chosen].astype(np.int64))
        for op_class, chosen in by_class.items()
    ]
    return Load(
        tuple(k.op_class for k in kernels),
        products,
        integer,
        integer,
        column("inputs") + outputs,
        weights * np.where(integer, 1.0, 4.0),
        column("converted"),
        column("launches"),
        np.ones(1, dtype=np.bool_),
    )


def work(kernels: Sequence[MeasuredKernel]) -> Floats:
    """``[features]``: how much of each kind of work a network has, in the units of ``TYPICAL``."""
    load = load_of(kernels)
    amounts = dict.fromkeys(FEATURES, 0.0)
    for product in load.products:
        name = COMPUTE_AS.get(product.op_class, product.op_class)
        padded = product.macs * slowdown(product, {key: np.array(value) for key, value in SATURATION[name].items()})
        for integer in (False, True):
            total = float(padded[product.which == int(integer)].sum()) * 1e-6
            if f"macs.{name}.int8" in amounts or not integer:
                amounts[f"macs.{name}.int8" if integer else f"macs.{name}"] += total
            elif total:
                # No integer layer of this class was ever measured: it gains what those of a convolution gain.
                amounts["macs.conv.int8"] += total * TYPICAL[f"macs.{name}"] / TYPICAL["macs.conv"]
    share = np.where(load.integer, 0.25, 1.0)
    for op_class, elements in zip(load.op_classes, (load.moved * share)[:, 0] * 1e-6, strict=True):
        amounts[f"moved.{MOVED_AS.get(op_class, op_class)}"] += float(elements)
    amounts["weights"] = float(load.weight_bytes.sum()) / 4e6
    amounts["launch"] = float(load.launches.sum()) * 1e-2
    amounts["quantize"] = float(load.converted.sum()) * 1e-6
    return np.array([amounts[name] for name in FEATURES])


def design(networks: Mapping[str, Sequence[MeasuredKernel]], names: Sequence[str]) -> Floats:
    """``[networks, features]``."""
    return np.stack([work(networks[name]) for name in names])


def rates_from(costs: Floats, memory_bytes: float = 1.0, idle_w: float = 0.0, pj_per_mac: Mapping[str, float] | None = None, pj_per_byte: float = 0.0) -> Rates:
    """``Rates`` with these costs, ``[features]``; with them ``kernel_times`` gives the same milliseconds as ``work`` times the costs."""
    cost = dict(zip(FEATURES, costs.tolist(), strict=True))

    def rate(op_class: str, *, integer: bool) -> Rate:
        name = COMPUTE_AS.get(op_class, op_class)
        per_mac = cost[f"macs.{name}"]
        if integer:
            # As in ``work``.
            per_mac = cost.get(f"macs.{name}.int8", cost["macs.conv.int8"] * TYPICAL[f"macs.{name}"] / TYPICAL["macs.conv"])
        return Rate(gmacs=1 / per_mac, **SATURATION[name])

    floats = {op_class: rate(op_class, integer=False) for op_class in PRODUCTS}
    bandwidth = {op_class: 4 / cost[f"moved.{MOVED_AS.get(op_class, op_class)}"] for op_class in CLASSES}
    return Rates(
        compute={"fp32": floats, "int8": {op_class: rate(op_class, integer=True) for op_class in PRODUCTS}},
        bandwidth_gb_s={"default": bandwidth["elementwise"], **bandwidth, "quantize": 5 / cost["quantize"]},
        weight_gb_s=4 / cost["weights"],
        cache_bytes=0.0,
        launch_us={"default": 10 * cost["launch"]},
        overhead_ms=0.0,
        memory_bytes=memory_bytes,
        fallback={"fp16": "fp32", "int4": "fp32"},
        hidden_traffic=False,
        idle_w=idle_w,
        pj_per_mac=pj_per_mac or {"fp32": 0.0, "int8": 0.0},
        pj_per_byte=pj_per_byte,
    )


def milliseconds(kernels: Sequence[MeasuredKernel], rates: Rates) -> float:
    """The predicted latency of a network."""
    return float(kernel_times(load_of(kernels), rates).kernel.sum()) + rates.overhead_ms
