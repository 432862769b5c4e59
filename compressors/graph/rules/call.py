"""One ATen call as a rule sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx

from compressors.graph.dims import ONE, Dimension, Leaf, MisalignedError, couple, fix, unify

__all__ = ["Call", "Dims", "Mark"]

Dims = tuple[Dimension, ...]
"""The dimensions of one tensor."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a rule has learnt about a dimension: ``role`` is an axis kind, or ``produced`` by ``module``."""

    role: str
    dim: Dimension
    module: str


@dataclass(slots=True)
class Call:
    """An ATen call with the dimensions of its tensor arguments.

    Attributes:
        node: the call in the exported graph.
        name: the op without namespace, overload and in-place underscore, such as ``conv2d``.
        module: the path of the module that made it.
        arguments: every argument by its name in the op's schema, defaults included.
        known: looks up the dimensions of a node's value.
        marks: receives what is learnt about kinds and producers.
        macs: products of dimensions whose sum is the number of multiply-accumulates.
    """

    node: fx.Node
    name: str
    module: str
    arguments: dict[str, Any]
    known: Callable[[fx.Node], Dims]
    marks: list[Mark]
    macs: list[Dims] = field(default_factory=list)

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    def dims(self, argument: str) -> Dims:
        """Dimensions of a tensor argument."""
        return self.known(self.arguments[argument])

    def optional_dims(self, argument: str) -> Dims | None:
        """Dimensions of a tensor argument that may be None."""
        value = self.arguments.get(argument)
        return None if value is None else self.known(value)

    def tensors(self) -> list[fx.Node]:
        """The tensor arguments, lists flattened, in order."""
        return [n for n in self.node.all_input_nodes if isinstance(n.meta.get("val"), Tensor)]

    def output_shape(self, index: int = 0) -> tuple[int, ...]:
        """Sizes of the output."""
        value = self.node.meta["val"]
        return tuple(value[index].shape) if isinstance(value, (tuple, list)) else tuple(value.shape)

    def index(self, argument: str, rank: int) -> int:
        """A dimension argument counted from the front."""
        value: int = self.arguments[argument]
        return value % rank if rank else 0

    def reason(self, why: str) -> str:
        """``why`` with the place in the model."""
        return f"{why} ({self.name} in {self.module or 'the model'})"

    def width(self, size: int) -> Dimension:
        """A new dimension that nothing is known of."""
        return ONE if size == 1 else Leaf(size)

    def constant(self, size: int, why: str = "a size that the code sets") -> Dimension:
        """A new dimension that cannot be cut."""
        return ONE if size == 1 else Leaf(size, "constant", self.reason(why))

    def constants(self, shape: Sequence[int], why: str = "a size that the code sets") -> Dims:
        """New dimensions that cannot be cut."""
        return tuple(self.constant(size, why) for size in shape)

    def fix(self, dim: Dimension, why: str) -> None:
        """Forbid cutting ``dim``."""
        fix(dim, self.reason(why))

    def couple(self, dim: Dimension, why: str) -> None:
        """A normalisation reduces over ``dim``: it can be cut, but not silently."""
        couple(dim, self.reason(why))

    def tie(self, a: Dimension, b: Dimension) -> None:
        """The two dimensions must stay equal; both are fixed where their structures differ."""
        try:
            unify(a, b)
        except MisalignedError:
            for dim in (a, b):
                self.fix(dim, "two widths of different structure meet")

    def mark(self, role: str, dim: Dimension) -> None:
        """Record the kind of a dimension."""
        self.marks.append(Mark(role, dim, self.module))

    def broadcast(self, operands: Sequence[Dims]) -> Dims:
        """Tie the operands' dimensions from the right, as NumPy does; returns the result's."""
        result: list[Dimension] = []
        for position in range(1, max((len(dims) for dims in operands), default=0) + 1):
            wide = [dims[-position] for dims in operands if len(dims) >= position and dims[-position].size != 1]
            for other in wide[1:]:
                self.tie(wide[0], other)
            result.insert(0, wide[0] if wide else ONE)
        return tuple(result)
