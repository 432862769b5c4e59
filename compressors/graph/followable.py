"""Which axes the model's Python code can follow: found by cutting them and running the model."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compressors.graph.blocks import Block, passed
from compressors.graph.model_graph import Axis, ModelGraph
from compressors.graph.surgery import cut, dim_mask

__all__ = ["silence", "unfollowed_axes"]

_TOLERANCE = 1e-3


def unfollowed_axes(model: nn.Module, graph: ModelGraph, whole: Sequence[Tensor], run: Callable[[nn.Module], Sequence[Tensor]]) -> dict[str, str]:
    """Prunable axes that break the model, or change what it computes, when one of their units is cut; by name, with the reason.

    A cut model has to agree with the whole model whose cut units are silenced; where a normalisation reduces over an axis it has to run and return the
    shapes that it should. All axes are cut at once; only where that fails are they searched by halves, layers of the same kind together.

    Args:
        model: the traced model, in eval mode; not changed.
        graph: its trace.
        whole: its floating-point outputs.
        run: calls a model on the example inputs; the floating-point outputs.
    """
    found: dict[str, str] = {}
    for coupled in (False, True):
        groups: dict[str, list[Axis]] = {}
        for axis in graph.prunable:
            if axis.size > 1 and (axis.coupled is not None) == coupled:
                groups.setdefault(re.sub(r"\d+", "#", axis.name), []).append(axis)
        found |= _search(list(groups.values()), lambda axes: _problem(model, graph, axes, whole, run))
    return found


def _search(groups: list[list[Axis]], problem: Callable[[list[Axis]], str | None]) -> dict[str, str]:
    axes = [axis for group in groups for axis in group]
    reason = problem(axes) if axes else None
    if reason is None:
        return {}
    if len(axes) == 1:
        return {axes[0].name: f"the model's code does not follow a cut: {reason}"}
    if len(groups) == 1:
        groups = [[axis] for axis in axes]
        # Layers of one kind nearly always share their code, and so their reason.
        first = problem(groups[0][:1])
        if first is not None and problem(groups[-1]) is not None:
            return {axis.name: f"the model's code does not follow a cut: {first}" for axis in axes}
    half = len(groups) // 2
    found = _search(groups[:half], problem) | _search(groups[half:], problem)
    # Two halves that work apart and fail together: neither can be trusted with the other.
    return found or {axis.name: f"the model's code does not follow a cut of several axes: {reason}" for axis in axes}


def _problem(model: nn.Module, graph: ModelGraph, axes: list[Axis], whole: Sequence[Tensor], run: Callable[[nn.Module], Sequence[Tensor]]) -> str | None:
    # A unit from the middle: cutting the last one would go unnoticed by code that slices from the front.
    kept = {axis.name: np.delete(np.arange(axis.size), axis.size // 3) for axis in axes}
    only_shapes = any(axis.coupled for axis in axes) or all(output.is_meta for output in whole)
    expected = whole if only_shapes else run(silence(model, graph, kept))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = run(cut(model, graph, kept))
    except Exception as error:  # noqa: BLE001  (whatever the model's own code raises is the answer)
        return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    for a, b in zip(expected, found, strict=True):
        if a.shape != b.shape:
            return f"its output has shape {tuple(b.shape)} instead of {tuple(a.shape)}"
        if only_shapes or a.is_meta:
            continue
        tolerance = max(_TOLERANCE, 8 * torch.finfo(a.dtype).eps)
        if not torch.allclose(a, b, rtol=tolerance, atol=tolerance * float(a.nan_to_num().abs().max().clamp(min=1e-6)), equal_nan=True):
            return "it computes something else"
    return None


def silence(model: nn.Module, graph: ModelGraph, kept: Mapping[str, NDArray[np.int64]]) -> nn.Module:
    """A copy of ``model`` of the same shape in which every parameter of the units that are not ``kept`` is zero, and blocks return their input."""
    model = copy.deepcopy(model)
    masks: dict[str, NDArray[np.bool_]] = {}
    for axis in graph.axes:
        masks[axis.name] = np.ones(axis.size, dtype=np.bool_)
        if axis.name in kept:
            masks[axis.name] = np.isin(np.arange(axis.size), kept[axis.name])
    tensors: dict[str, Any] = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
    with torch.no_grad():
        for entry in graph.parameter_dims:
            mask = dim_mask([[graph.axes[a].name for a in segment] for segment in entry.segments], masks)
            gone = torch.from_numpy(np.flatnonzero(~mask))
            if len(gone):
                tensors[entry.parameter].index_fill_(entry.dim, gone.to(tensors[entry.parameter].device), 0)
    paths = {axis.modules[i] for axis in graph.axes if axis.kind == "blocks" for i in np.flatnonzero(~masks[axis.name])}
    for block in graph.blocks:
        if block.path in paths:
            model.get_submodule(block.path).register_forward_hook(_returning_inputs(block), with_kwargs=True)
    return model


def _returning_inputs(block: Block) -> Callable[..., Any]:
    return lambda module, args, kwargs, output: passed(block, args, kwargs)  # noqa: ARG005 - torch's signature
