"""The algebra of tensor dimensions: widths that are split into factors, joined into concatenations and tied together.

A dimension is a tree. A ``Leaf`` is a width of which nothing more is known; a ``Product`` is a row-major product of
dimensions (a hidden size seen as heads times head size); a ``Concat`` is a concatenation (fused projections, padded
channels). A leaf that is found to have structure, or to be the same width as another dimension, is bound to that
dimension, so every tensor that shows the leaf sees the discovery at once (union-find with structure).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from math import prod

__all__ = [
    "ONE",
    "Concat",
    "Dimension",
    "Leaf",
    "MisalignedError",
    "Product",
    "concat",
    "couple",
    "factor",
    "fix",
    "leaves",
    "product",
    "resolve",
    "split",
    "unify",
]

_ORDER = itertools.count()


class MisalignedError(Exception):
    """Two dimensions of equal size have structures that cannot be the same."""


class Leaf:
    """A width without known structure.

    Attributes:
        size: its extent.
        kind: ``width`` (of a parameter), ``input`` (of a model input) or ``constant`` (of a tensor or number in the code).
        fixed: why it cannot be cut, or None.
        coupled: why cutting one unit changes what the others mean, or None: a normalisation reduces over it.
        bound: the dimension that it was found to be.
        order: creation order, so that representatives do not depend on hashing.
    """

    __slots__ = ("bound", "coupled", "fixed", "kind", "order", "size")

    def __init__(self, size: int, kind: str = "width", fixed: str | None = None) -> None:
        self.size = size
        self.kind = kind
        self.fixed = fixed
        self.coupled: str | None = None
        self.bound: Dimension | None = None
        self.order = next(_ORDER)


class Product:
    """A row-major product, outermost factor first."""

    __slots__ = ("factors", "size")

    def __init__(self, factors: tuple[Dimension, ...]) -> None:
        self.factors = factors
        self.size: int = prod(f.size for f in factors)


class Concat:
    """A concatenation of dimensions."""

    __slots__ = ("parts", "size")

    def __init__(self, parts: tuple[Dimension, ...]) -> None:
        self.parts = parts
        self.size: int = sum(p.size for p in parts)


Dimension = Leaf | Product | Concat

ONE = Product(())
"""The dimension of size 1."""


def resolve(dim: Dimension) -> Dimension:
    """What ``dim`` is known to be now; composites are flattened, their members resolved."""
    while isinstance(dim, Leaf) and dim.bound is not None:
        dim = dim.bound
    if isinstance(dim, Product):
        return product(dim.factors)
    if isinstance(dim, Concat):
        return concat(dim.parts)
    return dim


def product(dims: Iterable[Dimension]) -> Dimension:
    """The flattened product of ``dims``."""
    flat: list[Dimension] = []
    for dim in map(resolve, dims):
        if isinstance(dim, Product):
            flat += dim.factors
        elif dim.size != 1:
            flat.append(dim)
    return flat[0] if len(flat) == 1 else Product(tuple(flat)) if flat else ONE


def concat(dims: Iterable[Dimension]) -> Dimension:
    """The flattened concatenation of ``dims``."""
    flat: list[Dimension] = []
    for dim in map(resolve, dims):
        if isinstance(dim, Concat):
            flat += dim.parts
        elif dim.size != 0:
            flat.append(dim)
    return flat[0] if len(flat) == 1 else Concat(tuple(flat))


def leaves(dim: Dimension) -> list[Leaf]:
    """The unbound leaves below ``dim``, in order, repeated where they recur."""
    dim = resolve(dim)
    if isinstance(dim, Leaf):
        return [dim]
    members = dim.factors if isinstance(dim, Product) else dim.parts
    return [leaf for member in members for leaf in leaves(member)]


def fix(dim: Dimension, reason: str) -> None:
    """Forbid cutting anything below ``dim``; the first reason stays."""
    for leaf in leaves(dim):
        if leaf.fixed is None:
            leaf.fixed = reason


def couple(dim: Dimension, reason: str) -> None:
    """Note that a cut below ``dim`` changes what the remaining units mean; the first reason stays."""
    for leaf in leaves(dim):
        leaf.coupled = leaf.coupled or reason


def _pieces(leaf: Leaf, sizes: tuple[int, int]) -> tuple[Leaf, Leaf]:
    # Nothing below a fixed leaf is ever cut, so its structure is left alone: an input stays one axis.
    if leaf.fixed is not None:
        return Leaf(sizes[0], "constant", leaf.fixed), Leaf(sizes[1], "constant", leaf.fixed)
    pieces = Leaf(sizes[0], leaf.kind), Leaf(sizes[1], leaf.kind)
    for piece in pieces:
        piece.coupled = leaf.coupled
    return pieces


def factor(dim: Dimension, inner_size: int) -> tuple[Dimension, Dimension]:
    """``dim`` as a product of an outer and an inner dimension of ``inner_size``; leaves are refined.

    Raises:
        MisalignedError: it has no such factor.
    """
    dim = resolve(dim)
    if inner_size == 1:
        return dim, ONE
    if inner_size == dim.size:
        return ONE, dim
    if dim.size % inner_size:
        raise MisalignedError
    if isinstance(dim, Leaf):
        outer, inner = _pieces(dim, (dim.size // inner_size, inner_size))
        if dim.fixed is None:
            dim.bound = Product((outer, inner))
        return outer, inner
    if isinstance(dim, Concat):
        pairs = [factor(part, inner_size) for part in dim.parts]
        for _, other in pairs[1:]:
            unify(pairs[0][1], other)
        return concat(outer for outer, _ in pairs), resolve(pairs[0][1])
    taken: list[Dimension] = []
    remaining = inner_size
    factors = list(dim.factors)
    while remaining > 1:
        last = factors.pop()
        if last.size <= remaining:
            if remaining % last.size:
                raise MisalignedError
            taken.insert(0, last)
            remaining //= last.size
        else:
            outer_part, inner_part = factor(last, remaining)
            factors.append(outer_part)
            taken.insert(0, inner_part)
            remaining = 1
    return product(factors), product(taken)


def split(dim: Dimension, first_size: int) -> tuple[Dimension, Dimension]:
    """``dim`` as a concatenation of a first part of ``first_size`` and the rest; leaves are refined.

    Raises:
        MisalignedError: there is no boundary at ``first_size``.
    """
    dim = resolve(dim)
    if isinstance(dim, Leaf):
        first, rest = _pieces(dim, (first_size, dim.size - first_size))
        if dim.fixed is None:
            dim.bound = Concat((first, rest))
        return first, rest
    if isinstance(dim, Product):
        outer, inner = dim.factors[0], product(dim.factors[1:])
        if first_size % inner.size:
            raise MisalignedError
        head, tail = split(outer, first_size // inner.size)
        return product((head, inner)), product((tail, inner))
    head_parts: list[Dimension] = []
    parts = list(dim.parts)
    while first_size:
        part = parts.pop(0)
        if part.size > first_size:
            part, rest_part = split(part, first_size)
            parts.insert(0, rest_part)
        head_parts.append(part)
        first_size -= part.size
    return concat(head_parts), concat(parts)


def unify(a: Dimension, b: Dimension) -> None:
    """Tie two dimensions together: from here on they are the same width.

    Raises:
        MisalignedError: their structures cannot be the same; the caller has to fix both.
    """
    a, b = resolve(a), resolve(b)
    if a is b:
        return
    if a.size != b.size:
        raise MisalignedError
    if a.size == 1:
        return
    if isinstance(a, Leaf) and isinstance(b, Leaf):
        _merge(a, b)
    elif isinstance(a, Leaf):
        _bind(a, b)
    elif isinstance(b, Leaf):
        _bind(b, a)
    elif isinstance(a, Product) and isinstance(b, Product):
        _align_products(list(a.factors), list(b.factors))
    else:
        _align_concats(list(a.parts) if isinstance(a, Concat) else [a], list(b.parts) if isinstance(b, Concat) else [b])


def _merge(a: Leaf, b: Leaf) -> None:
    keep, drop = (a, b) if a.order < b.order else (b, a)
    kinds = {keep.kind, drop.kind}
    keep.kind = "input" if "input" in kinds else "width" if "width" in kinds else "constant"
    keep.fixed = keep.fixed or drop.fixed
    keep.coupled = keep.coupled or drop.coupled
    drop.bound = keep


def _bind(leaf: Leaf, composite: Dimension) -> None:
    below = leaves(composite)
    if leaf.fixed is not None and all(other.fixed is not None for other in below):
        return
    if leaf in below:
        raise MisalignedError
    if leaf.fixed is not None:
        fix(composite, leaf.fixed)
        return
    if leaf.coupled is not None:
        couple(composite, leaf.coupled)
    leaf.bound = composite


def _align_products(a: list[Dimension], b: list[Dimension]) -> None:
    while a and b:
        x, y = resolve(a[0]), resolve(b[0])
        if x.size > y.size:
            if x.size % y.size:
                raise MisalignedError
            a[:1] = factor(x, x.size // y.size)
        elif y.size > x.size:
            if y.size % x.size:
                raise MisalignedError
            b[:1] = factor(y, y.size // x.size)
        else:
            unify(x, y)
            del a[0], b[0]


def _align_concats(a: list[Dimension], b: list[Dimension]) -> None:
    while a and b:
        x, y = resolve(a[0]), resolve(b[0])
        if x.size > y.size:
            a[:1] = split(x, y.size)
        elif y.size > x.size:
            b[:1] = split(y, x.size)
        else:
            unify(x, y)
            del a[0], b[0]
