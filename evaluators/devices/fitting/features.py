"""A network as a sum of costs: how much of each kind of work it has. A setting's costs of these kinds turn into ``Rates`` and back.

Work is multiply-accumulates by op class (times what saturation adds), elements moved by op class, weights read, launches, and conversions to integers.
Which of these are told apart on a kind of unit, and what they typically cost, is in ``evaluators.devices.fitting.forms``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.fitting.forms import PROCESSOR, Form
from evaluators.devices.fitting.layers import CLASSES, PRODUCTS, MeasuredKernel
from evaluators.devices.kernel_time import Load, Product, kernel_times, slowdown
from evaluators.devices.rates import PRECISIONS, Rate, Rates

__all__ = ["design", "load_of", "milliseconds", "rates_from", "work"]

Floats = NDArray[np.float64]
_INT8 = PRECISIONS.index("int8")


def load_of(kernels: Sequence[MeasuredKernel], form: Form = PROCESSOR) -> Load:
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
        weights * np.where(integer, 1.0, form.float_bytes),
        column("converted"),
        column("launches"),
        np.ones(1, dtype=np.bool_),
        np.ones(1),
    )


def work(kernels: Sequence[MeasuredKernel], form: Form = PROCESSOR) -> Floats:
    """``[features]``: how much of each kind of work a network has, in the units of ``Form.typical``."""
    load = load_of(kernels, form)
    amounts = dict.fromkeys(form.features, 0.0)
    for product in load.products:
        padded = product.macs * slowdown(product, {key: np.array(value) for key, value in form.saturation_of(product.op_class).items()})
        for integer in (False, True):
            name, times = form.arithmetic(product.op_class, integer=integer)
            amounts[name] += times * float(padded[product.which == int(integer)].sum()) * 1e-6
    share = np.where(load.integer, 1 / form.float_bytes, 1.0)
    for op_class, elements in zip(load.op_classes, (load.moved * share)[:, 0] * 1e-6, strict=True):
        amounts[form.traffic(op_class)] += float(elements)
    amounts["weights"] = float(load.weight_bytes.sum()) / (form.float_bytes * 1e6)
    integers = "launch.int8" if "launch.int8" in amounts else "launch"
    for name, chosen in (("launch", ~load.computes_integers), (integers, load.computes_integers)):
        amounts[name] += float(load.launches[chosen].sum()) * 1e-2
    amounts["quantize"] = float(load.converted.sum()) * 1e-6
    if "inference" in amounts:
        amounts["inference"] = 1.0
    return np.array([amounts[name] for name in form.features])


def design(networks: Mapping[str, Sequence[MeasuredKernel]], names: Sequence[str], form: Form = PROCESSOR) -> Floats:
    """``[networks, features]``."""
    return np.stack([work(networks[name], form) for name in names])


def rates_from(costs: Floats, form: Form = PROCESSOR) -> Rates:
    """``Rates`` with these costs, ``[features]``; with them ``kernel_times`` gives the same milliseconds as ``work`` times the costs.

    Memory and energy are left at 0.
    """
    cost = dict(zip(form.features, costs.tolist(), strict=True))

    def rate(op_class: str, *, integer: bool) -> Rate:
        name, times = form.arithmetic(op_class, integer=integer)
        return Rate(gmacs=1 / (times * cost[name]), **form.saturation_of(op_class))

    tables = {precision: {c: rate(c, integer=precision == "int8") for c in PRODUCTS} for precision in (form.floats, "int8")}
    launch = {"default": 10 * cost["launch"]}
    if "launch.int8" in cost:
        launch |= {f"{op_class}_int8": 10 * cost["launch.int8"] for op_class in CLASSES}
    bandwidth = {op_class: form.float_bytes / cost[form.traffic(op_class)] for op_class in CLASSES}
    return Rates(
        compute=tables,
        bandwidth_gb_s={"default": bandwidth["elementwise"], **bandwidth, "quantize": (1 + form.float_bytes) / cost["quantize"]},
        weight_gb_s=form.float_bytes / cost["weights"],
        cache_bytes=0.0,
        launch_us=launch,
        overhead_ms=cost.get("inference", 0.0),
        memory_bytes=1.0,
        fallback=dict(form.fallback),
        hidden_traffic=False,
        idle_w=0.0,
        pj_per_mac={form.floats: 0.0, "int8": 0.0},
        pj_per_byte=0.0,
    )


def milliseconds(kernels: Sequence[MeasuredKernel], rates: Rates, form: Form = PROCESSOR) -> float:
    """The predicted latency of a network."""
    return float(kernel_times(load_of(kernels, form), rates).kernel.sum()) + rates.overhead_ms
