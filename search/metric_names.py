"""Names of metrics as people write them, resolved to one canonical form: ``latency_ms@raspberry-pi-5`` to ``latency_ms@raspberry-pi-5/onnxruntime``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compressors.errors import UserError, near_miss
from evaluators.devices.device_model import GENERATING, PREDICTED
from evaluators.metric import EXACT, Metric

__all__ = ["MetricNames", "listed_device", "metric_of"]


@dataclass(frozen=True, slots=True)
class MetricNames:
    """What the expressions of one study may name.

    Attributes:
        quality: the task's observed metrics, the main one first.
        devices: full device keys, ``DEVICE[.UNIT]/RUNTIME``.
        generates: whether the task is that of a causal language model.
    """

    quality: tuple[Metric, ...]
    devices: tuple[str, ...]
    generates: bool = False

    @property
    def predicted(self) -> tuple[str, ...]:
        """Names of the metrics that device models predict of this task."""
        return tuple(name for name in PREDICTED if self.generates or name not in GENERATING)

    def resolve(self, text: str) -> tuple[str, Metric]:
        """Canonical name and metric of ``NAME`` or ``NAME@DEVICE``; device and runtime may be left out where only one is meant.

        Raises:
            UserError: unknown metric or device, a device that is missing or has nothing to do here.
        """
        name, at, device = text.partition("@")
        if name in GENERATING and not self.generates:
            raise UserError(f"{name!r} is predicted of language models that generate (model.task: causal-lm); accepted here: {', '.join(self.predicted)}")
        if name in PREDICTED:
            return f"{name}@{self._device(name, device if at else None)}", PREDICTED[name]
        plain = {**EXACT, **{m.name: m for m in self.quality}}
        if name not in plain:
            accepted = [*(m.name for m in self.quality), *EXACT, *self.predicted]
            raise UserError(f"unknown metric {name!r}; accepted: {', '.join(accepted)}{near_miss(name, accepted)}")
        if at:
            raise UserError(f"{name!r} is the same on every device; write it without '@{device}'")
        return name, plain[name]

    def _device(self, metric: str, device: str | None) -> str:
        if device is None:
            if len(self.devices) == 1:
                return self.devices[0]
            listed = ", ".join(f"{metric}@{d}" for d in self.devices) or "none: the experiment lists no devices"
            raise UserError(f"{metric!r} needs a device; accepted: {listed}")
        return listed_device(device, self.devices)

    def objective(self, text: str) -> str:
        """An objective as an experiment keeps it: its canonical name; without a device where it has none and several are listed, which means each of them.

        Raises:
            UserError: see ``resolve``.
        """
        return text if len(self.devices) > 1 and text in self.predicted else self.resolve(text)[0]

    def on(self, objectives: Sequence[str], device: str | None = None) -> tuple[tuple[str, Metric], ...]:
        """Canonical names and metrics of objectives; those of no device are of ``device``, or of each that is listed."""
        places = self.devices if device is None else (device,)
        names = (f"{name}@{place}" if name in self.predicted else name for name in objectives for place in (places if name in self.predicted else ("",)))
        return tuple(self.resolve(name) for name in dict.fromkeys(names))

    @property
    def all(self) -> tuple[str, ...]:
        """Every canonical name, quality first."""
        return (*(m.name for m in self.quality), *EXACT, *(f"{metric}@{device}" for device in self.devices for metric in self.predicted))


def listed_device(text: str, devices: Sequence[str]) -> str:
    """The one key of ``devices`` that ``text`` abbreviates: itself, or the same without its runtime, or without unit and runtime.

    Raises:
        UserError: none or several are meant.
    """
    if text in devices:
        return text
    for short in (_without_runtime, _without_unit):
        matches = [key for key in devices if short(key) == text]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise UserError(f"device {text!r} is ambiguous; accepted: {', '.join(matches)}")
    spellings = [*devices, *map(_without_runtime, devices), *map(_without_unit, devices)]
    raise UserError(f"device {text!r} is not listed under devices; accepted: {', '.join(devices) or 'none'}{near_miss(text, spellings)}")


def metric_of(name: str, quality: Iterable[Metric]) -> Metric:
    """The metric behind a canonical name.

    Raises:
        UserError: there is none.
    """
    plain = {**EXACT, **PREDICTED, **{m.name: m for m in quality}}
    short = name.partition("@")[0]
    if short not in plain:
        raise UserError(f"unknown metric {short!r}; accepted: {', '.join(plain)}{near_miss(short, plain)}")
    return plain[short]


def _without_runtime(key: str) -> str:
    return key.partition("/")[0]


def _without_unit(key: str) -> str:
    return key.partition("/")[0].partition(".")[0]
