"""Cutting a live module: parameters are sliced, the integers that repeat their sizes are patched.

What was done is kept on the module as ``compareto_structure``, plain JSON-able data from which ``rebuild`` repeats it on a
fresh instance without any trace::

    {"version": 1,
     "kept": {axis: [indices]}, "sizes": {axis: size}, "kinds": {axis: kind},
     "dims": [[parameter, dim, [[axis or number, ...], ...]], ...],
     "dropped": [block, ...],
     "vocabularies": [vocabulary, ...],
     "factors": {module: rank},
     "separable": [module, ...],
     "windows": {module: tokens},
     "shared": [[module, ...], ...],
     "input_size": {"kind": name, "native": [size, ...], "size": [size, ...], "how": name, "trailing": tokens, ["scorer": width, "channels": count]},
     "exits": {"after": [module, ...], "pool": name, "hidden": width or None, "heads": [[width, tokens], ...], "classes": count, "threshold": probability}}

What stands from ``factors`` on, where there is any, and what other steps note (``note``) are carried over by a cut.

Indices are always those of the uncompressed model, so that cuts compose.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compressors.errors import CompressionError
from compressors.graph.attributes import patch_attributes
from compressors.graph.blocks import Block, drop
from compressors.graph.exit_heads import attach_exits
from compressors.graph.factors import Factorised, is_factorable, is_separable, replace_layer, separate, split
from compressors.graph.model_graph import ModelGraph
from compressors.graph.region_scorer import fit_to_inputs
from compressors.graph.renumbering import install_tables
from compressors.graph.sharing import tie
from compressors.graph.windows import install_window
from compressors.sizing import Sizing

__all__ = ["STRUCTURE_VERSION", "cut", "dim_mask", "kept_units", "note", "rebuild", "structure_of", "weight_names"]

STRUCTURE_VERSION = 2

Kept = Mapping[str, "NDArray[np.int64] | Sequence[int]"]


def dim_mask(segments: Sequence[Sequence[str | int]], masks: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Which positions of a parameter's dimension stay: per segment the outer product of its axes' masks, row-major; numbers always stay."""
    parts = []
    for segment in segments:
        mask = np.ones(1, dtype=np.bool_)
        for factor in segment:
            mask = np.kron(mask, np.ones(factor, dtype=np.bool_) if isinstance(factor, int) else masks[factor]).astype(np.bool_)
        parts.append(mask)
    return np.concatenate(parts)


def kept_units(model: nn.Module) -> dict[str, list[int]]:
    """Units that earlier cuts have left, by axis; empty for an uncompressed model."""
    structure = getattr(model, "compareto_structure", None) or {}
    kept: dict[str, list[int]] = structure.get("kept", {})
    return kept


def structure_of(graph: ModelGraph, kept: Kept) -> dict[str, Any]:
    """What it takes to cut an uncompressed instance of the traced model.

    Raises:
        CompressionError: an axis that the graph does not have or that is fixed, or indices that are not sorted units of it.
    """
    by_name = {axis.name: axis for axis in graph.axes}
    for name, indices in kept.items():
        axis = by_name.get(name)
        if axis is None:
            raise CompressionError(f"the model has no axis {name!r}")
        if axis.fixed is not None and not any(name in vocabulary.axes for vocabulary in graph.vocabularies):
            raise CompressionError(f"axis {name!r} cannot be cut: {axis.fixed}")
        chosen = np.asarray(indices)
        if not len(chosen) or chosen[0] < 0 or chosen[-1] >= axis.size or (np.diff(chosen) <= 0).any():
            raise CompressionError(f"axis {name!r} has {axis.size} units; kept must be at least one of them, sorted, got {chosen.tolist()}")
    dims: list[list[Any]] = []
    for entry in graph.parameter_dims:
        segments = [[graph.axes[a].name if graph.axes[a].name in kept else graph.axes[a].size for a in segment] for segment in entry.segments]
        if any(isinstance(factor, str) for segment in segments for factor in segment):
            dims.append([entry.parameter, entry.dim, segments])
    gone = {
        by_name[name].modules[i]
        for name, indices in kept.items()
        if by_name[name].kind == "blocks"
        for i in set(range(by_name[name].size)) - set(map(int, indices))
    }
    return {
        "version": STRUCTURE_VERSION,
        "kept": {name: [int(i) for i in indices] for name, indices in kept.items()},
        "sizes": {name: by_name[name].size for name in kept},
        "kinds": {name: by_name[name].kind for name in kept},
        "dims": dims,
        "dropped": [dataclasses.asdict(block) for block in graph.blocks if block.path in gone],
        "vocabularies": [dataclasses.asdict(vocabulary) for vocabulary in graph.vocabularies if vocabulary.axis in kept],
    }


