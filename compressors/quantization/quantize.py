"""The ``quantize`` step: bit-widths and granularity of weights and activations, by site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import pydantic
from torch import Tensor, nn

from compressors.compressor import STEP_CONFIG, Compressor, GraphEdit, Scores
from compressors.context import Context
from compressors.errors import CompressionError
from compressors.graph.model_graph import ModelGraph
from compressors.graph.patterns import unmatched_patterns
from compressors.quantization.mixed import Mixed, mixed_bits
from compressors.quantization.sensitivity import SensitivityTable, criterion_of
from compressors.targets.site_spec import CHANNEL, TENSOR, Observer, Rounding, SiteMethod, WeightRange

__all__ = ["Quantize", "prepared_state"]

_FLOAT = 32
WeightBits = Literal[2, 3, 4, 8, 16, 32]
ActivationBits = Annotated[Literal[8, 16, 32], pydantic.BeforeValidator(lambda v: _FLOAT if v == "float" else v)]
Granularity = Literal["tensor", "channel", 32, 64, 128]


class Override(pydantic.BaseModel):
    """What the sites of one pattern have instead; what is not given stays as the step says."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    weight_bits: WeightBits | None = None
    activation_bits: ActivationBits | None = None
    granularity: Granularity | None = None
    symmetric: bool | None = None


