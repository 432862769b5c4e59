"""From dimensions to axes: which widths there are, of which kind, under which name, and how parameters are laid out over them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from compressors.graph.blocks import Stack
from compressors.graph.dims import Concat, Dimension, Leaf, Product, fix, leaves, resolve
from compressors.graph.model_graph import Axis, ParameterDim
from compressors.graph.polynomial import Polynomial
from compressors.graph.propagation import Propagation

__all__ = ["AxisTable", "assign_axes"]

# A width that plays several parts is called after the first of these.
_PRIORITY = ("kv_groups", "heads", "head_dim", "vocabulary", "hidden", "channels", "ffn")


@dataclass(slots=True)
class AxisTable:
    """The axes, the leaves that stand for them, and the axes that tell whether a block is there."""

    axes: list[Axis] = field(default_factory=list)
    parameter_dims: list[ParameterDim] = field(default_factory=list)
    index: dict[Leaf, int] = field(default_factory=dict)
    blocks: dict[str, int] = field(default_factory=dict)

    def polynomial(self, dim: Dimension) -> Polynomial:
        """The extent of ``dim`` as an expression over axes; what is no axis is a number."""
        dim = resolve(dim)
        if isinstance(dim, Leaf):
            return Polynomial.axis(self.index[dim]) if dim in self.index else Polynomial.constant(dim.size)
        total = Polynomial.constant(1 if isinstance(dim, Product) else 0)
        for member in dim.factors if isinstance(dim, Product) else dim.parts:
            total = total * self.polynomial(member) if isinstance(dim, Product) else total + self.polynomial(member)
        return total

    def present(self, path: str) -> Polynomial:
        """1 where every block that ``path`` (of a module or a parameter) lies in is there, else 0."""
        total = Polynomial.constant(1)
        for block, index in self.blocks.items():
            if _within(path, block):
                total = total * Polynomial.axis(index)
        return total


def assign_axes(found: Propagation, stacks: Sequence[Stack] = (), others: Sequence[Propagation] = ()) -> AxisTable:
    """Name the widths of the model, and the depths of its stacks; ``others`` are its further programs."""
    opaque = _opaque_leaves(found)
    producers: dict[Leaf, list[str]] = defaultdict(list)
    roles: dict[Leaf, set[str]] = defaultdict(set)
    for mark in (*found.marks, *(mark for other in others for mark in other.marks)):
        below = [leaf for leaf in leaves(mark.dim) if leaf.kind == "width" and leaf not in opaque]
        shared = len([leaf for leaf in leaves(mark.dim) if leaf.kind != "input"]) > 1
        for leaf in below:
            if mark.role == "produced":
                if mark.module not in producers[leaf]:
                    producers[leaf].append(mark.module)
            else:
                roles[leaf].add("kv_groups" if mark.role == "heads" and shared else mark.role)
    table = AxisTable()
    names: set[str] = set()
    for leaf, modules in producers.items():
        kind = next((k for k in _PRIORITY if k in roles[leaf]), "hidden")
        base = modules[0] or "model"
        name = _unique(base if leaf.fixed is None else f"{base}:{kind}", kind, names)
        table.index[leaf] = len(table.axes)
        table.axes.append(Axis(name, kind, leaf.size, leaf.fixed, tuple(modules), leaf.coupled))
    for input_name, value in found.inputs.items():
        for d, dim in enumerate(value.dims):
            extent = resolve(dim)
            if isinstance(extent, Leaf) and extent not in table.index:
                table.index[extent] = len(table.axes)
                table.axes.append(Axis(_unique(f"{input_name}:{d}", "input", names), "input", extent.size, extent.fixed or "the input's size", ()))
    for stack in stacks:
        paths = tuple(block.path for block in stack.blocks)
        name = _unique(stack.path or "model", "blocks", names)
        table.axes.append(Axis(name, "blocks", len(paths), "one block is all there is" if len(paths) == 1 else None, paths))
        for path in paths:
            table.blocks[path] = len(table.axes)
            table.axes.append(Axis(_unique(f"{path}:block", "block", names), "block", 1, f"a block of {name}", (path,)))
    constants: dict[int, int] = {}
    for name, value in found.parameters.items():
        for d, dim in enumerate(value.dims):
            if any(leaf in producers for leaf in leaves(dim)):
                segments = tuple(tuple(_axis_of(leaf, table, constants) for leaf in segment) for segment in _segments(dim, opaque))
                table.parameter_dims.append(ParameterDim(name, d, segments))
    return table


def _within(path: str, block: str) -> bool:
    return path == block or path.startswith(f"{block}.")


def _unique(base: str, kind: str, names: set[str]) -> str:
    candidates = [base, f"{base}:{kind}" if ":" not in base else base, *(f"{base}:{i}" for i in range(2, len(names) + 3))]
    name = next(c for c in candidates if c not in names)
    names.add(name)
    return name


def _axis_of(leaf: Leaf, table: AxisTable, constants: dict[int, int]) -> int:
    if leaf in table.index:
        return table.index[leaf]
    # One axis for all constants of a size: their units always stay.
    if leaf.size not in constants:
        constants[leaf.size] = len(table.axes)
        table.axes.append(Axis(f"constant:{leaf.size}", "constant", leaf.size, "a size that the code sets", ()))
    return constants[leaf.size]


def _opaque_leaves(found: Propagation) -> set[Leaf]:
    """Leaves below a concatenation that is repeated inside a product: no slice of a parameter describes them, so they are fixed."""
    opaque: set[Leaf] = set()

    def visit(dim: Dimension, inner: bool) -> None:
        dim = resolve(dim)
        if isinstance(dim, Concat):
            if inner:
                fix(dim, "its parts are interleaved")
                opaque.update(leaves(dim))
            for part in dim.parts:
                visit(part, inner)
        elif isinstance(dim, Product):
            for position, member in enumerate(dim.factors):
                visit(member, inner or position > 0)

    for value in found.parameters.values():
        for dim in value.dims:
            visit(dim, inner=False)
    return opaque


def _segments(dim: Dimension, opaque: set[Leaf]) -> list[list[Leaf]]:
    dim = resolve(dim)
    if isinstance(dim, Leaf):
        return [[dim]]
    if isinstance(dim, Concat):
        return [segment for part in dim.parts for segment in _segments(part, opaque)]
    if not dim.factors:
        return [[]]
    inner = [leaf for member in dim.factors[1:] for leaf in ([Leaf(member.size, "constant", "opaque")] if isinstance(member, Concat) else leaves(member))]
    return [[*segment, *inner] for segment in _segments(dim.factors[0], opaque)]
