"""Where the units of a width can be scaled freely: what makes them is divided by a factor a unit, what reads them is multiplied by it.

Found on the traced graph: from an operator whose parameters make a width, through operators that are positively homogeneous in each unit, to the layers that
read it. Steps that prepare a model for quantization choose the factors.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from compressors.graph.model_graph import ModelGraph

__all__ = ["Maker", "Reader", "Scaled", "Width", "find_widths"]

_HOMOGENEOUS = frozenset(
    (
        *("relu", "leaky_relu", "prelu", "dropout", "feature_dropout", "mean", "sum"),
        *("view", "reshape", "flatten", "unflatten", "_unsafe_view", "transpose", "permute", "unsqueeze", "squeeze", "expand", "expand_as"),
        *("contiguous", "clone", "to", "_to_copy", "alias", "detach", "slice", "select"),
        *(f"{adaptive}{kind}_pool{n}d" for adaptive in ("", "adaptive_") for kind in ("avg", "max") for n in (1, 2, 3)),
    )
)
"""Scaling a unit of the first input by a positive factor scales it in the output, whatever else they do."""
_JOINING = frozenset(("add", "sub", "cat", "stack"))
"""Homogeneous where all inputs are scaled alike."""
_NORMS = frozenset(("batch_norm", "layer_norm", "rms_norm"))
_CONVOLUTIONS = frozenset(("conv1d", "conv2d", "conv3d"))


@dataclass(frozen=True, slots=True)
class Scaled:
    """A parameter that is scaled: its name, and the dimensions that run over the units."""

    name: str
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Maker:
    """What makes the units.

    Attributes:
        module: a layer, or the normalisation behind it.
        scaled: the parameters that are divided.
        weight: of the layer; None where a normalisation stands behind something else.
        norm: the batch norm that is folded into ``weight``, or None.
    """

    module: str
    scaled: tuple[Scaled, ...]
    weight: Scaled | None = None
    norm: str | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """A layer that reads the units.

    Attributes:
        module: its name.
        operator: ``linear`` or ``conv``.
        weight: is multiplied.
        norm: the batch norm that is folded into ``weight``, or None.
    """

    module: str
    operator: str
    weight: Scaled
    norm: str | None = None


@dataclass(frozen=True, slots=True)
class Width:
    """Units that can be scaled freely: those of the row-major product of ``axes`` (indices into the graph's)."""

    axes: tuple[int, ...]
    maker: Maker
    readers: tuple[Reader, ...]

    def __str__(self) -> str:
        return f"{self.maker.module} -> {', '.join(reader.module for reader in self.readers)}"


def find_widths(graph: ModelGraph) -> tuple[tuple[Width, ...], dict[str, str]]:
    """Widths of the uncompressed model that have one maker, in execution order; and why those of other modules are none, by the module."""
    search = _Search(graph)
    widths: list[Width] = []
    reasons: dict[str, str] = {}
    for i in range(len(search.operators)):
        made = search.made_by(i)
        if made is None:
            continue
        axes, maker = made
        walk = _Walk(search, i, axes)
        walk.run()
        if walk.reason is None:
            widths.append(Width(axes, maker, tuple(walk.readers.values())))
        elif walk.reason != "batch_norm":
            reasons[maker.weight.name.rpartition(".")[0] if maker.weight else maker.module] = walk.reason
    return tuple(widths), reasons


class _Search:
    """Who writes and who reads each tensor, and what operators do to a width with their parameters."""

    def __init__(self, graph: ModelGraph) -> None:
        self.graph, self.tensors = graph, graph.tensors
        whole = graph.baseline().widths
        # Beside each layer stands the first of the factors that may replace it.
        self.operators = [o for o in graph.operators if o.present.evaluate(whole)[0]]
        self.names = [o.target.split(".")[1].removesuffix("_") for o in self.operators]
        self.inputs = [o.inputs[:-2] if o.conditional else o.inputs for o in self.operators]
        self.segments = {(d.parameter, d.dim): d.segments for d in graph.parameter_dims}
        self.writer: dict[int, int] = {}
        self.readers: dict[int, list[int]] = defaultdict(list)
        for i, operator in enumerate(self.operators):
            self.writer |= dict.fromkeys(operator.outputs, i)
            for t in self.inputs[i]:
                self.readers[t].append(i)

    def made_by(self, i: int) -> tuple[tuple[int, ...], Maker] | None:
        """The axes of the units that the operator's parameters scale in its output; None where it has no such parameters for itself."""
        own = self._parameters(i)
        if not own or any(len(self.readers[t]) > 1 for t in own):
            return None
        names = [self.tensors[t].name for t in own]
        module = names[0].rpartition(".")[0]
        weight = self._weight(i)
        if weight is None:
            affine = len(own) == 2 if self.names[i] == "batch_norm" else self.names[i] in _NORMS or (self.names[i] == "mul" and len(self.inputs[i]) == 2)
            if not affine or any(len(self.tensors[t].dims) != 1 for t in own):
                return None
            axes = self._units(names[0], 0)
            if axes is None:
                return None
            layer = self._folded_into(i)
            return axes, Maker(module, tuple(Scaled(name, (0,)) for name in names), layer, module if layer else None)
        out = 1 if self.names[i] in ("mm", "addmm", "matmul") else 0
        axes = self._units(weight, out)
        if axes is None:
            return None
        scaled = Scaled(weight, (out,))
        return axes, Maker(module, (scaled, *(Scaled(name, (0,)) for name in names if name != weight)), scaled)

    def read_by(self, i: int, t: int, axes: tuple[int, ...]) -> Reader | None:
        """The operator as a layer whose weight multiplies the units of its input ``t``; None where it is none, or shares the weight."""
        weight = self._weight(i)
        if weight is None or self.tensors[t].role != "activation" or any(len(self.readers[u]) > 1 for u in self._parameters(i)):
            return None
        grouped = self.operators[i].op_class in ("depthwise", "grouped")
        dims = (0,) if self.names[i] in ("mm", "addmm", "matmul") else (0, 1) if grouped else (1,)
        placed = [axis for dim in dims for segment in self.segments.get((weight, dim), ()) for axis in segment]
        if any(len(self.segments.get((weight, dim), ((),))) != 1 for dim in dims) or any(placed.count(axis) != 1 for axis in axes):
            return None
        after = self.readers[self.operators[i].outputs[0]]
        norm = self._parameters(after[0]) if len(after) == 1 and self.names[after[0]] == "batch_norm" else []
        module = self.tensors[norm[0]].name.rpartition(".")[0] if norm else None
        return Reader(weight.rpartition(".")[0], "conv" if self.names[i] in _CONVOLUTIONS else "linear", Scaled(weight, dims), module)

    def carries(self, t: int, axes: tuple[int, ...]) -> bool:
        """Whether each axis is found in the tensor exactly once, and in no concatenation."""
        dims = [[axis for term, _ in dim.terms for axis in term] for dim in self.tensors[t].dims]
        joined = any(len(dim.terms) > 1 and set(found) & set(axes) for dim, found in zip(self.tensors[t].dims, dims, strict=True))
        return not joined and all(sum(found.count(axis) for found in dims) == 1 for axis in axes)

    def linear_in(self, i: int, t: int, axes: tuple[int, ...]) -> bool:
        """Whether the operator multiplies this input, unit by unit, by another one."""
        name, inputs = self.names[i], self.inputs[i]
        if inputs.count(t) != 1 or len(inputs) < 2:
            return False
        if name == "scaled_dot_product_attention":
            return len(inputs) > 2 and inputs[2] == t
        if name in ("matmul", "bmm"):
            dims = self.tensors[t].dims
            summed = dims[-1] if inputs[0] == t or len(dims) < 2 else dims[-2]
            return not any(axis in axes for term, _ in summed.terms for axis in term)
        return name == "mul" or (name == "div" and inputs[0] == t)

    def _parameters(self, i: int) -> list[int]:
        return [t for t in self.inputs[i] if self.tensors[t].role == "parameter"]

    def _weight(self, i: int) -> str | None:
        """Of a layer that owns its weight and reads it as it is."""
        site = self.operators[i].site
        if site is None or self.graph.sites[site].shared or self.names[i] not in {"linear", "mm", "addmm", "matmul", *_CONVOLUTIONS}:
            return None
        weight = self.graph.sites[site].name
        return weight if weight in [self.tensors[t].name for t in self._parameters(i)] else None

    def _units(self, parameter: str, dim: int) -> tuple[int, ...] | None:
        """The axes that a dimension is the product of, without sizes that the code sets."""
        segments = self.segments.get((parameter, dim), ())
        axes = tuple(axis for axis in (segments[0] if len(segments) == 1 else ()) if self.graph.axes[axis].kind != "constant")
        return axes if axes and len(set(axes)) == len(axes) else None

    def _folded_into(self, i: int) -> Scaled | None:
        """The weight of the layer that a batch norm is folded into."""
        source = self.inputs[i][0]
        if self.names[i] != "batch_norm" or len(self.readers[source]) > 1 or source not in self.writer:
            return None
        weight = self._weight(self.writer[source])
        return None if weight is None else Scaled(weight, (0,))


@dataclass(slots=True)
class _Walk:
    """One width from its maker onwards. ``reason`` says what stands in the way: the name of an operator, or a sentence."""

    search: _Search
    start: int
    axes: tuple[int, ...]
    tensors: list[int] = field(default_factory=list)
    readers: dict[int, Reader] = field(default_factory=dict)
    operands: dict[int, int] = field(default_factory=dict)
    reason: str | None = None

    def run(self) -> None:
        self._join(self.search.operators[self.start].outputs[0], "its maker")
        for t in self.tensors:
            if self.reason is not None:
                return
            if not self.search.readers[t]:
                self.reason = "the model returns it"
            if self.search.writer[t] != self.start:
                self._into(self.search.writer[t])
            for i in self.search.readers[t]:
                self._out_of(i, t)
        for i, operand in self.operands.items():
            if any(t in self.tensors for t in self.search.inputs[i] if t != operand):
                self._stop(self.search.names[i])

    def _out_of(self, i: int, t: int) -> None:
        """Follow a tensor into an operator that reads it."""
        name = self.search.names[i]
        reader = self.search.read_by(i, t, self.axes)
        if reader is not None:
            self.readers[i] = reader
            return
        if self.search.linear_in(i, t, self.axes):
            self.operands.setdefault(i, t)
        elif name not in _HOMOGENEOUS and name not in _JOINING:
            self._stop(name)
            return
        self._join(self.search.operators[i].outputs[0], name)

    def _into(self, i: int) -> None:
        """Follow a tensor back into the operator that writes it: its other inputs have to be scaled as well."""
        name, inputs = self.search.names[i], self.search.inputs[i]
        if name in _HOMOGENEOUS:
            self._join(inputs[0], name)
        elif name in _JOINING and len(inputs) > 1:
            for t in inputs:
                self._join(t, name)
        elif i not in self.operands:
            self._stop(name)

    def _join(self, t: int, name: str) -> None:
        tensor = self.search.tensors[t]
        if not tensor.floating or tensor.role != "activation" or not self.search.carries(t, self.axes):
            self._stop(name)
        elif t not in self.tensors:
            self.tensors.append(t)

    def _stop(self, reason: str) -> None:
        self.reason = self.reason or reason
