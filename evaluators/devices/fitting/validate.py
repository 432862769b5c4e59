"""How good device models are on measurements that they have not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compressors.errors import UserError, near_miss
from evaluators.devices.fitting.held_out import devices_held_out, networks_held_out
from evaluators.devices.fitting.layers import MeasuredKernel
from evaluators.devices.fitting.measurements import Measurements
from evaluators.devices.fitting.shipped import as_shipped
from evaluators.devices.fitting.validation import Validation

__all__ = ["HOLD_OUT", "validate"]

HOLD_OUT = ("networks", "devices", "none")


def validate(measured: Measurements, networks: Mapping[str, Sequence[MeasuredKernel]], hold_out: str = "networks", anchors: int = 0) -> list[Validation]:
    """Predict every row from others; one result for each unit that was measured.

    ``hold_out`` says from which: ``networks``: not those of the same network, in integers or not; ``devices``: not those of the same device;
    ``none``: from the shipped profiles, whatever they were fitted to. ``anchors`` rows of every setting are known beforehand and not predicted.

    Raises:
        UserError: ``hold_out`` is none of ``HOLD_OUT``; anchors with networks held out; too few networks or devices to hold any out; nothing left to score.
    """
    if hold_out not in HOLD_OUT:
        raise UserError(f"hold-out {hold_out!r} is not known; accepted: {', '.join(HOLD_OUT)}{near_miss(hold_out, HOLD_OUT)}")
    if hold_out == "networks" and anchors:
        raise UserError(f"anchors {anchors}: with networks held out all other networks of a device are known; accepted: 0, or --hold-out devices or none")
    results = []
    for unit in dict.fromkeys(s.unit for s in measured.settings):
        part = measured.of_unit(unit)
        if hold_out == "networks":
            results.append(networks_held_out(part, networks))
        else:
            results.append(devices_held_out(part, networks, anchors) if hold_out == "devices" else as_shipped(part, networks, anchors))
    if not any(result.groups() for result in results):
        names = sorted({name for result in results for name in result.unmatched})
        hint = f"no profile lists {', '.join(names[:3])}; with --anchors 1 or more they are predicted from what devices have in common" if names else ""
        raise UserError(f"nothing can be scored: {hint or 'every row is an anchor or disturbed'}")
    return results
