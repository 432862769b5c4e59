"""The best rates that are known of a device, unit, runtime and thread count: fitted, transferred from another runtime, or from data sheets alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluators.devices.doubt import Doubt
from evaluators.devices.fitted import FittedRuntime, factor_of, fitted_runtime, pooled_prior
from evaluators.devices.fitting.features import rates_from
from evaluators.devices.fitting.forms import form_of
from evaluators.devices.profile import Profile, load_profile
from evaluators.devices.rates import Rate, Rates, rates_of

__all__ = ["KnownRates", "known_rates"]

_TRANSFER = 0.3
"""Standard deviation of the logarithm of how much a runtime gains on one device more than on others: an estimate, no public data compares two on many cpus."""

_UNSEEN = 1.5
"""How much wider an interval is in a precision that was not measured on the device: its rates then follow from the other precision and other devices."""


@dataclass(frozen=True, slots=True)
class KnownRates:
    """Rates, the tier of the latency that they give, and how sure it is; ``doubt`` is None where only data sheets are known."""

    rates: Rates
    tier: str
    doubt: Doubt | None


def known_rates(device: str, unit: str, runtime: str, threads: int | None) -> KnownRates:
    """The rates of ``device``, a profile's name."""
    profile = load_profile(device)
    own = fitted_runtime(profile, f"{unit}/{runtime}")
    if own is not None:
        rates = _fitted(device, profile, unit, runtime, threads, own, 1.0)
        return KnownRates(rates, "public-calibrated", _doubt(unit, runtime, threads, 0.0, rates, own))
    source, clock = (profile, 1.0) if profile.like is None else (load_profile(profile.like.device), profile.like.clock)
    for key in {**profile.fitted, **source.fitted}:
        measured_unit, _, measured_runtime = key.partition("/")
        if measured_unit == unit:
            fitted = fitted_runtime(profile if key in profile.fitted else source, key)
            assert fitted is not None
            faster = 1.0 if key in profile.fitted else clock
            same = measured_runtime == runtime
            if same or unit == "npu":
                # One compiler serves all runtimes of a neural processor: which of them is asked for makes no difference that lasts.
                rates = _fitted(device, profile, unit, runtime, threads, fitted, faster)
            else:
                rates = _transferred(device, profile, unit, runtime, measured_runtime, threads, fitted, faster)
            return KnownRates(rates, "transferred", _doubt(unit, measured_runtime, threads, _TRANSFER / 2 if same else _TRANSFER, rates, fitted))
    return KnownRates(rates_of(device, unit, runtime, threads), "spec-only", None)


def _doubt(unit: str, runtime: str, threads: int | None, more: float, rates: Rates, fitted: FittedRuntime) -> Doubt:
    prior, key = pooled_prior(f"{unit}/{runtime}"), f"{unit}/{runtime}"
    group = "1" if threads == 1 or unit != "cpu" else "2+"
    factors = {precision: factor_of(key, group, precision) * (1.0 if precision in fitted.error else _UNSEEN) for precision in ("fp32", "int8")}
    return Doubt(prior.spread, float(np.hypot(prior.residual, more)), factors["fp32"], factors["int8"], form_of(unit), rates.overhead_ms)


def _fitted(device: str, profile: Profile, unit: str, runtime: str, threads: int | None, fitted: FittedRuntime, faster: float) -> Rates:
    """The rates of the setting that is nearest to ``threads``; beside them memory and energy as the data sheets have them."""
    described, spec = profile.units[unit], rates_of(device, unit, runtime, threads)
    wanted = threads or int(described.threads.value)
    slope = pooled_prior(f"{unit}/{runtime}").mean[1] * (unit == "cpu")
    costs = fitted.log_costs(wanted, slope, gpu=described.gpu_device)
    rates = rates_from(np.exp(costs) / faster, form_of(unit))
    return rates.model_copy(
        update={
            "memory_bytes": spec.memory_bytes,
            "weight_copies": spec.weight_copies,
            "idle_w": spec.idle_w,
            "pj_per_mac": _energies(spec),
            "pj_per_byte": spec.pj_per_byte,
        },
    )


def _transferred(device: str, profile: Profile, unit: str, runtime: str, measured: str, threads: int | None, fitted: FittedRuntime, faster: float) -> Rates:
    """Rates of data sheets times what measurements in another runtime add to those of that runtime."""
    spec, reference = (rates_of(device, unit, name, threads) for name in (runtime, measured))
    found = _fitted(device, profile, unit, measured, threads, fitted, faster)
    # Float networks were measured in half precision where the unit has it.
    floats = "fp16" if "fp16" in reference.compute else "fp32"
    compute: dict[str, dict[str, Rate]] = {}
    for precision, table in spec.compute.items():
        ours, theirs = ("int8", "int8") if precision == "int8" and "int8" in reference.compute else ("fp32", floats)
        compute[precision] = {}
        for op_class, rate in table.items():
            gain = found.compute[ours][op_class].gmacs / reference.compute[theirs][op_class].gmacs
            # Only the measured runtime is known to compute 3x3 convolutions by Winograd's algorithm.
            saturation = form_of(unit).saturation_of("conv" if op_class == "conv3x3" else op_class)
            compute[precision][op_class] = Rate(gmacs=rate.gmacs * gain, **saturation)
    bandwidth = {
        op_class: found.bandwidth(op_class) * value / reference.bandwidth(op_class) for op_class, value in spec.bandwidth_gb_s.items() if op_class != "default"
    }
    launch = found.launch("default") * spec.launch("default") / reference.launch("default")
    return spec.model_copy(
        update={
            "compute": compute,
            # Products move their activations at the measured rate: efficiencies have none of their own for them.
            "bandwidth_gb_s": {**found.bandwidth_gb_s, "default": bandwidth["elementwise"], **bandwidth},
            "weight_gb_s": found.weight_gb_s,
            "launch_us": {"default": launch},
            "hidden_traffic": False,
        }
    )


def _energies(spec: Rates) -> dict[str, float]:
    """By every precision that fitted rates compute in."""
    either = spec.pj_per_mac.get("fp32", max(spec.pj_per_mac.values()))
    return {"fp32": either, "int8": spec.pj_per_mac.get("int8", either), **spec.pj_per_mac}