@dataclass(frozen=True, slots=True)
class _Settings:
    weight_bits: int
    activation_bits: int
    granularity: Granularity
    symmetric: bool


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class Quantize(Compressor):
    """Store weights in fewer bits, and run integer arithmetic where activations have 8.

    What the target's runtime does not run as asked stays float and is said; what it stores wider is priced as it is stored.

    Attributes:
        weight_bits: 2, 3, 4 or 8 (integers), 16 (float16) or 32 (left as they are).
        activation_bits: 8 or 16 (integers), or ``float`` (32): only weights are quantized.
        mode: ``static`` takes the ranges of integer activations from calibration data; ``dynamic`` from each input at run time, for linear layers only.
        granularity: of the scales of weights: one for a ``tensor``, for each output ``channel``, or for each group of 32, 64 or 128 inputs (matrices only).
        symmetric: whether weights have no zero point.
        observer: how static ranges follow from the calibration data; ``percentile`` keeps 99.99 % of the values.
        weight_range: whether the scales of weights cover their largest value (``min-max``) or make the squared error least (``mse``).
        rounding: of weights below 8 bits: ``nearest``, ``gptq`` [Frantar2023] or ``adaround`` [Nagel2020]; both read calibration data.
        bias_correction: whether biases take up the mean shift of their layer's output [Nagel2019].
        overrides: patterns of sites, with what these have instead; of several that match a site the last one counts.
        mixed: a budget, by which each weight gets bits of its own in place of ``weight_bits``: those that together lose least (see ``sensitivity.py``);
            sites whose ``overrides`` say their bits keep these.
    """

    name: ClassVar[str] = "quantize"
    version: ClassVar[int] = 2

    weight_bits: WeightBits = 8
    activation_bits: ActivationBits = 8
    mode: Literal["static", "dynamic"] = "static"
    granularity: Granularity = "channel"
    symmetric: bool = True
    observer: Observer = "mse"
    weight_range: WeightRange = "mse"
    rounding: Rounding = "nearest"
    bias_correction: bool = False
    overrides: Mapping[str, Override] = pydantic.Field(default_factory=dict)
    mixed: Mixed | None = None

    @pydantic.model_validator(mode="after")
    def _bits_are_said_once(self) -> Self:
        if self.mixed is not None and self.weight_bits != 8:
            raise ValueError("give either weight_bits or mixed")
        if self.mixed is not None and any(o.weight_bits is None and (o.granularity or o.symmetric is not None) for o in self.overrides.values()):
            raise ValueError("beside mixed, overrides that change granularity or symmetric must say weight_bits: the losses are those of one way to quantize")
        return self

    def criteria(self) -> tuple[str, ...]:
        """What each weight costs at each width, where widths follow from it."""
        return () if self.mixed is None else (criterion_of(self.granularity, symmetric=self.symmetric, weight_range=self.weight_range),)

    def problems(self, graph: ModelGraph) -> Iterator[tuple[str, str]]:
        """Patterns that match nothing, those of the overrides too."""
        yield from Compressor.problems(self, graph)
        for pattern, near in unmatched_patterns(graph, tuple(self.overrides)):
            yield f"overrides.{pattern}", f"{pattern!r} matches nothing in the model{near}"

    def plan(self, graph: ModelGraph, scores: Scores, edit: GraphEdit) -> GraphEdit:
        """Set the bits of the sites that the patterns leave; weights in 16 bits keep float activations."""
        sites = graph.select_sites(self.include, self.exclude)
        if not sites:
            raise CompressionError("quantize: the patterns leave no weight to quantize")
        weights, activations = edit.weight_bits.copy(), edit.activation_bits.copy()
        granularity, symmetric = edit.granularity.copy(), edit.symmetric.copy()
        own = self._settings(graph, sites)
        dynamic = self.mode == "dynamic"
        for site, settings in own.items():
            integers = settings.weight_bits <= 8
            weights[site] = settings.weight_bits
            granularity[site] = _size(settings.granularity) if integers else CHANNEL
            symmetric[site] = settings.symmetric or not integers
            runs_integer = integers and graph.sites[site].operator in (("linear",) if dynamic else ("linear", "conv"))
            # At run time there are no ranges of 16 bits.
            activations[site] = settings.activation_bits if runs_integer and not (dynamic and settings.activation_bits > 8) else _FLOAT
        dynamic = dynamic and bool((activations[list(sites)] < _FLOAT).any())
        others = np.delete(activations, sites) < _FLOAT
        if others.any() and (activations[list(sites)] < _FLOAT).any() and dynamic != edit.dynamic:
            raise CompressionError("quantize: one recipe takes the ranges of its activations either from calibration data or at run time; accepted: one mode")
        method = SiteMethod(self.observer, self.weight_range, self.rounding, self.bias_correction)
        methods = {**edit.methods, **{graph.sites[site].name: method for site in sites}}
        planned = replace(
            edit,
            weight_bits=weights,
            activation_bits=activations,
            granularity=granularity,
            symmetric=symmetric,
            methods=methods,
            dynamic=dynamic or (edit.dynamic and bool(others.any())),
        )
        if self.mixed is None:
            return planned
        said = {site for pattern, override in self.overrides.items() if override.weight_bits is not None for site in graph.select_sites((pattern,))}
        table = SensitivityTable.from_scores(scores[self.criteria()[0]])
        # A scorer is no part of the model whose sensitivities these are: it has the bits of the step.
        own_bits = [site for site in sites if site not in said and graph.sites[site].name in table.losses]
        return replace(planned, weight_bits=mixed_bits(self.mixed, graph, table, planned, own_bits))

    def _settings(self, graph: ModelGraph, sites: Sequence[int]) -> dict[int, _Settings]:
        found = dict.fromkeys(sites, _Settings(self.weight_bits, self.activation_bits, self.granularity, self.symmetric))
        for pattern, override in self.overrides.items():
            changes = override.model_dump(exclude_none=True)
            found |= {site: replace(found[site], **changes) for site in graph.select_sites((pattern,)) if site in found}
        return found

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:
        """The quantized model: an exported graph from here on, unless every weight has 16 bits."""
        self._log_unsupported(edit, context)
        # An exported graph cannot be annotated twice: a second step starts from the live model again, and the edit holds what both decided.
        live = getattr(model, "compareto_live", model)
        # torchao takes a second to import; whoever only reads recipes does not wait for it.
        from compressors.quantization import flow

        return flow.quantize(live, edit, context, lambda: _calibration(context, edit))

    def _log_unsupported(self, edit: GraphEdit, context: Context) -> None:
        grouped: dict[str, list[str]] = {}
        own = {context.graph.sites[i].name for i in context.graph.select_sites(self.include, self.exclude)}
        for name, reason in context.target.supported(context.graph, edit).items():
            if name in own:
                grouped.setdefault(reason, []).append(name)
        for reason, names in grouped.items():
            context.log(f"quantize: {', '.join(names)}: {reason}")


def _size(granularity: Granularity) -> int:
    if granularity == "tensor":
        return TENSOR
    return CHANNEL if granularity == "channel" else int(granularity)


def prepared_state(model: nn.Module) -> dict[str, Tensor]:
    """Weights, scales and zero points from which ``flow.restore`` converts the same model again; of a model that is not quantized its state."""
    state = getattr(model, "prepared_state", None)
    return dict(state) if state is not None else dict(model.state_dict())


def _calibration(context: Context, edit: GraphEdit) -> Iterator[dict[str, Tensor]]:
    reads_data = not edit.dynamic and bool((edit.activation_bits < _FLOAT).any())
    reads_data |= any(m.rounding != "nearest" or m.bias_correction for m in edit.methods.values())
    if context.data is None or not reads_data:
        # One pass shows every weight; without data, static ranges of activations come from the example inputs.
        yield {name: value.clone() for name, value in context.example_inputs.items()}
        return
    for batch in context.data.batches("calibration"):
        yield batch.inputs
