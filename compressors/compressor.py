"""The contract of a compression step: typed configuration with one plan and one application."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import pydantic
from numpy.typing import NDArray

from compressors.graph.exits import Exits
from compressors.graph.model_graph import ModelGraph
from compressors.graph.patterns import unmatched_patterns
from compressors.graph.shapes import Shapes
from compressors.targets.site_spec import SiteMethod

if TYPE_CHECKING:
    from torch import nn

    from compressors.context import Context
    from compressors.teacher_spec import TeacherSpec

__all__ = ["STEP_CONFIG", "Compressor", "GraphEdit", "Patterns", "Scores"]

STEP_CONFIG = pydantic.ConfigDict(extra="forbid", strict=False, allow_inf_nan=False)
"""Configuration of every step's pydantic dataclass: unknown keys are errors."""

Patterns = Annotated[tuple[str, ...], pydantic.BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)]
"""Shell-style globs over module names; one string stands for a list of one."""

Scores = Mapping[str, Mapping[str, NDArray[np.float64]]]
"""``scores[criterion][axis name]``: importance of each unit, ``[size]``, higher is kept longer. Computed once on the baseline."""


@dataclass(frozen=True)
class GraphEdit:
    """What a recipe has decided about a graph so far.

    Attributes:
        kept: for each axis that was cut, by name, the sorted indices of the units that stay.
        weight_bits: ``[sites]`` bits of each weight, 32 where unquantized.
        activation_bits: ``[sites]`` bits of each site's input activation, 32 where unquantized.
        granularity: ``[sites]`` of each weight's scales: -1 one a tensor, 0 one a channel, else the size of a group along the input.
        symmetric: ``[sites]`` whether weights have no zero points.
        dynamic: whether activations are quantized at run time.
        ranks: for each layer that is factorised, by the name of its module, its rank.
        separable: names of the modules of convolutions in whose place there is a depthwise and a pointwise one, sorted.
        windows: for each attention that is local, by the name of its module, how many tokens it sees to each side.
        shared: groups of modules, by name, whose weights are one; those of the first one that is there.
        methods: for each site that is quantized, by name, how its integers are found; the default where it is missing.
        sparse: for each site whose weight holds zeros that stay, by name, their pattern: ``2:4`` and the like, or ``unstructured``.
        exits: where the model may stop early; None where it always runs whole.
    """

    kept: Mapping[str, NDArray[np.int64]]
    weight_bits: NDArray[np.int64]
    activation_bits: NDArray[np.int64]
    granularity: NDArray[np.int64]
    symmetric: NDArray[np.bool_]
    dynamic: bool = False
    ranks: Mapping[str, int] = field(default_factory=dict)
    shared: tuple[tuple[str, ...], ...] = ()
    methods: Mapping[str, SiteMethod] = field(default_factory=dict)
    sparse: Mapping[str, str] = field(default_factory=dict)
    exits: Exits | None = None
    separable: tuple[str, ...] = ()
    windows: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def identity(cls, graph: ModelGraph) -> Self:
        """The edit that changes nothing."""
        bits = np.full(len(graph.sites), 32, dtype=np.int64)
        return cls({}, bits, bits.copy(), np.zeros_like(bits), np.ones_like(bits, dtype=np.bool_))

    def cut(self, kept: Mapping[str, NDArray[np.int64]]) -> Self:
        """This edit with more axes cut; indices are those of the uncompressed model."""
        return replace(self, kept={**self.kept, **kept})

    def dropped(self, graph: ModelGraph) -> tuple[str, ...]:
        """Names of the blocks that are not there any more."""
        stacks = (axis for axis in graph.axes if axis.kind == "blocks" and axis.name in self.kept)
        return tuple(axis.modules[i] for axis in stacks for i in sorted(set(range(axis.size)) - set(map(int, self.kept[axis.name]))))

    def present(self, graph: ModelGraph, modules: Iterable[str]) -> list[str]:
        """Those of ``modules`` that lie in no dropped block."""
        gone = tuple(f"{block}." for block in self.dropped(graph))
        return [module for module in modules if not f"{module}.".startswith(gone)]

    def as_made(self, structure: Mapping[str, Any] | None) -> Self:
        """This edit with what the ``compareto_structure`` of the model that was made says: a step may decide while it runs how far it goes.

        Later steps are planned on it, and the model's costs follow from it.
        """
        made = structure or {}
        kept = {name: np.asarray(units, dtype=np.int64) for name, units in made.get("kept", {}).items()}
        shared = tuple(tuple(group) for group in made.get("shared", ()))
        ranks, separable, windows = dict(made.get("factors", {})), tuple(made.get("separable", ())), dict(made.get("windows", {}))
        return replace(self, kept=kept, ranks=ranks, shared=shared, exits=Exits.from_plain(made.get("exits")), separable=separable, windows=windows)

    def shapes(self, graph: ModelGraph) -> Shapes:
        """One row of ``Shapes``."""
        widths = np.array([[len(self.kept[a.name]) if a.name in self.kept else a.size for a in graph.axes]], dtype=np.int64)
        for block in self.dropped(graph):
            widths[0, graph.axis_index(f"{block}:block")] = 0
        for module, rank in self.ranks.items():
            widths[0, graph.axis_index(f"{module}:rank")] = rank
            widths[0, graph.axis_index(f"{module}:dense")] = 0
        for module in self.separable:
            widths[0, graph.axis_index(f"{module}:dense")] = 0
        for module, window in self.windows.items():
            for kind, width in zip(("full", "pairs", "keys"), (0, *graph.window_sizes(module, window)), strict=True):
                widths[0, graph.axis_index(f"{module}:{kind}")] = width
        for group in self.shared:
            for module in self.present(graph, group)[1:]:
                widths[0, graph.axis_index(f"{module}:own")] = 0
        bits = self.weight_bits[None].copy(), self.activation_bits[None].copy()
        return Shapes(widths, *bits, self.granularity[None].copy(), self.symmetric[None].copy(), np.array([self.dynamic]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressor(ABC):
    """One step of a recipe. Subclasses are frozen pydantic dataclasses whose fields are the step's configuration.

    Class attributes:
        name: the step's name in a recipe.
        version: raised whenever the same configuration gives another result; part of every stage key.
        stochastic: whether ``apply`` reads training data, so that budget and seed matter; a property where the configuration decides.
        resumable: whether ``apply`` goes on from a part of its budget, see ``Context.begun``.
        late: names of fields that ``apply`` does not read: they only decide how the finished model is run, so that another value needs no training.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False
    resumable: ClassVar[bool] = False
    late: ClassVar[frozenset[str]] = frozenset()

    include: Patterns = field(default=())
    exclude: Patterns = field(default=())

    def to_config(self) -> dict[str, Any]:
        """The configuration as plain data, defaults included; ``from_config`` reads it back."""
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(type(self))
        dumped: dict[str, Any] = adapter.dump_python(self, mode="json")
        return dumped

    def split_config(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """``to_config`` in two parts: what ``apply`` depends on, and the ``late`` fields."""
        config = self.to_config()
        return {k: v for k, v in config.items() if k not in self.late}, {k: v for k, v in config.items() if k in self.late}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Validate a mapping. Raises ``pydantic.ValidationError`` with every problem."""
        adapter: pydantic.TypeAdapter[Self] = pydantic.TypeAdapter(cls)
        return adapter.validate_python(dict(config))

    def criteria(self) -> tuple[str, ...]:
        """Names of the scores that ``plan`` needs."""
        return ()

    @classmethod
    def plans(cls) -> bool:
        """Whether ``plan`` decides anything; recipes that differ only in steps that do not are planned, and priced, once."""
        return cls.plan is not Compressor.plan

    def teachers(self) -> tuple[TeacherSpec, ...]:
        """Models that it learns from, other than the uncompressed one: part of what its result depends on."""
        return ()

    def problems(self, graph: ModelGraph) -> Iterator[tuple[str, str]]:
        """Key and message of each of the user's mistakes that only the trace shows: patterns that match nothing."""
        for key in ("include", "exclude"):
            for pattern, near in unmatched_patterns(graph, getattr(self, key)):
                yield key, f"{pattern!r} matches nothing in the model{near}"

    def plan(self, graph: ModelGraph, scores: Scores, edit: GraphEdit) -> GraphEdit:  # noqa: ARG002 - for those that decide
        """Extend ``edit`` (what earlier steps decided) by this step's decision; a step that only trains decides nothing. Pure, fast, no model.

        Raises:
            CompressionError: the step cannot be applied to this graph (an axis kind that it does not have, a layer that would be emptied).
        """
        return edit

    @abstractmethod
    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:
        """A new module with this step applied; ``model`` is never mutated. ``edit`` is what ``plan`` returned.

        Raises:
            CompressionError, DivergedError, OutOfMemoryError, UnexportableError
        """

    def settle(self, model: nn.Module) -> nn.Module:
        """The finished model with this step's ``late`` fields: called once all steps have been applied; may change ``model`` in place."""
        return model
