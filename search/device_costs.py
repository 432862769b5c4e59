"""The device models of a study: those of another runtime than its target price the target's plan, and say so."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compressors.graph import ModelGraph, Shapes
from compressors.graph.exits import Exits
from evaluators.devices import device_named
from evaluators.devices.device_model import Adjusted, CostArray, DeviceModel
from evaluators.devices.names import parse_device
from evaluators.exit_rates import ExitRates
from evaluators.metric import Estimate

__all__ = ["Transferred", "in_blocks", "study_device"]

_TIER = "transferred"
_BLOCK = 64


@dataclass(frozen=True)
class Transferred(Adjusted):
    """A device model whose figures count as carried over: its rates are of its runtime, the plan that it prices is another's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "tier", _TIER)

    def cost(self, graph: ModelGraph, shapes: Shapes) -> dict[str, CostArray]:
        """As the device's model says, of another tier."""
        return {name: dataclasses.replace(values, tier=_TIER) for name, values in self.model.cost(graph, shapes).items()}


def in_blocks(
    shapes: Shapes, rates: Sequence[ExitRates | None] | None, price: Callable[[Shapes, Sequence[ExitRates] | None], list[dict[str, Estimate]]]
) -> list[dict[str, Estimate]]:
    """The costs of candidates, priced in blocks of one length: what is missing is filled up with the last row.

    Sums of floats depend on the layout of what is summed. In a block a candidate has the same figures to the last digit, whatever it is priced together with.

    Args:
        shapes: the candidates.
        rates: one for each, None of those without early exits; None where none has any.
        price: the costs of a batch whose candidates have the same exits.
    """
    given: Sequence[ExitRates | None] = rates or [None] * len(shapes)
    groups: dict[Exits | None, list[int]] = {}
    for i, one in enumerate(given):
        groups.setdefault(one.exits if one is not None else None, []).append(i)
    found: dict[int, dict[str, Estimate]] = {}
    for rows in groups.values():
        for start in range(0, len(rows), _BLOCK):
            part = rows[start : start + _BLOCK]
            filled = [*part, *[part[-1]] * (_BLOCK - len(part))]
            own = [one for i in filled if (one := given[i]) is not None]
            found |= dict(zip(part, price(Shapes.concatenate([shapes[i : i + 1] for i in filled]), own or None)[: len(part)], strict=True))
    return [found[i] for i in range(len(shapes))]


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
