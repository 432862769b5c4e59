"""From a device string to its cost model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from evaluators.devices.names import THIS_HOST, DeviceKey, parse_device
from evaluators.devices.profile import load_profile
from evaluators.devices.rates import rates_of

if TYPE_CHECKING:
    from evaluators.devices.device_model import DeviceModel

__all__ = ["device_named", "spec_model"]


def _quiet(line: str) -> None:
    """The default progress: nowhere."""


def device_named(text: str, target: str | None = None, progress: Callable[[str], None] = _quiet) -> DeviceModel:
    """The cost model of ``DEVICE[.UNIT]/RUNTIME[:THREADSt]``; see ``parse_device`` for what may be left out.

    ``this-host`` is calibrated first where no calibration is cached; ``progress`` receives its lines.

    Raises:
        UserError: no such device, unit or runtime.
    """
    key = parse_device(text, target)
    if key.device == THIS_HOST:
        from evaluators.devices.this_host import this_host

        return this_host(progress, threads=key.threads)
    return spec_model(key)


def spec_model(key: DeviceKey, called: str | None = None) -> DeviceModel:
    """The model from a profile alone, tier ``spec-only``; ``called`` replaces its key.

    The latency interval is what datasheet peaks with efficiencies pooled over other devices leave open on the Tencent/ncnn benchmark:
    with each CPU held out, 90 % of the measured times lie between 0.5 and 2.3 times the predicted (int8: 0.5 to 4); widened for the other
    runtime below. Memory is arithmetic but for the runtime's own share. Energy has published figures per operation only, so its interval is a guess.
    """
    from compressors.targets import target_named
    from evaluators.devices.roofline import Interval, Roofline

    # Only this runtime's fusion rules are known so far; the others fuse the same patterns.
    target = target_named("onnxruntime")
    interval = Interval(latency=(0.4, 2.5), memory=(0.7, 1.6), energy=(0.2, 5.0))
    memory = int(load_profile(key.device).memory_bytes.value)
    return Roofline(called or str(key), memory, rates_of(key.device, key.unit, key.runtime, key.threads), target, "spec-only", interval)
