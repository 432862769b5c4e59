"""Early exits of a live module: heads that read what its blocks return, and the one output that then holds the logits of every stage.

The module keeps its class and the names of its parameters; the heads are one more submodule, fed by hooks. So whatever reads a model by the names of its
trace, quantizes it or exports it, reads one with exits, too. Its output is a tensor ``[examples, stages, classes]``, the last stage being the model itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from compressors.context import logits_of
from compressors.errors import CompressionError
from compressors.graph.exits import EXITS, READABLE, Exits, channels_last, exit_points
from compressors.graph.model_graph import ModelGraph

__all__ = ["ExitHead", "ExitHeads", "attach_exits", "exit_widths", "exits_in"]


class ExitHead(nn.Module):
    """What a block returns to logits.

    Args:
        width: of the block's output: channels, or the size of a token.
        classes: of the model.
        exits: how tokens or pixels are pooled, and whether there is a hidden layer.
        last: whether the width is the block's last dimension, of three or more; it is then normalised: in many transformers nothing bounds it between blocks.
    """

    def __init__(self, width: int, classes: int, exits: Exits, *, last: bool) -> None:
        super().__init__()
        self.first = exits.pool == "first"
        self.norm = nn.LayerNorm(width) if last else None
        self.hidden = None if exits.hidden is None else nn.Linear(width, exits.hidden)
        self.output = nn.Linear(exits.hidden or width, classes)

    def forward(self, block: Tensor, mask: Tensor | None) -> Tensor:
        """Logits ``[examples, classes]`` of a block's output.

        That is ``[examples, width]``, or has tokens, time, or height and width behind the width or, where that is ``last``, before it.

        Args:
            block: see above.
            mask: ``[examples, tokens]``, 0 where a token does not count; None where all do.
        """
        if block.dim() == 2:
            features = block
        elif self.norm is None:
            features = block.mean(dim=tuple(range(2, block.dim())))
        elif block.dim() == 4:
            features = block.mean(dim=(1, 2))
        elif self.first:
            features = block[:, 0]
        elif mask is None or mask.shape != block.shape[:2]:
            features = block.mean(dim=1)
        else:
            counted = mask.to(block.dtype).unsqueeze(-1)
            features = (block * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1.0)
        if self.norm is not None:
            features = self.norm(features)
        if self.hidden is not None:
            features = torch.tanh(self.hidden(features))
        logits: Tensor = self.output(features)
        return logits


class ExitHeads(nn.ModuleList):
    """The heads of a model, in the order of its exits, and what its hooks need.

    What blocks return is kept only while the model runs: nothing stays for a copy, a checkpoint or ``torch.export`` to find.

    Attributes:
        alone: whether the heads are all that is trained: the rest of the model then runs in eval mode.
    """

    alone = False

    def __init__(self, heads: Sequence[ExitHead]) -> None:
        super().__init__(heads)
        self._seen: dict[int, Tensor] = {}
        self._mask: Tensor | None = None

    def begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG002 - torch's signature
        """Before the model runs."""
        self._seen.clear()
        self._mask = kwargs.get("attention_mask")
        if self.alone and model.training:
            model.eval()
            self.train()

    def see(self, exit_: int, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:  # noqa: ARG002 - torch's signature
        """After the block of an exit has run."""
        self._seen[exit_] = output[0] if isinstance(output, tuple) else output

    def end(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor:  # noqa: ARG002 - torch's signature
        """After the model has run: the logits of all stages are its output."""
        logits = [head(self._seen[i], self._mask) for i, head in enumerate(self)]
        self._seen.clear()
        self._mask = None
        return torch.stack([*logits, logits_of(output)], dim=1)


def exits_in(model: nn.Module) -> Mapping[str, Any] | None:
    """What ``compareto_structure`` says of a model's exits, live or quantized; None where it has none.

    ``after``, ``pool``, ``hidden``, ``heads``, ``classes`` and, where one was set, the ``threshold``.
    """
    structure: dict[str, Any] = getattr(model, "compareto_structure", None) or {}
    found: Mapping[str, Any] | None = structure.get("exits")
    return found


def exit_widths(model: nn.Module, graph: ModelGraph, after: Sequence[str], inputs: Mapping[str, Tensor]) -> tuple[list[tuple[int, bool]], int]:
    """Of each exit's block the width of its output and whether that is the last dimension; and the classes of the model.

    ``graph`` is the trace that exits are priced by.

    Raises:
        CompressionError: a block that the model does not run, or whose output no head can read.
    """
    seen: dict[str, Any] = {}
    with _watched(model, after, seen), torch.no_grad():
        logits = logits_of(model(**inputs))
    points, widths = exit_points(graph), []
    for name in after:
        output = seen.get(name)
        output = output[0] if isinstance(output, tuple) else output
        numbers = isinstance(output, Tensor) and output.is_floating_point() and output.dim() in (2, 3, 4)
        if not isinstance(output, Tensor) or not numbers or name not in points or output.shape[0] != logits.shape[0]:
            what = "is not run" if output is None else f"returns {list(output.shape) if isinstance(output, Tensor) else type(output).__name__}"
            raise CompressionError(f"early_exit: {name} {what}; accepted: {READABLE}")
        last = channels_last(graph, points[name])
        widths.append((int(output.shape[-1 if last else 1]), last))
    return widths, int(logits.shape[-1])


@contextlib.contextmanager
def _watched(model: nn.Module, names: Sequence[str], seen: dict[str, Any]) -> Iterator[None]:
    hooks = [model.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: seen.__setitem__(name, output)) for name in names]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def attach_exits(model: nn.Module, described: Mapping[str, Any]) -> nn.Module:
    """Add fresh heads to ``model``, in place.

    Args:
        model: without exits.
        described: see ``exits_in``.

    Raises:
        CompressionError: the model has no such block.
    """
    exits = Exits.from_plain(described)
    assert exits is not None
    modules = dict(model.named_modules())
    missing = [name for name in exits.after if name not in modules]
    if missing:
        raise CompressionError(f"the model has no module {missing[0]!r} to exit after")
    heads = ExitHeads([ExitHead(int(width), int(described["classes"]), exits, last=bool(last)) for width, last in described["heads"]])
    for i, name in enumerate(exits.after):
        modules[name].register_forward_hook(partial(heads.see, i))
    model.register_forward_pre_hook(heads.begin, with_kwargs=True)
    model.register_forward_hook(heads.end)
    model.add_module(EXITS, heads.train(model.training))
    return model
