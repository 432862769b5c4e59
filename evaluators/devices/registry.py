"""From a device string to its cost model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from evaluators.devices.names import EXPORTED, THIS_HOST, DeviceKey, parse_device
from evaluators.devices.profile import Profile, load_profile

if TYPE_CHECKING:
    from evaluators.devices.device_model import DeviceModel
    from evaluators.devices.energy import Budget

__all__ = ["budget_of", "device_named", "spec_model"]


def _quiet(line: str) -> None:
    """The default progress: nowhere."""


def device_named(text: str, target: str | None = None, progress: Callable[[str], None] = _quiet, *, requests_per_hour: float | None = None) -> DeviceModel:
    """The cost model of ``DEVICE[.UNIT]/RUNTIME[:THREADSt][:MODE]``; see ``parse_device`` for what may be left out.

    ``this-host`` is calibrated first where no calibration is cached; ``progress`` receives its lines. ``requests_per_hour`` is what ``energy_per_hour_mwh``
    counts, 60 where None.

    Raises:
        UserError: no such device, unit, runtime or power mode.
    """
    from evaluators.devices.anchored import anchored
    from evaluators.devices.calibration.anchors import read_anchors
    from evaluators.devices.energy import REQUESTS_PER_HOUR, Powered
    from evaluators.devices.network import Networked

    key, requests = parse_device(text, target), requests_per_hour or REQUESTS_PER_HOUR
    if key.device == THIS_HOST:
        from evaluators.devices.this_host import nearest_profile, this_host

        core = budget_of(load_profile(nearest_profile()))
        budget = replace(core, sustained_w=core.sustained_w * (key.threads or 1))
        return Powered(this_host(progress, key.threads, key.runtime), budget, requests)
    profile = load_profile(key.device)
    model = anchored(Powered(spec_model(key), budget_of(profile), requests), read_anchors(key))
    return model if profile.network is None else Networked(model, profile.network, requests)


def budget_of(profile: Profile) -> Budget:
    """The power figures of a profile."""
    from evaluators.devices.energy import Budget

    return Budget(next(iter(profile.units.values())).idle_w.value, profile.sustained_w.value, profile.heat, profile.sleep)


def spec_model(key: DeviceKey, called: str | None = None) -> DeviceModel:
    """The model from a profile: with rates fitted to public measurements where there are any; ``called`` replaces its key.

    Where there are none the latency interval is what datasheet peaks with efficiencies pooled over other devices leave open on the Tencent/ncnn
    benchmark: with each CPU held out, 90 % of the measured times lie between 0.5 and 2.3 times the predicted (int8: 0.5 to 4); widened for the other
    runtime below. Memory is arithmetic but for the runtime's own share. Energy has published figures per operation only, so its interval is a guess.
    """
    if len(key.units) > 1:
        return _placed(key, called)
    from compressors.targets import target_named
    from evaluators.devices.known_rates import known_rates
    from evaluators.devices.power_modes import at_clock
    from evaluators.devices.roofline import Interval, Roofline
    from evaluators.devices.streaming import stream_gb_s

    # Runtimes that models are exported for know what they fuse; the others are taken to fuse the same patterns.
    target = target_named(key.runtime if key.runtime in EXPORTED else "onnxruntime")
    interval = Interval(latency=(0.4, 2.5), memory=(0.7, 1.6), energy=(0.2, 5.0))
    profile = load_profile(key.device)
    known = known_rates(key.device, key.unit, key.runtime, key.threads)
    rates = at_clock(known.rates, 1.0 if key.mode is None else profile.modes[key.mode])
    others = dict.fromkeys(("peak_memory_bytes", "energy_mj"), "spec-only")
    copies, stream = key.runtime == "onnxruntime" and key.unit == "cpu", stream_gb_s(key.device, key.unit)
    return Roofline(
        called or str(key),
        int(profile.memory_bytes.value),
        rates,
        target,
        known.tier,
        interval,
        others,
        doubt=known.doubt,
        copies_cache=copies,
        stream_gb_s=stream,
    )


def _placed(key: DeviceKey, called: str | None) -> DeviceModel:
    from evaluators.devices.placement import Placed, PlacedUnit
    from evaluators.devices.profile_tables import runtime_types
    from evaluators.devices.roofline import Roofline

    units: list[PlacedUnit] = []
    for unit in key.units:
        model = spec_model(replace(key, unit=unit, threads=key.threads if unit == "cpu" else None))
        assert isinstance(model, Roofline), "of one unit"
        units.append(PlacedUnit(unit, model, frozenset(runtime_types()[f"{key.runtime}.{unit}"].absent)))
    return Placed(called or str(key), units[0].model.memory_bytes, tuple(units))
