"""``Rates``: everything the roofline needs to know about one device, unit, runtime and thread count, as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pydantic
from numpy.typing import NDArray

from compressors.graph.exits import STAGE
from evaluators.devices.profile import efficiencies, load_profile

__all__ = ["BLOCK", "PRECISIONS", "Rate", "Rates", "rates_of"]

BLOCK = 8
"""Channels that vector kernels take at a time."""
_CORE_CACHE_BYTES = 2.0 * 2**20
"""The second-level cache of a core of what is calibrated: from half of it on a phone to twice as much."""
PRECISIONS = ("fp32", "fp16", "int8", "int4")
_STRICT = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Rate(pydantic.BaseModel):
    """Speed of one op class in one precision, and the sizes at which it is half of that.

    A kernel is a product of ``[rows, depth]`` by ``[depth, width]``; each size s contributes a factor s / (s + half), as the side of its feature maps does.
    1e9 multiply-accumulates a second.
    The last block of a width (depth) that is not a multiple of ``BLOCK`` takes about ``misaligned_width`` (``misaligned_depth``) times as long as a whole one.
    ``tile`` is the side of the square of outputs that is computed at once (Winograd's algorithm), 0 for none: an edge pays for whole tiles.
    """

    model_config = _STRICT

    gmacs: float
    half_depth: float = 0.0
    half_width: float = 0.0
    half_rows: float = 0.0
    half_side: float = 0.0
    half_outputs: float = 0.0
    misaligned_width: float = 1.0
    misaligned_depth: float = 1.0
    tile: float = 0.0


class Rates(pydantic.BaseModel):
    """Speeds and fixed costs.

    Attributes:
        compute: by precision and op class; ``int8_dynamic`` is optional and else as ``int8``. ``CLASS_odd`` where channels that are not whole blocks differ.
        bandwidth_gb_s: by op class, ``default`` for the rest: how fast activations move; ``CLASS_int8`` where integers differ.
        weight_gb_s: how fast weights that do not stay in a cache move.
        cache_bytes: up to how many bytes of weights stay in a cache between inferences; 0 where unknown.
        late_weights: the share of the time that weights take to arrive, where no cache holds them, for which arithmetic waits: of a ``convolution`` and of
            other ``product``s; 0 where not named.
        launch_us: by op class, ``default`` for the rest; ``CLASS_int8`` where integers differ. ``stage`` is the start of a stage of a model with exits that
            finds nothing in the caches, an inference's overhead where it is not named; see ``stages_us``.
        overhead_ms: fixed cost of one inference.
        memory_bytes: what the runtime itself occupies.
        fallback: precisions the unit does not compute in.
        correction: by ``CLASS:ARITHMETIC`` (``gemm:int8_dynamic``), what whole networks say that the kernels' times are to be multiplied by; 1 where not named.
        hidden_traffic: whether memory traffic happens behind the arithmetic, so that the longer of the two counts, else their sum.
        idle_w: power at rest, added for the whole inference.
        pj_per_mac, pj_per_byte: energy on top of it.
        weight_copies: how often the runtime holds a weight at its peak, of ``convolution`` and ``other`` kernels; ``_int8`` is appended where integers differ.
    """

    model_config = _STRICT

    compute: Mapping[str, Mapping[str, Rate]]
    bandwidth_gb_s: Mapping[str, float]
    weight_gb_s: float
    cache_bytes: float
    late_weights: Mapping[str, float] = {}
    launch_us: Mapping[str, float]
    overhead_ms: float
    memory_bytes: float
    fallback: Mapping[str, str]
    correction: Mapping[str, float] = {}
    hidden_traffic: bool = True
    idle_w: float
    pj_per_mac: Mapping[str, float]
    pj_per_byte: float
    weight_copies: Mapping[str, float] = {}

    def runs_as(self, precision: str) -> str:
        """The precision that is used where ``precision`` is asked."""
        return self.fallback.get(precision, precision)

    def rate(self, precision: str, op_class: str, form: str = "", *, dynamic: bool = False) -> Rate:
        """The rate that applies, after the fallback; ``form`` is appended to the class where that is distinguished."""
        precision = self.runs_as(precision)
        table = self.compute.get(f"{precision}_dynamic", {}) if dynamic else {}
        return table.get(op_class) or self.compute[precision].get(op_class + form) or self.compute[precision][op_class]

    def distinguishes(self, op_class: str) -> bool:
        """Whether any precision has a rate for the class."""
        return any(op_class in table for table in self.compute.values())

    def bandwidth(self, op_class: str, *, integer: bool = False) -> float:
        """1e9 bytes a second; ``integer``: of 8-bit activations."""
        table = self.bandwidth_gb_s
        return (integer and table.get(f"{op_class}_int8")) or table.get(op_class, table["default"])

    def corrected(self, op_class: str, arithmetic: str) -> float:
        """The factor of a class of kernels."""
        return self.correction.get(f"{op_class}:{arithmetic}", 1.0)

    def launch(self, op_class: str, *, integer: bool = False) -> float:
        """Microseconds; ``integer``: of the 8-bit kernel."""
        table = self.launch_us
        return (integer and table.get(f"{op_class}_int8")) or table.get(op_class, table["default"])

    def stages_us(self, count: NDArray[np.float64], streamed: NDArray[np.float64]) -> NDArray[np.float64]:
        """Microseconds of what ``count`` stages of a model with exits cost beside their kernels, where each has ``streamed`` bytes go through the caches.

        What a small model does stays in the cache of its core, and a stage costs what an inference does beside its kernels, the first one too, whose answer is
        looked at. What streams more than that cache has pushes the runtime's own code out before the next start.
        """
        warm = 1e3 * self.overhead_ms
        cold = self.launch_us.get(STAGE, warm) - warm
        return warm * count + cold * np.minimum(streamed / _CORE_CACHE_BYTES, 1.0) * np.maximum(count - 1, 0)


def rates_of(device: str, unit: str, runtime: str, threads: int | None) -> Rates:
    """Rates from a profile: peaks times the runtime's efficiencies, scaled to ``threads``."""
    spec = load_profile(device).units[unit]
    entry, efficiency = spec.runtimes[runtime], efficiencies()[f"{runtime}.{unit}"]
    scale = 1.0 if threads is None else (threads / spec.threads.value) ** spec.thread_scaling.value
    half = spec.half_outputs.value * (threads or spec.threads.value)
    bandwidth = {op_class: spec.bandwidth_gb_s.value * share * min(scale, 1.0) for op_class, share in efficiency.bandwidth.items()}
    return Rates(
        compute={
            precision: {op_class: Rate(gmacs=peak.value * scale * share, half_outputs=half) for op_class, share in efficiency.compute[precision].items()}
            for precision, peak in spec.peak_gmacs.items()
            if precision in efficiency.compute
        },
        bandwidth_gb_s=bandwidth,
        weight_gb_s=bandwidth["default"],
        cache_bytes=0.0,
        launch_us={"default": entry.launch_us.value},
        overhead_ms=entry.overhead_ms.value,
        memory_bytes=entry.memory_bytes.value,
        fallback=dict(entry.fallback),
        idle_w=spec.idle_w.value,
        pj_per_mac={precision: figure.value for precision, figure in spec.pj_per_mac.items()},
        pj_per_byte=spec.pj_per_byte.value,
        weight_copies=dict(entry.weight_copies),
    )
