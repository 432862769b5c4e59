"""Local attention: full self-attention becomes attention in a window of tokens to each side, computed in blocks (see ``compressors.graph.windows``).

No weight changes, so that the model starts from the original; what it can no longer see it learns to do without in a ``distill`` step that follows.
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

import pydantic
from torch import nn

from compressors.compressor import STEP_CONFIG, Compressor, GraphEdit, Scores
from compressors.context import Context
from compressors.errors import CompressionError, near_miss
from compressors.graph.model_graph import ModelGraph
from compressors.graph.surgery import note
from compressors.graph.windows import install_window

__all__ = ["LocalAttention"]


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class LocalAttention(Compressor):
    """Give attentions a window. Where blocks of it would compute no fewer pairs of tokens than there are, as in short texts, attention stays full.

    ``include`` and ``exclude`` match the modules that call attention, and those that hold them.

    Attributes:
        window: tokens to each side that a token sees, at least 1.
    """

    name: ClassVar[str] = "local_attention"

    window: Annotated[int, pydantic.Field(ge=1)]

    def problems(self, graph: ModelGraph) -> Iterator[tuple[str, str]]:
        """See ``Compressor.problems``."""
        names = sorted({name for module in graph.windowable for name in _holders(module)})
        if not names:
            yield "window", f"{self.window}: {_none(graph)}"
            return
        for key in ("include", "exclude"):
            for pattern in getattr(self, key):
                if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
                    yield (
                        key,
                        f"{pattern!r} matches no attention{near_miss(pattern, names)}; accepted: {', '.join(list(graph.windowable)[:6])}, or what holds one",
                    )
        if not self._modules(graph):
            yield ("exclude" if self.exclude else "include"), f"leaves no attention; accepted: some of {', '.join(list(graph.windowable)[:6])}"

    def plan(self, graph: ModelGraph, scores: Scores, edit: GraphEdit) -> GraphEdit:  # noqa: ARG002 - needs no scores
        """Choose the attentions for which blocks save arithmetic. See ``Compressor.plan``."""
        modules = self._modules(graph)
        if not modules:
            raise CompressionError(
                f"{self.name}: the patterns leave no attention" if graph.windowable else f"{self.name}: window {self.window}: {_none(graph)}"
            )
        cheaper = [module for module in edit.present(graph, modules) if graph.window_sizes(module, self.window)[0] < graph.windowable[module] ** 2]
        return replace(edit, windows={**edit.windows, **dict.fromkeys(cheaper, self.window)})

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:
        """A copy whose attentions have windows. See ``Compressor.apply``."""
        smaller = copy.deepcopy(model)
        for module in edit.present(context.graph, edit.windows):
            install_window(smaller, module, edit.windows[module])
        note(smaller, context.graph, windows=dict(edit.windows))
        context.log(f"{self.name}: {len(edit.windows)} of {len(context.graph.windowable)} attentions see {self.window} tokens to each side")
        return smaller

    def _modules(self, graph: ModelGraph) -> list[str]:
        def match(patterns: Sequence[str], module: str) -> bool:
            return any(fnmatch.fnmatchcase(name, pattern) for name in _holders(module) for pattern in patterns)

        return [module for module in graph.windowable if (not self.include or match(self.include, module)) and not match(self.exclude, module)]


def _holders(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _none(graph: ModelGraph) -> str:
    attention = any(operator.op_class == "attention" for operator in graph.operators)
    why = (
        "the attention that the model has is causal, to another sequence, with a cache, or written out" if attention or graph.programs else "the model has none"
    )
    return f"no full self-attention that could have a window: {why}; accepted: an encoder that calls scaled_dot_product_attention"
