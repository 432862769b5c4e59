"""Which kinds of work are told apart on a kind of unit, at which sizes kernels reach half of their speed, and what the kinds typically cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ACCELERATOR", "PROCESSOR", "Form", "form_of"]


@dataclass(frozen=True)
class Form:
    """How the costs of a unit's networks are counted.

    Attributes:
        typical: by kind of work, milliseconds of 1e6 multiply-accumulates or elements (of ``float_bytes``), units of 10 us of a launch, milliseconds of an
            ``inference``; their ratios are the prior of the fit. What has no ``.int8`` of its own costs as much in integers.
        saturation: by op class, fields of ``Rate``: sizes at which kernels reach half of their speed.
        compute_as, moved_as: op classes that cost as much as another one.
        floats: what float networks are computed in.
        fallback: precisions without kernels.
        ratio: standard deviation of the logarithm of the ratio of two typical costs.
        between: that of the ratio of two costs of a setting to those of all, before any setting is seen, and how many settings that counts for.
    """

    typical: Mapping[str, float]
    saturation: Mapping[str, Mapping[str, float]]
    compute_as: Mapping[str, str]
    moved_as: Mapping[str, str]
    floats: str
    fallback: Mapping[str, str]
    ratio: float
    between: tuple[float, float]

    @property
    def features(self) -> tuple[str, ...]:
        """The kinds of work, in the order of every array of costs."""
        return tuple(self.typical)

    @property
    def float_bytes(self) -> float:
        """Of an element of a float network."""
        return 2.0 if self.floats == "fp16" else 4.0

    def saturation_of(self, op_class: str) -> Mapping[str, float]:
        """The sizes of half speed of an op class."""
        return self.saturation[self.compute_as.get(op_class, op_class)]

    def arithmetic(self, op_class: str, *, integer: bool) -> tuple[str, float]:
        """The kind of work that products of this class are, and what their cost is to be multiplied by."""
        name = f"macs.{self.compute_as.get(op_class, op_class)}"
        if not integer:
            return name, 1.0
        if f"{name}.int8" in self.typical:
            return f"{name}.int8", 1.0
        # No integer layer of this class was ever measured: it gains what those of a convolution gain.
        return "macs.conv.int8", self.typical.get(name, 0.0) / self.typical["macs.conv"]

    def traffic(self, op_class: str) -> str:
        """The kind of work that moving the activations of this class is."""
        return f"moved.{self.moved_as.get(op_class, op_class)}"


_MOVED_AS = {"conv3x3": "conv", "grouped": "conv", "gemm": "pointwise", "matmul": "pointwise", "attention": "pointwise"}
_MOVED_AS |= {"reduction": "movement", "embedding": "movement", "normalization": "activation"}

PROCESSOR = Form(
    typical={
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
    },
    # Fixed: two dozen networks do not determine them, and fitted ones were no better on networks held out.
    saturation={
        # Winograd's algorithm on 4 x 4 outputs: its transforms cost as much as the products of some 8 channels in and 24 out.
        "conv3x3": {"half_depth": 72.0, "half_width": 24.0, "half_rows": 16.0, "tile": 4.0},
        "conv": {"half_depth": 16.0, "half_width": 8.0, "half_rows": 16.0},
        "pointwise": {"half_depth": 4.0, "half_width": 4.0, "half_rows": 4.0},
        "depthwise": {"half_depth": 4.0, "half_rows": 16.0},
        "grouped": {"half_depth": 16.0, "half_width": 8.0, "half_rows": 16.0},
    },
    compute_as={"gemm": "pointwise", "matmul": "pointwise", "attention": "pointwise"},
    moved_as=_MOVED_AS,
    floats="fp32",
    fallback={"fp16": "fp32", "int4": "fp32"},
    ratio=0.12,
    between=(0.5, 30.0),
)
"""A small core, and the shaders of graphics processors as ncnn uses them."""

ACCELERATOR = Form(
    typical={
        "macs.conv3x3": 0.0002,
        "macs.conv": 0.0002,
        "macs.pointwise": 0.0002,
        "macs.depthwise": 0.004,
        "macs.grouped": 0.0004,
        "macs.attention": 0.005,
        "macs.conv3x3.int8": 0.00006,
        "macs.conv.int8": 0.00006,
        "macs.pointwise.int8": 0.00008,
        "macs.depthwise.int8": 0.002,
        "macs.grouped.int8": 0.0002,
        "macs.attention.int8": 0.005,
        "moved.conv": 0.01,
        "moved.pointwise": 0.01,
        "moved.depthwise": 0.05,
        "moved.elementwise": 0.01,
        "moved.pooling": 0.01,
        "moved.movement": 0.01,
        "moved.activation": 0.01,
        "moved.softmax": 0.03,
        "weights": 0.03,
        "launch": 0.3,
        "launch.int8": 0.3,
        "quantize": 0.03,
        "inference": 0.1,
    },
    saturation={
        "conv3x3": {"half_depth": 8.0, "half_width": 8.0, "half_rows": 8.0},
        # Images have three channels, and an array of multipliers takes them by the dozen.
        "conv": {"half_depth": 8.0, "half_width": 8.0, "half_rows": 8.0, "misaligned_depth": 16.0},
        "pointwise": {"half_depth": 8.0, "half_width": 8.0, "half_rows": 8.0},
        "depthwise": {"half_rows": 8.0},
        "grouped": {"half_depth": 8.0, "half_width": 8.0, "half_rows": 8.0},
        "attention": {},
    },
    compute_as={"gemm": "pointwise", "matmul": "pointwise"},
    moved_as=_MOVED_AS,
    floats="fp16",
    fallback={"fp32": "fp16", "int4": "int8"},
    # Held tight: what is odd about one network is odd about it on every device, all of them being of one maker.
    ratio=0.05,
    between=(0.25, 300.0),
)
"""A neural processor with arithmetic in half precision and in 8-bit integers; one attention is one kernel, softmax and all."""


def form_of(unit: str) -> Form:
    """Of ``cpu``, ``gpu`` or ``npu``."""
    return ACCELERATOR if unit == "npu" else PROCESSOR
