"""Bytes of a model as a file format stores it: what is common to formats, with the sites left to each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from compressors.graph.model_graph import ModelGraph
from compressors.graph.shapes import Shapes

__all__ = ["Integers", "effective_granularity", "folded_parameters", "stored_bytes"]

Integers = NDArray[np.int64]


def stored_bytes(graph: ModelGraph, shapes: Shapes, site_bytes: Callable[[int, Integers, Integers, Integers], Integers]) -> Integers:
    """Bytes of each candidate, ``[candidates]``: sites as the format stores them, float biases and norms, tables of trimmed vocabularies.

    Batch norms are folded.

    Args:
        graph: of the uncompressed model.
        shapes: the candidates.
        site_bytes: of one tensor of a site: index of the site, elements, output channels, effective granularity, each ``[candidates]``; elements are 0 where
            the tensor is not there.
    """
    total = graph.table_bytes(shapes)
    sites = {site.name: i for i, site in enumerate(graph.sites)}
    folded = folded_parameters(graph)
    factors = {f"{site.module}.{factor}.weight" for site in graph.sites for factor in ("first", "second") if len(site.parts) > 1}
    # Each layer folds its own batch norm into weights that it shares.
    apart = {f"{site.module}.bias" for site in graph.sites if site.folded}
    for name, tensor in graph.parameter_tensors.items():
        if name not in folded and name not in sites and name not in factors:
            total += 4 * (tensor.elements if name in apart else tensor.elements * tensor.own).evaluate(shapes.widths)
    for i, site in enumerate(graph.sites):
        own = np.int64(1) if site.folded else site.own.evaluate(shapes.widths)
        for elements, channels in site.parts:
            count, rows = elements.evaluate(shapes.widths), channels.evaluate(shapes.widths)
            total += own * site_bytes(i, count, rows, _effective(graph, i, shapes.granularity[:, i], count, rows))
        if site.bias and f"{site.module}.bias" not in graph.parameter_tensors:
            total += 4 * site.channels.evaluate(shapes.widths)
    return total


def effective_granularity(graph: ModelGraph, shapes: Shapes) -> Integers:
    """Granularity that weights really get, ``[candidates, sites]``: groups only where they divide the inputs of a matrix, else one scale a channel.

    Of a factorised layer it is that of the factor that reads the input.
    """
    found = shapes.granularity.copy()
    for i, site in enumerate(graph.sites):
        if (found[:, i] > 0).any():
            for elements, channels in site.parts:
                count, rows = elements.evaluate(shapes.widths), channels.evaluate(shapes.widths)
                found[:, i] = np.where(count > 0, _effective(graph, i, found[:, i], count, rows), found[:, i])
    return found


def _effective(graph: ModelGraph, site: int, granularity: Integers, elements: Integers, rows: Integers) -> Integers:
    if graph.sites[site].operator == "conv":
        return np.minimum(granularity, 0)
    fits = (elements // np.maximum(rows, 1)) % np.maximum(granularity, 1) == 0
    return np.where((granularity > 0) & ~fits, 0, granularity)


def folded_parameters(graph: ModelGraph) -> set[str]:
    """Parameters of batch norms that directly follow a convolution."""
    produced = {tensor: operator for operator in graph.operators for tensor in operator.outputs}
    names: set[str] = set()
    for operator in graph.operators:
        if "batch_norm" not in operator.target:
            continue
        before = produced.get(operator.inputs[0])
        if before is not None and "conv" in before.target:
            names |= {graph.tensors[t].name for t in operator.inputs if graph.tensors[t].role == "parameter"}
    return names
