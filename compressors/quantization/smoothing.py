"""SmoothQuant [Xiao2023]_: outliers of activations move into the weights that read them; the model stays the same function.

Activations have one range a tensor, so one large channel costs all others their resolution, while weights have scales of their own. It is possible where the
channels come from the affine part of a normalisation, or from a linear layer, and only linear layers read them.

.. [Xiao2023] Xiao et al., SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models, ICML 2023.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import pydantic
import torch
from torch import Tensor, nn

from compressors.compressor import STEP_CONFIG, Compressor, GraphEdit, Scores
from compressors.context import Context
from compressors.errors import CompressionError, DivergedError, UserError
from compressors.evaluating import evaluating
from compressors.graph.model_graph import ModelGraph
from compressors.quantization.rescaling import Width, find_widths
from compressors.quantization.unit_scales import LARGEST_FACTOR, UnitScales, check_same_function, selected

__all__ = ["Smooth"]


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class Smooth(Compressor):
    """Move ranges of activations into weights; stands before ``quantize``.

    ``include`` and ``exclude`` select the weights that read, and the weight that makes a width where a layer does.

    Attributes:
        alpha: how much of an activation's range moves: 0 evens out the weights, 1 the activations.
    """

    name: ClassVar[str] = "smooth"

    alpha: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.5

    def plan(self, graph: ModelGraph, scores: Scores, edit: GraphEdit) -> GraphEdit:  # noqa: ARG002 - needs no scores
        """No shape changes. See ``Compressor.plan``."""
        if not self._widths(graph):
            raise CompressionError("smooth: the patterns leave no place where a normalisation or a linear layer feeds nothing but linear layers")
        return edit

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:  # noqa: ARG002 - the model is already cut
        """A copy that computes the same function; the places are logged. See ``Compressor.apply``.

        Raises:
            UserError: there is no calibration data.
            CompressionError: nothing is left to smooth, or the model's code does not compute what its trace shows.
            DivergedError: an activation is not finite.
        """
        smooth = copy.deepcopy(model)
        scales = UnitScales(smooth, context.graph)
        widths = self._widths(context.graph)
        obstacles = {str(width): obstacle for width in widths if (obstacle := scales.obstacle(width)) is not None}
        inputs = _largest_inputs(smooth, {width.readers[0].module for width in widths if str(width) not in obstacles}, context)
        obstacles |= {str(width): "a layer that is not called" for width in widths if str(width) not in obstacles and width.readers[0].module not in inputs}
        widths = [width for width in widths if str(width) not in obstacles]
        if not widths:
            raise CompressionError(f"smooth: no place is left; {', '.join(sorted(set(obstacles.values())))} at those that there were")
        for width in widths:
            active = scales.by_feature(width, width.readers[0], inputs[width.readers[0].module])
            read = torch.stack([scales.largest(width, reader.weight) for reader in width.readers]).amax(0)
            factors = (active.pow(self.alpha) / read.pow(1 - self.alpha)).clamp(1 / LARGEST_FACTOR, LARGEST_FACTOR)
            scales.scale(width, torch.where((active > 0) & (read > 0), factors, torch.ones_like(factors)))
        check_same_function(model, smooth, context)
        read_by = {reader.module for width in widths for reader in width.readers}
        linear = {site.module for site in context.graph.sites if site.operator == "linear"}
        left = "".join(f"; {n} places left alone for {reason}" for reason, n in Counter(obstacles.values()).items())
        context.log(f"smooth: inputs of {len(read_by)} of {len(linear)} linear layers, at {len(widths)} places: {'; '.join(map(str, widths))}{left}")
        return smooth

    def _widths(self, graph: ModelGraph) -> list[Width]:
        linear = [width for width in find_widths(graph)[0] if all(reader.operator == "linear" for reader in width.readers)]
        # Behind a batch norm there is a convolution, or a layer that it is folded into: its outputs are no stream of features with outliers.
        return selected(graph, (width for width in linear if width.maker.norm is None), self.include, self.exclude)


def _largest_inputs(model: nn.Module, names: set[str], context: Context) -> dict[str, Tensor]:
    """Largest magnitude of each input feature on calibration data, ``[features]``, of the modules that are called."""
    if context.data is None:
        raise UserError("smooth: reads calibration data; pass data= with batches, steps, loss and score")
    found: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            value = (args[0] if args else next(iter(kwargs.values()))).detach()
            largest = value.abs().flatten(0, -2).amax(0).float()
            found[name] = torch.maximum(found[name], largest) if name in found else largest

        return hook

    hooks = [model.get_submodule(name).register_forward_pre_hook(watch(name), with_kwargs=True) for name in sorted(names)]
    device = next(model.parameters()).device
    try:
        with torch.no_grad(), evaluating(model):
            for batch in context.data.batches("calibration"):
                model(**batch.to(device).inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for name, largest in found.items():
        if not torch.isfinite(largest).all():
            raise DivergedError(f"smooth: the input of {name} is not finite on calibration data")
    return found
