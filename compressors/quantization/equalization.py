"""Cross-layer equalisation [Nagel2019]_: the units between two layers are scaled so that both weights use their ranges alike; the function stays the same.

It is possible where what lies between is positively homogeneous (ReLU, pooling, attention in its values) or affine for each channel (batch norm), and nothing
else reads the units. Weights that have one scale an output channel gain nothing in the first layer of a pair: what gains are the second layer, scales of whole
tensors or of groups of inputs, and the range of the activation between.

.. [Nagel2019] Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar

import pydantic
import torch
from torch import Tensor, nn

from compressors.compressor import STEP_CONFIG, Compressor, GraphEdit, Scores
from compressors.context import Context
from compressors.errors import CompressionError, DivergedError
from compressors.graph.model_graph import ModelGraph
from compressors.quantization.rescaling import Width, find_widths
from compressors.quantization.unit_scales import LARGEST_FACTOR, UnitScales, check_same_function, selected

__all__ = ["Equalize"]

_SWEEPS = 100
_CONVERGED = 1e-3


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class Equalize(Compressor):
    """Equalise the ranges of consecutive layers; stands before ``quantize``. Chains of layers are swept until nothing moves any more.

    ``include`` and ``exclude`` select weights; a pair is equalised where both of its weights are selected.
    """

    name: ClassVar[str] = "equalize"

    def plan(self, graph: ModelGraph, scores: Scores, edit: GraphEdit) -> GraphEdit:  # noqa: ARG002 - needs no scores
        """No shape changes. See ``Compressor.plan``."""
        widths, reasons = self._widths(graph)
        if not widths:
            raise CompressionError(f"equalize: the patterns leave no two layers between which units can be scaled{_told(reasons.values())}")
        return edit

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:  # noqa: ARG002 - the model is already cut
        """A copy that computes the same function; which pairs were equalised is logged. See ``Compressor.apply``.

        Raises:
            CompressionError: nothing is left to equalise, or the model's code does not compute what its trace shows.
            DivergedError: a weight is not finite.
        """
        widths, reasons = self._widths(context.graph)
        equal = copy.deepcopy(model)
        scales = UnitScales(equal, context.graph)
        obstacles = {str(width): obstacle for width in widths if (obstacle := scales.obstacle(width)) is not None}
        widths = [width for width in widths if str(width) not in obstacles]
        reasons |= obstacles
        if not widths:
            raise CompressionError(f"equalize: no two layers are left between which units can be scaled{_told(reasons.values())}")
        before = [_spread(scales, width) for width in widths]
        for _ in range(_SWEEPS):
            if max(_equalise(scales, width) for width in widths) < _CONVERGED:
                break
        check_same_function(model, equal, context)
        context.log(f"equalize: {len(widths)} pairs{_told(reasons.values())}")
        for width, spread in zip(widths, before, strict=True):
            context.log(f"equalize: {width}: ranges of a unit's weights in the two layers differed by up to {spread:.1f}x, now {_spread(scales, width):.1f}x")
        return equal

    def _widths(self, graph: ModelGraph) -> tuple[list[Width], dict[str, str]]:
        widths, reasons = find_widths(graph)
        weights = {site.module for site in graph.sites}
        # Of normalisations that stand behind no layer, no weight is quantized.
        known = {module: reason for module, reason in reasons.items() if module in weights}
        return selected(graph, (width for width in widths if width.maker.weight is not None), self.include, self.exclude), known


def _ranges(scales: UnitScales, width: Width) -> tuple[Tensor, Tensor]:
    """Of each unit: its largest weight where it is made, and where it is read."""
    assert width.maker.weight is not None, "both are layers"
    made = scales.largest(width, width.maker.weight, width.maker.norm)
    read = torch.stack([scales.largest(width, reader.weight, reader.norm) for reader in width.readers]).amax(0)
    if not bool(torch.isfinite(made).all() & torch.isfinite(read).all()):
        raise DivergedError(f"equalize: a weight of {width} is not finite")
    return made, read


def _equalise(scales: UnitScales, width: Width) -> float:
    """Scale one width; the largest change, as a logarithm."""
    made, read = _ranges(scales, width)
    # A unit that is nothing on one side stays as it is.
    factors = torch.where((made > 0) & (read > 0), (made / read).sqrt().clamp(1 / LARGEST_FACTOR, LARGEST_FACTOR), torch.ones_like(made))
    scales.scale(width, factors)
    return float(factors.log().abs().max())


def _spread(scales: UnitScales, width: Width) -> float:
    made, read = _ranges(scales, width)
    alive = (made > 0) & (read > 0)
    return float((made[alive] / read[alive]).log().abs().max().exp()) if bool(alive.any()) else 1.0


def _told(reasons: Iterable[str]) -> str:
    counted = Counter(reasons).most_common()
    return f"; not scaled: {', '.join(f'{n} for {reason}' for reason, n in counted)}" if counted else ""
