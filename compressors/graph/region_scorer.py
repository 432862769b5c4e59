"""The part of an image that a model sees: a small network in front of the model scores places, and the model runs on the crop at the best one.

The module keeps its class and the names of its parameters; the scorer is one more submodule, which a hook gives the image. So whatever traces, cuts, quantizes,
prices or exports the model does the same with its scorer. The crop is index arithmetic and one gather: every shape is known before the model runs.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from compressors.graph.positions import has_positions, resize_positions
from compressors.sizing import SCORER, Sizing

__all__ = ["RegionScorer", "fit_to_inputs", "fits_inputs", "scorer_in", "with_scorer_of"]


class RegionScorer(nn.Module):
    """Images to crops of the region that says most.

    A thumbnail (means over square cells) goes through two small convolutions to a heat for each cell; the mean heat within a crop is its score. Crops may lie
    on a grid of places, about a quarter of their side apart, that reaches from border to border.

    Args:
        sizing: with ``channels`` of the images and ``scorer``, the channels of the hidden layers.

    Attributes:
        places: how many there are.
        place: of every crop, where somebody sets it; None lets the scores decide.
    """

    starts: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, sizing: Sizing) -> None:
        super().__init__()
        left = [whole - part for whole, part in zip(sizing.native, sizing.size, strict=True)]
        step = max(1, min(min(sizing.size) // 4, *(n // 2 for n in left if n)))
        self.cell = (step + 1) // 2
        self.stride = min(step, 2)
        self.window = tuple(max(1, part // self.cell) for part in sizing.size)
        counts = [(whole // self.cell - part) // self.stride + 1 for whole, part in zip(sizing.native, self.window, strict=True)]
        tops, lefts = (torch.tensor(_spread(rest, count)) for rest, count in zip(left, counts, strict=True))
        self.places = math.prod(counts)
        self.place: int | None = None
        # Tables of the code, no parameters: they follow from the sizes.
        self.register_buffer("starts", (tops[:, None] * sizing.native[1] + lefts).flatten(), persistent=False)
        self.register_buffer("rows", torch.arange(sizing.size[0]) * sizing.native[1], persistent=False)
        self.register_buffer("columns", torch.arange(sizing.size[1]), persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Conv2d(sizing.channels, sizing.scorer, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(sizing.scorer, sizing.scorer, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(sizing.scorer, 1, 1),
            )

    def forward(self, image: Tensor) -> Tensor:
        """The crop ``[examples, channels, *size]`` of each image ``[examples, channels, *native]``."""
        chosen = self.scores(self.thumbnail(image)).argmax(1) if self.place is None else torch.full((len(image),), self.place, device=image.device)
        # The crop's first pixel, then its rows, then their pixels, as they follow one another in the image.
        pixels = (self.starts.index_select(0, chosen)[:, None] + self.rows)[:, :, None] + self.columns
        picked = pixels.flatten(1)[:, None].expand(-1, image.shape[1], -1)
        return image.flatten(2).gather(2, picked).reshape(*image.shape[:2], len(self.rows), len(self.columns))

    def thumbnail(self, image: Tensor) -> Tensor:
        """What is scored, ``[examples, channels, cells, cells]``."""
        return image if self.cell == 1 else functional.avg_pool2d(image, self.cell)

    def scores(self, thumbnail: Tensor) -> Tensor:
        """Of each place, ``[examples, places]``; higher says more."""
        # The mean comes last: runtimes that keep integers to layers with weights take it in floats, so that few places score alike.
        return functional.avg_pool2d(self.layers(thumbnail), self.window, self.stride).flatten(1)

    def before(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:  # noqa: ARG002 - torch's signature
        """Before the model runs: it sees the crop."""
        if args:
            return (self(args[0]), *args[1:]), kwargs
        name = next(name for name, value in kwargs.items() if isinstance(value, Tensor) and value.dim() == 4)
        return args, {**kwargs, name: self(kwargs[name])}


def fit_to_inputs(model: nn.Module, sizing: Sizing) -> None:
    """Bring ``model`` to inputs of another size, in place: its learned positions, and a scorer that has learned nothing yet. What is done already stays.

    Raises:
        CompressionError: its patches do not fill images of that size.
    """
    resize_positions(model, sizing)
    if sizing.scorer and scorer_in(model) is None:
        scorer = RegionScorer(sizing).to(next((parameter.device for parameter in model.parameters()), None))
        model.register_forward_pre_hook(scorer.before, with_kwargs=True)
        model.add_module(SCORER, scorer.train(model.training))


def fits_inputs(model: nn.Module, sizing: Sizing) -> bool:
    """Whether ``fit_to_inputs`` would change nothing."""
    return not has_positions(model, sizing) and (not sizing.scorer or scorer_in(model) is not None)


def scorer_in(model: nn.Module) -> RegionScorer | None:
    """A model's scorer; None of a model that sees its inputs whole."""
    found = dict(model.named_children()).get(SCORER)
    return found if isinstance(found, RegionScorer) else None


def with_scorer_of(model: nn.Module, other: nn.Module) -> nn.Module:
    """A copy of ``model`` that sees the crops which ``other`` sees; ``model`` itself where that has no scorer."""
    scorer = scorer_in(other)
    if scorer is None:
        return model
    seeing = copy.deepcopy(model)
    ours = scorer_in(seeing)
    assert ours is not None, "both are of one size"
    ours.load_state_dict(scorer.state_dict())
    return seeing


def _spread(rest: int, count: int) -> list[int]:
    """Offsets of ``count`` crops that leave ``rest`` pixels: from border to border, or in the middle."""
    return [rest // 2] if count == 1 else [round(i * rest / (count - 1)) for i in range(count)]
