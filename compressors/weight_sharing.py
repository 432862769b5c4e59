"""Weight sharing across layers: several modules hold one set of parameters, as the layers of [Lan2020]_ do from the start.

Parameters and stored bytes count once; every layer still runs, so that MACs and latency stay. What is no parameter, such as the running statistics of a batch
norm, stays each layer's own.

.. [Lan2020] Lan et al., ALBERT: A Lite BERT for Self-supervised Learning of Language Representations, ICLR 2020.
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

import pydantic
import torch
from torch import nn

from compressors.compressor import STEP_CONFIG, Compressor, GraphEdit, Patterns, Scores
from compressors.context import Context
from compressors.errors import CompressionError, near_miss
from compressors.graph.model_graph import ModelGraph
from compressors.graph.sharing import tie
from compressors.graph.surgery import note

__all__ = ["ShareWeights"]

_Groups = tuple[Annotated[Patterns, pydantic.Field(min_length=1)], ...]
_Shapes = dict[str, tuple[tuple[str, tuple[int, ...]], ...]]
"""Names and shapes of the parameters of modules, by the module's name."""


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class ShareWeights(Compressor):
    """Let modules of the same shapes share their weights; give ``every`` or ``groups``. ``include`` and ``exclude`` say which parts of them do.

    Attributes:
        every: in each stack of blocks, so many blocks in a row share, counted over the blocks that are there; in (1, ...).
        groups: of each group, the modules that its patterns match share (the outermost ones; a string stands for a list of one pattern).
        init: what they share at first: the weights of the ``first`` of them, or the ``mean`` of all.
    """

    name: ClassVar[str] = "share_weights"

    every: Annotated[int, pydantic.Field(ge=2)] | None = None
    groups: Annotated[_Groups, pydantic.Field(min_length=1)] | None = None
    init: Literal["first", "mean"] = "first"

    @pydantic.model_validator(mode="after")
    def _one_choice(self) -> Self:
        if (self.every is None) == (self.groups is None):
            raise ValueError("give either every or groups")
        return self

    def problems(self, graph: ModelGraph) -> Iterator[tuple[str, str]]:
        """See ``Compressor.problems``."""
        given = {"include": self.include, "exclude": self.exclude, "groups": tuple(pattern for patterns in self.groups or () for pattern in patterns)}
        for key, pattern in ((key, pattern) for key, patterns in given.items() for pattern in patterns):
            if not any(fnmatch.fnmatchcase(name, pattern) for name in graph.shareable_names):
                yield key, f"{pattern!r} matches no module whose weights can be shared{near_miss(pattern, graph.shareable_names)}"

    def plan(self, graph: ModelGraph, scores: Scores, edit: GraphEdit) -> GraphEdit:  # noqa: ARG002 - needs no scores
        """Choose what is shared. See ``Compressor.plan``."""
        shapes = _shapes(graph, edit)
        found = [
            group
            for members in (self._stacked(graph, edit, shapes) if self.groups is None else self._named(graph, edit))
            for group in self._parts(shapes, members)
        ]
        if not found:
            raise CompressionError("share_weights: the patterns leave no two modules of the same shapes")
        taken = {module for group in edit.shared for module in group}
        for module in (module for group in found for module in group):
            if module in taken:
                raise CompressionError(f"share_weights: {module} is in two groups; accepted: one")
            if f"{module}.weight" in edit.sparse:
                raise CompressionError(f"share_weights: {module} is sparse by an earlier sparsify; accepted: share_weights before sparsify")
            taken.add(module)
        return replace(edit, shared=(*edit.shared, *found))

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:
        """A copy whose modules hold the same parameters. See ``Compressor.apply``."""
        smaller = copy.deepcopy(model)
        before = sum(p.numel() for p in smaller.parameters())
        for group in edit.shared:
            modules = [smaller.get_submodule(path) for path in edit.present(context.graph, group)]
            if self.init == "mean":
                _average(modules)
        tie(smaller, edit.shared)
        after = sum(p.numel() for p in smaller.parameters())
        context.log(f"share_weights: {before:,} parameters before, {after:,} after")
        note(smaller, context.graph, shared=[list(group) for group in edit.shared])
        return smaller

    def _stacked(self, graph: ModelGraph, edit: GraphEdit, shapes: _Shapes) -> Iterator[list[str]]:
        """Blocks in a row that are alike, ``every`` at a time."""
        for stack in (axis for axis in graph.axes if axis.kind == "blocks"):
            run: list[str] = []
            for block in edit.present(graph, stack.modules):
                if run and (len(run) == self.every or _below(shapes, run[0]) != _below(shapes, block)):
                    yield run
                    run = []
                run.append(block)
            yield run

    def _named(self, graph: ModelGraph, edit: GraphEdit) -> Iterator[list[str]]:
        for i, patterns in enumerate(self.groups or ()):
            matched = [name for name in graph.shareable_names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
            outermost = [name for name in matched if not any(name.startswith(f"{other}.") for other in matched)]
            if len(outermost) < 2:
                raise CompressionError(f"share_weights.groups[{i}]: {list(patterns)} match {outermost or 'no module'}; accepted: at least two modules")
            yield edit.present(graph, outermost)

    def _parts(self, shapes: _Shapes, members: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """One group for each module with parameters below the members, those aside that the patterns leave out."""
        chosen = {member: below for member in members if (below := {n: s for n, s in _below(shapes, member).items() if self._selects(member, n)})}
        for member, below in chosen.items():
            first = next(iter(chosen))
            if below != chosen[first]:
                raise CompressionError(f"share_weights: {first} and {member} differ{_difference(chosen[first], below)}; accepted: modules of the same shapes")
        if len(chosen) > 1:
            yield from (tuple(_joined(member, name) for member in chosen) for name in next(iter(chosen.values())))

    def _selects(self, member: str, name: str) -> bool:
        path = _joined(member, name)
        names = [path[:i] for i, letter in enumerate(path) if letter == "."] + [path]

        def match(patterns: Iterable[str]) -> bool:
            return any(fnmatch.fnmatchcase(n, pattern) for n in names for pattern in patterns)

        return (not self.include or match(self.include)) and not match(self.exclude)


def _shapes(graph: ModelGraph, edit: GraphEdit) -> _Shapes:
    """As earlier steps have left them; the factors of a layer are among its parameters."""
    widths = edit.shapes(graph).widths
    shareable = set(graph.shareable)
    found: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    for tensor in graph.parameter_tensors.values():
        owner = next((o for o in (tensor.name.rpartition(".")[0], tensor.name.rsplit(".", 2)[0]) if o in shareable), None)
        if owner is not None:
            found.setdefault(owner, []).append((tensor.name[len(owner) + 1 :], tuple(int(dim.evaluate(widths)[0]) for dim in tensor.dims)))
    return {owner: tuple(entries) for owner, entries in found.items()}


def _below(shapes: _Shapes, module: str) -> _Shapes:
    return {path[len(module) + 1 :]: entries for path, entries in shapes.items() if f"{path}.".startswith(f"{module}.")}


def _joined(module: str, name: str) -> str:
    return f"{module}.{name}" if name else module


def _difference(a: _Shapes, b: _Shapes) -> str:
    """The first parameter that they do not have alike."""
    for name in (*a, *b):
        if a.get(name) != b.get(name):
            pairs = dict(a.get(name, ())), dict(b.get(name, ()))
            key = next(k for k in (*pairs[0], *pairs[1]) if pairs[0].get(k) != pairs[1].get(k))
            sizes = ["nothing" if (shape := pair.get(key)) is None else "x".join(map(str, shape)) for pair in pairs]
            return f" ({_joined(name, key)} is {sizes[0]} in one and {sizes[1]} in the other, as the model has it or an earlier step has cut it)"
    return ""


def _average(modules: Sequence[nn.Module]) -> None:
    """Set the parameters of the first of ``modules`` to the mean of all."""
    each: list[dict[str, Any]] = [dict(module.named_parameters()) for module in modules]
    with torch.no_grad():
        for name, parameter in each[0].items():
            parameter.copy_(torch.stack([parameters[name].double() for parameters in each]).mean(dim=0))
