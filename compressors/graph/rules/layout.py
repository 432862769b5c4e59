"""Rules of ops that only rearrange: views, transpositions, slices, concatenations, padding, indexing."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

from compressors.graph.dims import ONE, Dimension, MisalignedError, concat, factor, product, resolve, split
from compressors.graph.rules.call import Call, Dims

__all__ = [
    "concatenate",
    "diagonal_mask",
    "expand",
    "flip",
    "gather",
    "index",
    "pad",
    "permute",
    "repeat",
    "reshape",
    "select",
    "slice_",
    "split_",
    "squeeze",
    "stack",
    "transpose",
    "unbind",
    "unsqueeze",
]


def reshape(call: Call) -> Dims:
    """Any view: the row-major product of the input's dimensions is cut anew at the output's sizes."""
    dims = call.dims("self")
    rest = product(dims)
    shape = call.output_shape()
    if 0 in shape:
        return call.constants(shape)
    output: list[Dimension] = []
    try:
        for size in shape[:-1]:
            outer, rest = factor(rest, rest.size // size) if size != 1 else (ONE, rest)
            output.append(outer)
        if shape:
            output.append(rest)
    except MisalignedError:
        for dim in dims:
            call.fix(dim, "a view that regroups its elements")
        return call.constants(shape, "a view that regroups its elements")
    return tuple(output)


def transpose(call: Call) -> Dims:
    """Two dimensions swapped (``t`` swaps the only two)."""
    dims = list(call.dims("self"))
    if len(dims) < 2:
        return tuple(dims)
    a, b = (call.index("dim0", len(dims)), call.index("dim1", len(dims))) if "dim0" in call.arguments else (0, 1)
    dims[a], dims[b] = dims[b], dims[a]
    return tuple(dims)


def permute(call: Call) -> Dims:
    """Dimensions in a new order."""
    dims = call.dims("self")
    return tuple(dims[d] for d in call["dims"])


def unsqueeze(call: Call) -> Dims:
    """A new dimension of size 1."""
    dims = list(call.dims("self"))
    dims.insert(call["dim"] % (len(dims) + 1), ONE)
    return tuple(dims)


def squeeze(call: Call) -> Dims:
    """Dimensions of size 1 removed."""
    dims = call.dims("self")
    chosen = call.arguments.get("dim", list(range(len(dims))))
    chosen = {d % len(dims) for d in ([chosen] if isinstance(chosen, int) else chosen)}
    return tuple(dim for d, dim in enumerate(dims) if d not in chosen or dim.size != 1)


def expand(call: Call) -> Dims:
    """Dimensions of size 1 repeated."""
    dims = call.dims("self")
    shape = call.output_shape()
    padded = (*([ONE] * (len(shape) - len(dims))), *dims)
    return tuple(dim if dim.size == size else call.constant(size, "a repetition") for dim, size in zip(padded, shape, strict=True))


def repeat(call: Call) -> Dims:
    """Dimensions tiled."""
    dims = call.dims("self")
    shape = call.output_shape()
    padded = (*([ONE] * (len(shape) - len(dims))), *dims)
    return tuple(
        dim if dim.size == size else concat([dim] * (size // dim.size)) if dim.size > 1 else call.constant(size, "a repetition")
        for dim, size in zip(padded, shape, strict=True)
    )


def _range(dim: Dimension, start: int, stop: int) -> Dimension:
    _, tail = split(dim, start) if start else (ONE, dim)
    head, _ = split(tail, stop - start) if stop - start < tail.size else (tail, ONE)
    return head


def slice_(call: Call) -> Dims:
    """A range of one dimension; a boundary inside a width splits it there."""
    dims = list(call.dims("self"))
    d = call.index("dim", len(dims))
    size = dims[d].size
    start, stop, step = call.arguments.get("start") or 0, call.arguments.get("end"), call.arguments.get("step") or 1
    start = min(max(start + size, 0) if start < 0 else start, size)
    stop = size if stop is None else min(stop + size if stop < 0 else stop, size)
    if (start, stop, step) == (0, size, 1):
        return tuple(dims)
    if step != 1 or stop <= start:
        call.fix(dims[d], "a slice with steps")
        dims[d] = call.constant(call.output_shape()[d], "a slice with steps")
        return tuple(dims)
    try:
        dims[d] = _range(dims[d], start, stop)
    except MisalignedError:
        call.fix(dims[d], "a slice across units")
        dims[d] = call.constant(stop - start, "a slice across units")
    return tuple(dims)


def select(call: Call) -> Dims:
    """One index of one dimension."""
    dims = list(call.dims("self"))
    d = call.index("dim", len(dims))
    resolved = resolve(dims[d])
    if resolved.size > 1:
        call.fix(resolved, "the model picks one of its units")
    del dims[d]
    return tuple(dims)


def split_(call: Call) -> list[Dims]:
    """``split``, ``split_with_sizes`` and ``chunk``."""
    argument = "self" if "self" in call.arguments else "input"
    dims = call.dims(argument)
    d = call.index("dim", len(dims))
    sizes = [call.output_shape(i)[d] for i in range(len(call.node.meta["val"]))]
    pieces: list[Dimension] = []
    rest = dims[d]
    try:
        for size in sizes[:-1]:
            first, rest = split(rest, size)
            pieces.append(first)
        pieces.append(rest)
    except MisalignedError:
        call.fix(dims[d], "a split across units")
        pieces = list(call.constants(sizes, "a split across units"))
    return [(*dims[:d], piece, *dims[d + 1 :]) for piece in pieces]


def unbind(call: Call) -> list[Dims]:
    """Every index of one dimension."""
    dims = list(call.dims("self"))
    d = call.index("dim", len(dims))
    call.fix(dims[d], "the model picks its units one by one")
    del dims[d]
    return [tuple(dims)] * len(call.node.meta["val"])


def _together(call: Call, tensors: Sequence[Dims], skip: int | None) -> list[Dimension]:
    first = list(tensors[0])
    for other in tensors[1:]:
        for d, (a, b) in enumerate(zip(first, other, strict=True)):
            if d != skip:
                call.tie(a, b)
    return first


def concatenate(call: Call) -> Dims:
    """Tensors joined along one dimension."""
    nodes: list[fx.Node] = call["tensors"]
    tensors = [call.known(node) for node in nodes]
    # An empty one-dimensional tensor may be joined with anything.
    tensors = [dims for dims in tensors if len(dims) != 1 or dims[0].size] or tensors[:1]
    d = call.index("dim", len(tensors[0]))
    result = _together(call, tensors, d)
    result[d] = concat(dims[d] for dims in tensors)
    return tuple(result)


def stack(call: Call) -> Dims:
    """Tensors joined along a new dimension."""
    tensors = [call.known(node) for node in call["tensors"]]
    result = _together(call, tensors, None)
    result.insert(call["dim"] % (len(result) + 1), call.constant(len(tensors)))
    return tuple(result)


def pad(call: Call) -> Dims:
    """Borders added (or cut off): their size is a number in the code."""
    dims = list(call.dims("self"))
    amounts = call["pad"]
    for position in range(len(amounts) // 2):
        before, after = amounts[2 * position : 2 * position + 2]
        d = len(dims) - 1 - position
        if before < 0 or after < 0:
            call.fix(dims[d], "a crop")
            dims[d] = call.constant(dims[d].size + before + after, "a crop")
        elif before or after:
            # Borders of padding stay single units apart from one another: each is a width of the code.
            dims[d] = concat([call.constant(n, "padding") for n in (before,) if n] + [dims[d]] + [call.constant(n, "padding") for n in (after,) if n])
    return tuple(dims)


def flip(call: Call) -> Dims:
    """``flip`` and ``roll``: positions move, so the dimensions are fixed."""
    dims = call.dims("self")
    chosen = call.arguments.get("dims")
    for d in chosen or range(len(dims)):
        call.fix(dims[d], "the model moves its units")
    return dims


def diagonal_mask(call: Call) -> Dims:
    """``tril`` and ``triu``: positions matter, so the last two dimensions are fixed."""
    dims = call.dims("self")
    for dim in dims[-2:]:
        call.fix(dim, "the model masks its units by position")
    return dims


def index(call: Call) -> Dims:
    """Indexing by tensors; dimensions that are not indexed pass through."""
    dims = call.dims("self")
    indices: list[fx.Node | None] = call["indices"]
    places = [d for d, i in enumerate(indices) if i is not None]
    for d in places:
        call.fix(dims[d], "the model picks some of its units")
    if places != list(range(places[0], places[-1] + 1)) or any(n is not None and n.meta["val"].is_floating_point() for n in indices):
        for dim in dims:
            call.fix(dim, "the model picks some of its units")
        return call.constants(call.output_shape())
    chosen = call.broadcast([call.known(n) for n in indices if n is not None])
    result = (*dims[: places[0]], *chosen, *dims[places[-1] + 1 :])
    # A boolean mask takes several dimensions at once and yields a size that depends on data.
    return result if tuple(d.size for d in result) == call.output_shape() else call.constants(call.output_shape())


def gather(call: Call) -> Dims:
    """``gather`` picks units along one dimension; ``index_select`` the same for all rows."""
    dims = list(call.dims("self"))
    if not dims:
        return ()
    d = call.index("dim", len(dims))
    call.fix(dims[d], "the model picks some of its units")
    picked = call.dims("index")
    if call.name == "index_select":
        dims[d] = picked[0] if picked else ONE
        return tuple(dims)
    for i, (mine, theirs) in enumerate(zip(dims, picked, strict=True)):
        if i != d and mine.size == theirs.size:
            call.tie(mine, theirs)
        elif i != d:
            call.fix(mine, "the model picks some of its units")
    return picked
