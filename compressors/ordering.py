"""What a later step must not do to what an earlier one has made: conflicts that no single step sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from compressors.compressor import GraphEdit
from compressors.errors import CompressionError
from compressors.graph.model_graph import ModelGraph

__all__ = ["refuse_conflicts"]


def refuse_conflicts(graph: ModelGraph, before: GraphEdit, after: GraphEdit, step: str) -> None:
    """Compare the edits before and after a step.

    Raises:
        CompressionError: layers that share weights would differ in what is cut, in their rank or in their bits; or a cut would break an N:M pattern.
    """
    patterned = [name for name, pattern in before.sparse.items() if pattern != "unstructured"]
    if after.kept.keys() != before.kept.keys() or any(len(after.kept[name]) != len(units) for name, units in before.kept.items()):
        for name in patterned:
            if any(not cut.all() for _, cut in _cuts(graph, before, after, [name])):
                raise CompressionError(f"{step}: a cut of {name} would break its pattern {before.sparse[name]}; accepted: {step} before sparsify")
        for group in before.shared:
            _same(step, "cut differently", [(module, dict(_cuts(graph, before, after, _parameters(graph, module)))) for module in after.present(graph, group)])
    sites = {site.module: i for i, site in enumerate(graph.sites)}
    for group in before.shared:
        present = after.present(graph, group)
        _same(step, "factorised differently", [(module, {"": np.array([after.ranks.get(module, 0)])}) for module in present])
        arrays = (after.weight_bits, after.activation_bits, after.granularity, after.symmetric)
        bits = [(module, {"": np.array([values[sites[module]] for values in arrays])}) for module in present if module in sites]
        _same(step, "stored in different bits", bits)
        _same(step, "replaced differently", [(module, {"": np.array([module in after.separable])}) for module in present])


def _same(step: str, what: str, found: Sequence[tuple[str, dict[str, NDArray[np.int64]]]]) -> None:
    for module, entries in found[1:]:
        first, expected = found[0]
        if any(not np.array_equal(entries[key], expected[key]) for key in expected):
            raise CompressionError(
                f"{step}: {first} and {module} share their weights and would be {what}; accepted: the same for both, or {step} before share_weights"
            )


def _parameters(graph: ModelGraph, module: str) -> list[str]:
    return [name for name in graph.parameter_tensors if name.rpartition(".")[0] == module]


def _cuts(graph: ModelGraph, before: GraphEdit, after: GraphEdit, parameters: Sequence[str]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """For each dimension of the parameters, which of the positions that were there stay."""
    from compressors.graph.surgery import dim_mask

    for entry in graph.parameter_dims:
        if entry.parameter in parameters:
            segments = [[graph.axes[axis].name for axis in segment] for segment in entry.segments]
            was, now = (dim_mask(segments, {axis: _mask(graph, edit, axis) for segment in segments for axis in segment}) for edit in (before, after))
            yield f"{entry.parameter.rpartition('.')[2]}:{entry.dim}", now[was].astype(np.int64)


def _mask(graph: ModelGraph, edit: GraphEdit, axis: str) -> NDArray[np.bool_]:
    size = graph.axes[graph.axis_index(axis)].size
    return np.isin(np.arange(size), edit.kept[axis]) if axis in edit.kept else np.ones(size, dtype=np.bool_)