def weight_names(model: nn.Module, weight: str) -> tuple[str, ...]:
    """Names of the parameters that stand for a layer's weight now: two where it is in two factors, none where its block was dropped."""
    structure = getattr(model, "compareto_structure", None) or {}
    if weight.startswith(_gone(structure)):
        return ()
    owner = weight.rpartition(".")[0]
    factored = owner in structure.get("factors", {}) or owner in structure.get("separable", ())
    return (f"{owner}.first.weight", f"{owner}.second.weight") if factored else (weight,)


def _gone(structure: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{dropped['path']}." for dropped in structure.get("dropped", ()))


def note(model: nn.Module, graph: ModelGraph, **entries: Any) -> None:
    """Add entries to the structure of ``model``, in place: what a step other than a cut has done, as plain data."""
    structure = getattr(model, "compareto_structure", None) or structure_of(graph, {})
    model.compareto_structure = {**structure, **entries}  # type: ignore[assignment]


def cut(model: nn.Module, graph: ModelGraph, kept: Kept) -> nn.Module:
    """A copy of ``model`` with only the ``kept`` units of each axis.

    Args:
        model: the traced model, or one that ``cut`` has made from it.
        graph: the trace of the uncompressed model.
        kept: sorted indices by axis, counted in the uncompressed model; what was cut before stays cut.

    Raises:
        CompressionError: the cut does not fit the graph, or asks for units that are gone.
    """
    already = kept_units(model)
    for name, indices in kept.items():
        missing = sorted(set(map(int, indices)) - set(already[name])) if name in already else []
        if missing:
            raise CompressionError(f"axis {name!r}: units {missing[:8]} were cut by an earlier step")
    noted = getattr(model, "compareto_structure", None) or {}
    return _apply(copy.deepcopy(model), {**noted, **structure_of(graph, {**already, **kept})}, already)


def rebuild(model: nn.Module, structure: Mapping[str, Any]) -> nn.Module:
    """A copy of an uncompressed instance (on the meta device too), cut as ``structure`` says.

    Raises:
        CompressionError: ``structure`` is of another version, or does not fit the model.
    """
    if structure.get("version") != STRUCTURE_VERSION:
        raise CompressionError(f"structure version {structure.get('version')!r}; accepted: {STRUCTURE_VERSION}")
    if getattr(model, "compareto_structure", None):
        raise CompressionError("the model has been cut before: rebuild starts from an uncompressed instance")
    return _apply(copy.deepcopy(model), dict(structure), {})


def _located(modules: Mapping[str, nn.Module], parameter: str, dim: int) -> tuple[tuple[str, int], ...]:
    """Where a dimension of a parameter is now: in two factors, if its layer has them."""
    owner, _, attribute = parameter.rpartition(".")
    layer = modules.get(owner)
    if not isinstance(layer, Factorised):
        return ((parameter, dim),)
    return tuple((f"{owner}.{name}", where) for name, where in layer.located(attribute, dim))


def _factorise(model: nn.Module, path: str, rank: int | None) -> None:
    """Make room for the factors of a layer, unless they are there; a depthwise and a pointwise convolution have no rank."""
    layer = dict(model.named_modules()).get(path)
    if isinstance(layer, Factorised):
        return
    if layer is None or not (is_separable(layer) if rank is None else is_factorable(layer)):
        raise CompressionError(f"the model has no layer {path!r} that can be {'replaced by separable ones' if rank is None else 'factorised'}")
    replace_layer(model, path, separate(layer) if rank is None else split(layer, rank))


def _masks(sizes: Mapping[str, int], kept: Mapping[str, Sequence[int]]) -> dict[str, NDArray[np.bool_]]:
    masks = {name: np.ones(size, dtype=np.bool_) for name, size in sizes.items()}
    for name, indices in kept.items():
        masks[name] = np.zeros(sizes[name], dtype=np.bool_)
        masks[name][np.asarray(indices, dtype=np.int64)] = True
    return masks


def _apply(model: nn.Module, structure: dict[str, Any], already: Mapping[str, Sequence[int]]) -> nn.Module:
    if structure.get("input_size"):
        fit_to_inputs(model, Sizing.from_plain(structure["input_size"]))
    now, before = _masks(structure["sizes"], structure["kept"]), _masks(structure["sizes"], already)
    for dropped in structure["dropped"]:
        drop(model, Block(dropped["path"], tuple(None if s is None else (s[0], s[1]) for s in dropped["sources"]), dropped["single"]))
    tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
    sliced: dict[int, Tensor] = {}
    done: dict[tuple[int, int], NDArray[np.int64]] = {}
    whole = [entry for entry in structure["dims"] if not entry[0].startswith(_gone(structure))]
    modules = dict(model.named_modules())
    dims = [(name, where, segments) for parameter, dim, segments in whole for name, where in _located(modules, parameter, dim)]
    for parameter, dim, segments in dims:
        if parameter not in tensors:
            raise CompressionError(f"the model has no parameter {parameter!r}")
        tensor = tensors[parameter]
        current = sliced.get(id(tensor), tensor.detach())
        present = dim_mask(segments, before)
        if tensor.shape[dim] != present.sum():
            raise CompressionError(f"{parameter} has {tensor.shape[dim]} units in dimension {dim}, the structure expects {present.sum()}")
        indices = np.flatnonzero(dim_mask(segments, now)[present])
        # Layers that share a weight cut it once.
        if not np.array_equal(done.setdefault((id(tensor), dim), indices), indices):
            raise CompressionError(f"{parameter} is shared with a layer that is cut differently")
        if done[id(tensor), dim] is indices:
            sliced[id(tensor)] = current.index_select(dim, torch.from_numpy(indices).to(current.device))
    old = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    replaced: dict[int, Tensor] = {}
    for name, tensor in tensors.items():
        if id(tensor) in sliced:
            value = sliced[id(tensor)].contiguous()
            if id(tensor) not in replaced:
                replaced[id(tensor)] = nn.Parameter(value, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else value
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, replaced[id(tensor)])
    # The containers of a factorised layer are found by its own name, the layers that have its sizes now by those of its factors.
    named = {parameter for parameter, _, _ in whole}
    patch_attributes(model, [*whole, *(entry for entry in dims if entry[0] not in named)], structure["kinds"], old, before, now)
    for path, rank in [*structure.get("factors", {}).items(), *((path, None) for path in structure.get("separable", ()))]:
        if not f"{path}.".startswith(_gone(structure)):
            _factorise(model, path, rank)
    for path, window in structure.get("windows", {}).items():
        if not f"{path}.".startswith(_gone(structure)):
            install_window(model, path, window)
    tie(model, structure.get("shared", ()))
    for vocabulary in structure.get("vocabularies", []):
        install_tables(model, vocabulary, structure["sizes"][vocabulary["axis"]], structure["kept"][vocabulary["axis"]])
    if structure.get("exits"):
        attach_exits(model, structure["exits"])
    model.compareto_structure = structure  # type: ignore[assignment]
    return model
