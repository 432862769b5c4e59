"""How much of the activations must exist at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compressors.graph.polynomial import Polynomial
from compressors.graph.shapes import Shapes

if TYPE_CHECKING:
    from compressors.graph.model_graph import ModelGraph

__all__ = ["activation_peak"]

_IN_PLACE = frozenset(("activation", "elementwise", "normalization"))


def activation_peak(graph: ModelGraph, shapes: Shapes) -> NDArray[np.int64]:
    """Largest number of floating-point activation elements alive at any op, ``[candidates]``.

    Views share the storage of what they view. An elementwise op writes over an operand of the same size that nothing reads
    later, as memory planners do. Parameters are not counted; inputs are, while they are needed: what an operator reads for some candidates only is let go
    by the operator before it for the others.
    """
    storage = {i: _root(graph, i) for i in range(len(graph.tensors))}
    counted = {r for r in storage.values() if graph.tensors[r].role in ("activation", "input") and graph.tensors[r].floating}
    last: dict[int, int] = {}
    for position, operator in enumerate(graph.operators):
        for tensor in operator.inputs:
            last[storage[tensor]] = position
    # What the operator at a position lets go of a storage that the next one, its last reader, reads for some candidates only.
    early = {
        (position - 1, storage[tensor]): Polynomial.constant(1) + read * -1
        for position, operator in enumerate(graph.operators)
        for tensor, read in operator.conditional
        if last[storage[tensor]] == position
    }
    elements = {r: graph.tensors[r].elements for r in counted}
    alive = {r for r in counted if graph.tensors[r].role == "input"}
    current = sum((elements[r].evaluate(shapes.widths) for r in alive), np.zeros(len(shapes), dtype=np.int64))
    peak = current.copy()
    for position, operator in enumerate(graph.operators):
        made = {storage[t] for t in operator.outputs} & counted - alive
        dying = [r for r in dict.fromkeys(storage[t] for t in operator.inputs) if r in alive and last[r] == position]
        if operator.op_class in _IN_PLACE and len(made) == 1:
            (output,) = made
            reused = next((r for r in dying if elements[r] == elements[output]), None)
            if reused is not None:
                alive = alive - {reused} | {output}
                dying.remove(reused)
                made = set()
        for r in made:
            current = current + elements[r].evaluate(shapes.widths)
            alive.add(r)
        peak = np.maximum(peak, current)
        for r in dying:
            gone = elements[r] if (position - 1, r) not in early else elements[r] * (Polynomial.constant(1) + early[position - 1, r] * -1)
            current = current - gone.evaluate(shapes.widths)
            alive.discard(r)
        for r in (storage[t] for t in operator.inputs if (position, storage[t]) in early):
            current = current - (elements[r] * early[position, r]).evaluate(shapes.widths)
    return peak


def _root(graph: ModelGraph, tensor: int) -> int:
    while (source := graph.tensors[tensor].alias_of) is not None:
        tensor = source
    return tensor
