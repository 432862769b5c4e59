"""The device models of a study: those of another runtime than its target price the target's plan, and say so."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from compressors.graph import ModelGraph, Shapes
from evaluators.devices import device_named
from evaluators.devices.device_model import Adjusted, CostArray, DeviceModel
from evaluators.devices.names import parse_device

__all__ = ["Transferred", "blocks", "study_device"]

_TIER = "transferred"
_BLOCK = 16


@dataclass(frozen=True)
class Transferred(Adjusted):
    """A device model whose figures count as carried over: its rates are of its runtime, the plan that it prices is another's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "tier", _TIER)

    def cost(self, graph: ModelGraph, shapes: Shapes) -> dict[str, CostArray]:
        """As the device's model says, of another tier."""
        return {name: dataclasses.replace(values, tier=_TIER) for name, values in self.model.cost(graph, shapes).items()}


def blocks(shapes: Shapes) -> Iterator[tuple[int, Shapes]]:
    """A batch in blocks of one length, each with how many of its rows count: the last is filled up with its last row.

    Sums of floats depend on the layout of what is summed. In a block a candidate has the same figures to the last digit, whatever it is priced together with.
    """
    for start in range(0, len(shapes), _BLOCK):
        block = shapes[start : start + _BLOCK]
        yield len(block), Shapes.concatenate([block, *[block[-1:]] * (_BLOCK - len(block))])


def study_device(key: str, target: str, requests_per_hour: float | None, progress: Callable[[str], None] = lambda _: None) -> DeviceModel:
    """The model of a device in a study of ``target``.

    Args:
        key: full, see ``evaluators.devices.resolve_device``.
        target: the study's runtime.
        requests_per_hour: of the workload.
        progress: receives the lines of a calibration of this machine, where none is kept.

    Raises:
        UserError: no such device.
    """
    model = device_named(key, target, progress, requests_per_hour=requests_per_hour)
    return model if parse_device(key, target).runtime == target else Transferred(model)
