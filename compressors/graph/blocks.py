"""Depth: the blocks of a model's stacks, found by watching one call, and what stands where one of them was dropped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from compressors.graph.block import Block, Source

__all__ = ["Block", "PassThrough", "Stack", "drop", "find_stacks", "passed"]


@dataclass(frozen=True, slots=True)
class Stack:
    """Blocks of one kind, one after another; ``path`` is their container."""

    path: str
    blocks: tuple[Block, ...]


class PassThrough(nn.Module):
    """Returns the inputs that stand for a dropped block's outputs.

    Args:
        block: what was dropped.
        original: its module, whose plain attributes (such as a layer's attention type) the model's code may ask for.
    """

    def __init__(self, block: Block, original: nn.Module) -> None:
        super().__init__()
        self.block = block
        for name, value in vars(original).items():
            if not name.startswith("_") and name != "training" and isinstance(value, (str, int, float, bool)):
                setattr(self, name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The inputs, in the block's own form."""
        return passed(self.block, args, kwargs)


def passed(block: Block, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What ``block`` would return if it did nothing."""
    outputs = tuple(None if source is None else args[source[1]] if source[0] == "args" else kwargs[source[1]] for source in block.sources)  # type: ignore[index]
    return outputs[0] if block.single else outputs


def find_stacks(model: nn.Module, call: Callable[[nn.Module], Any]) -> tuple[list[Stack], Any]:
    """Stacks of at least two blocks of one class, each with several weights and called once, whose output has the form of their input; what ``call`` returned.

    Args:
        model: left as it was.
        call: runs it on example inputs.
    """
    candidates: dict[str, list[str]] = {}
    for path, container in model.named_modules():
        if isinstance(container, (nn.ModuleList, nn.Sequential)):
            kinds = [type(child) for child in container.children()]
            names = [
                f"{path}.{name}" if path else name
                for name, child in container.named_children()
                if kinds.count(type(child)) > 1 and sum(p.dim() > 1 for p in child.parameters()) > 1
            ]
            if len(names) > 1:
                candidates[path] = names
    seen: dict[str, list[Block | None]] = {name: [] for names in candidates.values() for name in names}
    hooks = [model.get_submodule(name).register_forward_hook(_watch(name, seen[name]), with_kwargs=True) for name in seen]
    try:
        outputs = call(model)
    finally:
        for hook in hooks:
            hook.remove()
    stacks = []
    for path, names in candidates.items():
        blocks = [found for name in names if len(seen[name]) == 1 and (found := seen[name][0]) is not None]
        if blocks:
            stacks.append(Stack(path, tuple(blocks)))
    return stacks, outputs


def _watch(path: str, seen: list[Block | None]) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:  # noqa: ARG001 - torch's signature
        seen.append(_block(path, args, kwargs, output))

    return hook


def _block(path: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Block | None:
    inputs: list[tuple[Source, Any]] = [(("args", i), value) for i, value in enumerate(args)] + [(("kwargs", name), value) for name, value in kwargs.items()]
    stream = next(((source, value) for source, value in inputs if isinstance(value, Tensor)), None)
    outputs = output if isinstance(output, tuple) else (output,)
    if stream is None or not outputs or not isinstance(outputs[0], Tensor) or outputs[0].shape != stream[1].shape or outputs[0].dtype != stream[1].dtype:
        return None
    sources: list[Source] = [stream[0]]
    for value in outputs[1:]:
        source = next((s for s, other in inputs if other is value), None)
        if value is not None and source is None:
            return None
        sources.append(source if value is not None else None)
    return Block(path, tuple(sources), not isinstance(output, tuple))


def drop(model: nn.Module, block: Block) -> None:
    """Replace a block of ``model`` in place."""
    owner, _, name = block.path.rpartition(".")
    model.get_submodule(owner).register_module(name, PassThrough(block, model.get_submodule(block.path)))
