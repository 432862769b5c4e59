"""What a graph would look like with layers in two factors: for each that can be, an axis that tells whether it is whole, and one for its rank.

A layer of kernel 1 has thin factors, which share the rank; a dense spatial convolution a depthwise and a pointwise one, which share the input channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from compressors.graph.axes import AxisTable
from compressors.graph.dims import ONE, Dimension, Leaf
from compressors.graph.factors import is_factorable, is_separable, stores_inputs_first
from compressors.graph.model_graph import Axis
from compressors.graph.polynomial import Polynomial
from compressors.graph.propagation import Propagation, Step, Value
from compressors.sizing import in_scorer

__all__ = ["Factors", "add_ranks", "add_separable", "middle"]

_OPS = ("linear", "addmm", "conv1d", "conv2d", "conv3d")
_DECIDED = "the steps of a recipe decide it"


@dataclass(frozen=True, slots=True)
class Factors:
    """The two weights that may stand for one.

    Attributes:
        first, second: ``[between, inputs, ...]`` and ``[outputs, between, ...]``; empty where the layer is whole.
        between: their common dimension: the rank, or, of a depthwise and a pointwise convolution, the input channels.
        dense: 1 where the layer is whole, 0 where it is factorised.
        separable: whether they are a depthwise and a pointwise convolution.
    """

    first: Value
    second: Value
    between: Dimension
    dense: Polynomial
    separable: bool = False

    @property
    def factorised(self) -> Polynomial:
        """1 where the layer is factorised, else 0."""
        return Polynomial.constant(1) + self.dense * -1


def add_ranks(model: nn.Module, found: Propagation, table: AxisTable) -> dict[Value, Factors]:
    """Add the axes ``MODULE:rank`` (0 units: the layer is whole) and ``MODULE:dense`` to ``table``; the factors of each weight that can be factorised."""
    factors: dict[Value, Factors] = {}
    for weight in _replaceable(model, found, is_factorable):
        module = weight.name.rpartition(".")[0]
        rank = Leaf(0, "rank", _DECIDED)
        table.index[rank] = len(table.axes)
        dense = Polynomial.axis(len(table.axes) + 1)
        table.axes.append(Axis(f"{module}:rank", "rank", 0, _DECIDED, (module,)))
        table.axes.append(Axis(f"{module}:dense", "dense", 1, _DECIDED, (module,)))
        inputs, outputs = weight.dims[:2] if stores_inputs_first(model.get_submodule(module)) else weight.dims[1::-1]
        first = Value(f"{module}.first.weight", "parameter", (rank, inputs, *weight.dims[2:]), weight.floating, weight.fake)
        second = Value(f"{module}.second.weight", "parameter", (outputs, rank, *weight.dims[2:]), weight.floating, weight.fake)
        factors[weight] = Factors(first, second, rank, dense)
    return factors


def add_separable(model: nn.Module, found: Propagation, table: AxisTable) -> dict[Value, Factors]:
    """Add the axis ``MODULE:dense`` of each dense spatial convolution to ``table``; the two convolutions that may stand for its weight."""
    factors: dict[Value, Factors] = {}
    for weight in _replaceable(model, found, is_separable):
        module = weight.name.rpartition(".")[0]
        dense = Polynomial.axis(len(table.axes))
        table.axes.append(Axis(f"{module}:dense", "dense", 1, _DECIDED, (module,)))
        outputs, inputs, *kernel = weight.dims
        first = Value(f"{module}.first.weight", "parameter", (inputs, ONE, *kernel), weight.floating, weight.fake)
        second = Value(f"{module}.second.weight", "parameter", (outputs, inputs, *(ONE for _ in kernel)), weight.floating, weight.fake)
        factors[weight] = Factors(first, second, inputs, dense, separable=True)
    return factors


def middle(step: Step, factors: Factors) -> Value:
    """What the first factor hands to the second in ``step``: its output with their common dimension in place of the channels."""
    output = step.outputs[0]
    dims = list(output.dims)
    # Batch, channels and places for convolutions; linear layers have their channels last.
    dims[-len(factors.first.dims) + 1 if step.call.name.startswith("conv") else -1] = factors.between
    return Value(f"{step.call.node.name}_first", "activation", tuple(dims), output.floating, output.fake)


def _replaceable(model: nn.Module, found: Propagation, kind: Callable[[nn.Module], bool]) -> list[Value]:
    """Weights of layers of a kind that only their layer reads, each time as the layer that it is, and that no other name is tied to; none of a scorer."""
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
        if not in_scorer(value.name) and all(layers) and names[id(value.fake)] == 1 and _is_weight(model, value.name, kind) and min(value.fake.shape[:2]) > 1
    ]


def _is_weight(model: nn.Module, name: str, kind: Callable[[nn.Module], bool]) -> bool:
    owner, _, attribute = name.rpartition(".")
    return bool(owner) and attribute == "weight" and kind(model.get_submodule(owner))
