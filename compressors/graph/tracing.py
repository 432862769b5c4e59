"""``trace``: a live module and example inputs in, a ``ModelGraph`` out."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree as pytree

from compressors.errors import TraceError
from compressors.graph.axes import assign_axes
from compressors.graph.blocks import Stack, find_stacks
from compressors.graph.followable import unfollowed_axes
from compressors.graph.model_graph import ModelGraph
from compressors.graph.operators import describe
from compressors.graph.propagation import propagate

__all__ = ["trace"]

_ADVICE = ("For ", "If you suspect", "The error above", "consider using", "To fix the error")
"""How lines of torch's messages start that tell its own developers what to do."""


def trace(model: nn.Module, example_inputs: Sequence[Tensor] | Mapping[str, Tensor], *, check_cuts: bool = True) -> ModelGraph:
    """Trace ``model`` at the sizes of ``example_inputs``. The model is left as it was.

    Args:
        model: any module that ``torch.export`` accepts.
        example_inputs: its inputs, by position or by keyword.
        check_cuts: run the model with every prunable axis cut, and fix those that its Python code cannot follow.

    Raises:
        TraceError: the model cannot be run or exported; says what failed.
    """
    args, kwargs = ((), dict(example_inputs)) if isinstance(example_inputs, Mapping) else (tuple(example_inputs), {})
    for name, value in (*kwargs.items(), *((str(i), v) for i, v in enumerate(args))):
        if not isinstance(value, Tensor):
            raise TraceError(f"example input {name!r} must be a tensor, got {type(value).__name__}")
    with _evaluating(model), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            outputs = model(*args, **kwargs)
        except Exception as error:
            raise TraceError(f"the model does not run on the example inputs: {type(error).__name__}: {error}") from error
        program = _export(model, args, kwargs)
        stacks = find_stacks(model, lambda m: m(*args, **kwargs))
        graph = _build(model, program, _judged(outputs, program), stacks)
        if check_cuts:
            reasons = unfollowed_axes(model, graph, lambda m: _outputs(m(*args, **kwargs)))
            if reasons:
                axes = tuple(dataclasses.replace(axis, fixed=axis.fixed or reasons.get(axis.name)) for axis in graph.axes)
                graph = dataclasses.replace(graph, axes=axes)
    return dataclasses.replace(graph, fingerprint=_fingerprint(graph))


def _export(model: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> ExportedProgram:
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        # It prints the graph so far to stderr before it raises.
        with contextlib.redirect_stderr(io.StringIO()):
            return torch.export.export(model, args, kwargs, strict=False)
    except Exception as error:
        lines = [line for line in str(error).strip().splitlines() if line.strip() and not line.startswith(_ADVICE)]
        raise TraceError(
            f"torch.export cannot trace {type(model).__name__}: {lines[0] if lines else type(error).__name__}\n"
            "a traceable forward does not branch on the values of tensors and calls no code outside torch"
            + (f"\n{chr(10).join(lines[1:12])}" if len(lines) > 1 else "")
        ) from error
    finally:
        logger.setLevel(level)


def _build(model: nn.Module, program: ExportedProgram, judged: frozenset[int] | None, stacks: list[Stack]) -> ModelGraph:
    found = propagate(model, program, judged)
    table = assign_axes(found, stacks)
    blocks = tuple(block for stack in stacks for block in stack.blocks)
    tensors, operators, sites = describe(found, table)
    return ModelGraph(tuple(table.axes), sites, tensors, operators, tuple(table.parameter_dims), tuple(found.inputs), blocks, fingerprint="")


def _logits(outputs: Any) -> Any:
    """What a model is judged by: hidden states and caches that are returned beside logits may change their sizes."""
    return outputs["logits"] if isinstance(outputs, Mapping) and isinstance(outputs.get("logits"), Tensor) else outputs


def _judged(outputs: Any, program: ExportedProgram) -> frozenset[int] | None:
    """Positions of ``_logits`` among the program's outputs; None for all."""
    logits = _logits(outputs)
    if logits is outputs:
        return None
    kinds = [spec.kind for spec in program.graph_signature.output_specs]
    first = kinds.index(OutputKind.USER_OUTPUT)
    return frozenset(first + i for i, leaf in enumerate(pytree.tree_leaves(outputs)) if leaf is logits)


def _outputs(outputs: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(_logits(outputs)) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _fingerprint(graph: ModelGraph) -> str:
    """Sixteen hexadecimal digits over everything but weights."""
    plain = [
        dataclasses.asdict(item) for group in (graph.axes, graph.sites, graph.tensors, graph.operators, graph.parameter_dims, graph.blocks) for item in group
    ]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
