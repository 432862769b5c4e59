"""What a graph would look like with layers factorised: for each that can be, an axis for its rank and one that tells whether it is whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from torch import nn

from compressors.graph.axes import AxisTable
from compressors.graph.dims import Leaf
from compressors.graph.factors import is_factorable, stores_inputs_first
from compressors.graph.model_graph import Axis
from compressors.graph.polynomial import Polynomial
from compressors.graph.propagation import Propagation, Step, Value

__all__ = ["Factors", "add_ranks", "middle"]

_OPS = ("linear", "addmm", "conv1d", "conv2d", "conv3d")


@dataclass(frozen=True, slots=True)
class Factors:
    """The two weights that may stand for one.

    Attributes:
        first, second: ``[rank, inputs, ...]`` and ``[outputs, rank, ...]``; empty where the layer is whole.
        rank: their common dimension.
        dense: 1 where the layer is whole, 0 where it is factorised.
    """

    first: Value
    second: Value
    rank: Leaf
    dense: Polynomial

    @property
    def factorised(self) -> Polynomial:
        """1 where the layer is factorised, else 0."""
        return Polynomial.constant(1) + self.dense * -1


def add_ranks(model: nn.Module, found: Propagation, table: AxisTable) -> dict[Value, Factors]:
    """Add the axes ``MODULE:rank`` (0 units: the layer is whole) and ``MODULE:dense`` to ``table``; the factors of each weight that can be factorised."""
    factors: dict[Value, Factors] = {}
    for weight in _factorable(model, found):
        module = weight.name.rpartition(".")[0]
        rank = Leaf(0, "rank", "the steps of a recipe decide it")
        table.index[rank] = len(table.axes)
        dense = Polynomial.axis(len(table.axes) + 1)
        table.axes.append(Axis(f"{module}:rank", "rank", 0, rank.fixed, (module,)))
        table.axes.append(Axis(f"{module}:dense", "dense", 1, rank.fixed, (module,)))
        inputs, outputs = weight.dims[:2] if stores_inputs_first(model.get_submodule(module)) else weight.dims[1::-1]
        first = Value(f"{module}.first.weight", "parameter", (rank, inputs, *weight.dims[2:]), weight.floating, weight.fake)
        second = Value(f"{module}.second.weight", "parameter", (outputs, rank, *weight.dims[2:]), weight.floating, weight.fake)
        factors[weight] = Factors(first, second, rank, dense)
    return factors


def middle(step: Step, factors: Factors) -> Value:
    """What the first factor hands to the second in ``step``: its output with the rank in place of the channels."""
    output = step.outputs[0]
    dims = list(output.dims)
    # Batch, channels and places for convolutions; linear layers have their channels last.
    dims[-len(factors.first.dims) + 1 if step.call.name.startswith("conv") else -1] = factors.rank
    return Value(f"{step.call.node.name}_first", "activation", tuple(dims), output.floating, output.fake)


def _factorable(model: nn.Module, found: Propagation) -> list[Value]:
    """Weights that only their layer reads, each time as the layer that it is, and that no other name is tied to."""
    names = Counter(id(tensor) for _, tensor in model.named_parameters(remove_duplicate=False))
    readers: dict[Value, list[bool]] = {}
    for step in found.steps:
        for value in step.inputs:
            root = value
            while root.alias_of is not None:
                root = root.alias_of
            if root.role == "parameter":
                readers.setdefault(root, []).append(step.call.name in _OPS and step.call.module == root.name.rpartition(".")[0])
    return [
        value
        for value, layers in readers.items()
        if all(layers) and names[id(value.fake)] == 1 and _is_weight(model, value.name) and min(value.fake.shape[:2]) > 1
    ]


def _is_weight(model: nn.Module, name: str) -> bool:
    owner, _, attribute = name.rpartition(".")
    return bool(owner) and attribute == "weight" and is_factorable(model.get_submodule(owner))
