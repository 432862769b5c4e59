"""What each weight costs at each bit-width, for people: the table that mixed precision is assigned from, as a recipe's quantize step has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from compressors.graph import ModelGraph
from compressors.quantization import Quantize
from compressors.quantization.sensitivity import BITS, SensitivityTable, criterion_of
from search.experiment import Experiment
from search.stages import StageRunner

__all__ = ["BitSensitivity", "SiteLosses", "bit_profile", "first_quantization"]


@dataclass(frozen=True, slots=True)
class SiteLosses:
    """One weight, quantized alone.

    Attributes:
        name, operator, elements: of the site.
        lost: by bits, those that the target stores: mean divergence of the outputs in nats; None where they are not finite.
    """

    name: str
    operator: str
    elements: int
    lost: Mapping[int, float | None]

    def to_plain(self) -> dict[str, Any]:
        """As plain data."""
        return {"name": self.name, "operator": self.operator, "elements": self.elements, "lost": {str(bits): lost for bits, lost in self.lost.items()}}


@dataclass(frozen=True, slots=True)
class BitSensitivity:
    """What ``bit_profile`` found.

    Attributes:
        granularity, symmetric, weight_range: how weights were quantized, as in ``Quantize``.
        target: the runtime whose widths there are.
        examples: of calibration data.
        sites: the one that loses most first, at the fewest bits that all of them have.
    """

    granularity: str | int
    symmetric: bool
    weight_range: str
    target: str
    examples: int
    sites: tuple[SiteLosses, ...]

    @property
    def bits(self) -> tuple[int, ...]:
        """That any site has."""
        return tuple(bits for bits in BITS if any(bits in site.lost for site in self.sites))

    def to_plain(self) -> dict[str, Any]:
        """As plain data."""
        about = {"granularity": self.granularity, "symmetric": self.symmetric, "weight_range": self.weight_range, "target": self.target}
        return {**about, "examples": self.examples, "unit": "nats", "sites": [site.to_plain() for site in self.sites]}


def first_quantization(experiment: Experiment) -> Quantize:
    """The first quantize step of the recipe, at the first value of each of its ranges, or the default one."""
    for path, name, settings in experiment.space.steps():
        if name == "quantize":
            return Quantize.from_config(next(experiment.space.corners(path, settings)))
    return Quantize()


def bit_profile(runner: StageRunner, step: Quantize) -> BitSensitivity:
    """The table for weights that are quantized as ``step`` says, measured on the uncompressed model or read from the runner's cache.

    Raises:
        DivergedError: the uncompressed model's outputs are not finite.
    """
    graph = runner.prepared.graph
    table = SensitivityTable.from_scores(runner.score(criterion_of(step.granularity, symmetric=step.symmetric, weight_range=step.weight_range)))
    common = next((bits for i, bits in enumerate(BITS) if all(not np.isnan(losses[i]) for losses in table.losses.values())), BITS[-1])
    ranked = sorted(_sites(graph, table), key=lambda site: -_or_infinite(site.lost.get(common)))
    return BitSensitivity(step.granularity, step.symmetric, step.weight_range, table.target, table.examples, tuple(ranked))


def _sites(graph: ModelGraph, table: SensitivityTable) -> list[SiteLosses]:
    widths = graph.baseline().widths
    found = []
    for site in graph.sites:
        known = {bits: float(lost) for bits, lost in zip(BITS, table.losses[site.name], strict=True) if not np.isnan(lost)}
        lost: dict[int, float | None] = {bits: value if np.isfinite(value) else None for bits, value in known.items()}
        found.append(SiteLosses(site.name, site.operator, int(site.elements.evaluate(widths)[0]), lost))
    return found


def _or_infinite(lost: float | None) -> float:
    return np.inf if lost is None else lost
