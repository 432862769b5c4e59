"""What to tell someone whose model does not run on the example inputs, or that ``torch.export`` cannot trace: where, why, and what to change."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import UnsupportedOperatorException
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from compressors.errors import TraceError

__all__ = ["check_inputs", "check_sizes", "not_exported", "not_run"]

_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parent)


def check_inputs(example_inputs: Sequence[Tensor] | Mapping[str, Tensor]) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Positional and keyword arguments.

    Raises:
        TraceError: neither a tuple nor a mapping of tensors.
    """
    if isinstance(example_inputs, Tensor) or not isinstance(example_inputs, (Sequence, Mapping)) or isinstance(example_inputs, str):
        raise TraceError(f"example_inputs must be a tuple of tensors (or a dict by name), got {type(example_inputs).__name__}; of one tensor x it is (x,)")
    args, kwargs = ((), dict(example_inputs)) if isinstance(example_inputs, Mapping) else (tuple(example_inputs), {})
    for name, value in (*kwargs.items(), *((str(i), v) for i, v in enumerate(args))):
        if not isinstance(value, Tensor):
            raise TraceError(f"example input {name!r} must be a tensor, got {type(value).__name__}")
    return args, kwargs


def not_run(model: nn.Module, args: tuple[Tensor, ...], kwargs: Mapping[str, Tensor], error: Exception) -> TraceError:
    """The model raises on its example inputs."""
    where = _module(model, error)
    lines = [
        f"{type(model).__name__} does not run on the example inputs ({_given(args, kwargs)}): {type(error).__name__}: {_first(error)}",
        *([f"in module {where}"] if where else []),
        *_place(error),
        f"accepted: forward({', '.join(inspect.signature(model.forward).parameters)}), with sizes that fit the model and one another",
    ]
    return TraceError("\n  ".join(lines))


def not_exported(model: nn.Module, args: tuple[Tensor, ...], kwargs: Mapping[str, Any], error: Exception) -> TraceError:
    """``torch.export`` raises on a model that runs."""
    why, remedy = _remedy(error)
    lines = [f"torch.export cannot trace {type(model).__name__} on ({_given(args, kwargs)}): {why}", *_place(error), f"what to change: {remedy}"]
    return TraceError("\n  ".join(lines))


def check_sizes(model: nn.Module, program: ExportedProgram) -> None:
    """Refuse a program in which the size of a tensor depends on values.

    Raises:
        TraceError: names the op and the line.
    """
    for node in program.graph.nodes:
        fakes = node.meta.get("val")
        for fake in fakes if isinstance(fakes, (tuple, list)) else [fakes]:
            if isinstance(fake, Tensor) and not all(type(size) is int for size in fake.shape):
                place = ": ".join(line.strip() for line in str(node.meta.get("stack_trace") or "").strip().splitlines()[-2:])
                why = f"{type(model).__name__} cannot be traced: the size of what {node.target} returns depends on the values of its input"
                raise TraceError(f"{why}\n  {place}\n  what to change: multiply by a mask, or use torch.where, in place of selecting elements")


def _remedy(error: Exception) -> tuple[str, str]:
    """What is wrong, and what to change."""
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode  # it imports sympy

    said = _first(error)
    if isinstance(error, GuardOnDataDependentSymNode):
        why = f"its code depends on the value of a tensor ({said})"
        return why, "use torch.where (or torch.cond) in place of a branch, and constants in place of numbers that are read from tensors"
    if isinstance(error, UnsupportedOperatorException):
        name = f"{error.func.namespace}::{error.func._opname}"  # noqa: SLF001 - an op has no other name without its overload
        return f"torch does not know the shape that the op {name} returns", f"register it with torch.library.register_fake({name!r})"
    if "in output" in said and "pytree" in said:
        return said.partition(". ")[0], "return tensors, in a tuple, a dict or a transformers ModelOutput"
    if "shape" in said or "size" in said:
        return said, "give example inputs whose sizes fit the model and one another"
    return said, "forward has to keep to torch's ops, call no code outside torch (NumPy, .item()), and not branch on the values of tensors"


def _place(error: Exception) -> list[str]:
    """The line of the model's own code, which is neither torch's nor ours."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((_TORCH, _OURS, "<"))]
    return [f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}: {frames[-1].line}"] if frames else []


def _module(model: nn.Module, error: Exception) -> str:
    """The innermost module that was running."""
    names = {id(module): name for name, module in model.named_modules()}
    found: Any = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        if id(owner) in names and owner is not model:
            found = owner
    return "" if found is None else f"{names[id(found)]}: {str(found).splitlines()[0].rstrip('(')}"


def _given(args: tuple[Tensor, ...], kwargs: Mapping[str, Any]) -> str:
    named = [*((str(i), value) for i, value in enumerate(args))]
    for name, value in kwargs.items():
        # Caches are many tensors.
        named += [(name, value)] if isinstance(value, Tensor) else [(f"{name}_{i}", leaf) for i, leaf in enumerate(pytree.tree_leaves(value))]
    return ", ".join(f"{name}: {list(value.shape)} {str(value.dtype).removeprefix('torch.')}" for name, value in named)


def _first(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
