"""Smaller inputs: images of fewer pixels [Touvron2019]_, texts of fewer tokens, series and recordings of fewer moments.

The first step of a recipe. Everything behind it sees inputs of that size: the trace and so the costs, training, calibration, evaluation, the exported file. A
teacher sees them as they are. Learned positions of a vision transformer are resized with the image; positions of texts stay, since a shorter text has the same.

An image may also be cropped where it says most [Wang2020]_: the model then takes whole images, and a small scorer inside it finds the place.

.. [Touvron2019] Touvron et al., Fixing the train-test resolution discrepancy, NeurIPS 2019.
.. [Wang2020] Wang et al., Glance and Focus: a Dynamic Approach to Reducing Spatial Redundancy in Image Classification, NeurIPS 2020.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, NoReturn, Self

import pydantic
from torch import Tensor, nn

from compressors.compressor import STEP_CONFIG, Compressor, GraphEdit
from compressors.context import Context
from compressors.errors import CompressionError, TraceError
from compressors.graph import trace
from compressors.graph.model_graph import Axis, ModelGraph
from compressors.graph.region_scorer import fit_to_inputs, fits_inputs
from compressors.graph.surgery import note
from compressors.informative_region import teach_scorer
from compressors.sizing import SCORER, How, Kind, Sizing, in_scorer

__all__ = ["InputSize"]

_PositiveInt = Annotated[int, pydantic.Field(gt=0)]


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class InputSize(Compressor):
    """Run the model on smaller inputs. Give one of ``image``, ``length`` and ``scale``.

    Attributes:
        image: height and width in pixels; of images that are not square the shorter side, the other one in proportion.
        length: tokens of a text, moments of a series, samples of a recording.
        scale: share of the height, width or length that the data has, in (0, 1].
        round_to: sizes are rounded to a multiple of this, such as the patches of a vision transformer.
        how: ``resize``; ``crop``, which leaves the middle; or ``informative``, of images, which leaves the place that a scorer inside the model chooses, see
            ``compressors.informative_region``. Left out, images and series of several features are resized, and recordings (series of one) cropped, whose
            pitch would change. Texts are always cut at their end.
        scorer: channels of the scorer's two hidden layers; of ``informative`` alone.
        steps: batches that train the scorer; of ``informative`` alone.
    """

    name: ClassVar[str] = "input_size"

    image: _PositiveInt | None = None
    length: _PositiveInt | None = None
    scale: Annotated[float, pydantic.Field(gt=0, le=1)] | None = None
    round_to: _PositiveInt = 1
    how: Literal["resize", "crop", "informative"] | None = None
    scorer: _PositiveInt = 8
    steps: _PositiveInt = 300

    @pydantic.model_validator(mode="after")
    def _one_size(self) -> Self:
        if sum(value is not None for value in (self.image, self.length, self.scale)) != 1:
            raise ValueError("give one of image, length and scale")
        return self

    @property
    def stochastic(self) -> bool:  # type: ignore[override]  # of this step the configuration decides
        """Whether a scorer is trained."""
        return self.how == "informative"

    @property
    def key(self) -> str:
        """Which of them was given."""
        return next(key for key in ("image", "length", "scale") if getattr(self, key) is not None)

    def sizing(self, inputs: Mapping[str, Tensor], *, trailing: int = 0, fewest: int = 1) -> Sizing | None:
        """What this size means for a model's inputs; None where they have it already.

        Args:
            inputs: of the data's size, by keyword.
            trailing: special tokens at the end of each text.
            fewest: tokens of the shortest text that says anything.

        Raises:
            CompressionError: the model has no such input, or the size is none that it could have; names key, value and what is accepted.
        """
        kind, native = _kind(inputs)
        if kind is None:
            shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in inputs.items())
            self._refuse(f"the model's inputs are no images, texts or series ({shapes}); accepted: a model of one of these, or no {self.name}")
        fitting = "image" if kind == "image" else "length"
        if self.key not in (fitting, "scale"):
            described = {"image": "images", "tokens": "texts", "series": "series"}[kind]
            self._refuse(f"the model takes {described}; accepted: {fitting} or scale")
        if kind == "tokens" and self.how is not None:
            raise CompressionError(f"{self.name}.how: {self.how}: texts are cut at their end; accepted: no how")
        asked = native if self.scale == 1 else self._asked(native)
        if any(size > most for size, most in zip(asked, native, strict=True)):
            self._refuse(f"larger than the data's {_shown(native)}; accepted: 1 to {min(native)}")
        if kind == "tokens" and asked[0] < fewest:
            self._refuse(f"{asked[0]} tokens hold no word beside the special ones; accepted: {fewest} to {native[0]}")
        if self.how == "informative" and kind != "image":
            raise CompressionError(f"{self.name}.how: informative: the model takes series; accepted: resize or crop")
        if asked == native:
            return None
        if self.how == "informative":
            return Sizing(kind, native, asked, self.how, scorer=self.scorer, channels=next(iter(inputs.values())).shape[1])
        default: How = "crop" if kind == "series" and next(iter(inputs.values())).dim() == 2 else "resize"
        return Sizing(kind, native, asked, "truncate" if kind == "tokens" else self.how or default, trailing if kind == "tokens" else 0)

    @classmethod
    def plans(cls) -> bool:
        """Although it decides no width: costs are those of the trace at its size. See ``Compressor.plans``."""
        return True

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:  # noqa: ARG002 - the graph has the size
        """A copy for inputs of ``context.sizing``, which says so. See ``Compressor.apply``."""
        if context.sizing is None:
            return copy.deepcopy(model)
        sized = copy.deepcopy(self.resized(model, context.sizing))
        if self.stochastic:
            teach_scorer(sized, context, self.steps)
        note(sized, context.graph, input_size=context.sizing.to_plain())
        return sized

    def resized(self, model: nn.Module, sizing: Sizing) -> nn.Module:
        """A copy whose learned positions are those of another size, with an untrained scorer where one is asked for; the model itself where it needs neither.

        Raises:
            CompressionError: the model's patches do not fill images of that size.
        """
        if fits_inputs(model, sizing):
            return model
        sized = copy.deepcopy(model)
        try:
            fit_to_inputs(sized, sizing)
        except CompressionError as error:
            self._refuse(str(error))
        return sized

    def trace(self, model: nn.Module, inputs: Mapping[str, Tensor], graph: ModelGraph) -> ModelGraph:
        """The trace at another size: axes have the names and widths of ``graph``, and what cannot be cut there cannot be cut here.

        Args:
            model: at that size.
            inputs: of that size.
            graph: the trace of the uncompressed model at the data's size.

        Raises:
            CompressionError: the model does not take inputs of that size.
        """
        try:
            found = trace(model, inputs, check_cuts=False)
        except TraceError as error:
            shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in inputs.items())
            self._refuse(f"the model does not take {shapes}: {_cause(error)}; accepted: sizes nearer to the data's")
        before = {axis.name: axis for axis in graph.axes}
        for axis in graph.prunable:
            if not any(axis.name == other.name and axis.size == other.size for other in found.axes):
                self._refuse(f"at this size the model has no {axis.name} of {axis.size} {axis.kind}; accepted: sizes nearer to the data's")
        axes = [dataclasses.replace(axis, fixed=axis.fixed or (before[axis.name].fixed if axis.name in before else _scorer_s(axis))) for axis in found.axes]
        return dataclasses.replace(found, axes=tuple(axes))

    def _asked(self, native: tuple[int, ...]) -> tuple[int, ...]:
        value = self.image if self.image is not None else self.length
        wanted = [self.scale * n for n in native] if self.scale is not None else [value * n / min(native) for n in native if value is not None]
        return tuple(max(1, round(n / self.round_to)) * self.round_to for n in wanted)

    def _refuse(self, message: str) -> NoReturn:
        raise CompressionError(f"{self.name}.{self.key}: {getattr(self, self.key)}: {message}")


def _kind(inputs: Mapping[str, Tensor]) -> tuple[Kind | None, tuple[int, ...]]:
    values = list(inputs.values())
    if values and all(not value.is_floating_point() and value.dim() == 2 for value in values):
        return "tokens", (values[0].shape[1],)
    if len(values) == 1 and values[0].is_floating_point():
        shape = tuple(values[0].shape)
        if len(shape) == 4:
            return "image", shape[2:]
        if len(shape) in (2, 3):
            return "series", shape[1:2]
    return None, ()


def _scorer_s(axis: Axis) -> str | None:
    return f"input_size.scorer sets it: {SCORER}" if in_scorer(axis.name) else None


def _cause(error: Exception) -> str:
    said = str(error).strip().splitlines()[0]
    return said.partition("): ")[2] or said


def _shown(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
