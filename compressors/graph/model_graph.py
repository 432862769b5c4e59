"""``ModelGraph``: a model traced once, as axes, sites, operators and tensors that everything else reads."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from compressors.graph.block import Block
from compressors.graph.liveness import activation_peak
from compressors.graph.polynomial import Polynomial
from compressors.graph.shapes import Shapes

__all__ = ["INDICATORS", "Axis", "ModelGraph", "Operator", "ParameterDim", "Program", "Site", "TensorInfo"]


INDICATORS = ("block", "rank", "dense", "own", "window")
"""Kinds of axes that only tell what other decisions come to: which blocks are there, which layers are factorised or share weights, which attention is local."""

_TABLE_BYTES = 4
"""Of one token in one of the tables by which a trimmed vocabulary is renumbered."""


@dataclass(frozen=True, slots=True)
class ParameterDim:
    """How one dimension of a parameter or buffer is laid out over axes.

    Attributes:
        parameter: the name in the model's state dict.
        dim: the dimension.
        segments: the dimension is the concatenation of these segments; each is a row-major product of axis
            indices, outermost first. A plain dimension has one segment of one axis.
    """

    parameter: str
    dim: int
    segments: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """A width of the model that changes as a whole.

    Attributes:
        name: the module that produces it (the first one in execution order), unique in the graph.
        kind: ``channels``, ``ffn``, ``heads``, ``kv_groups``, ``hidden`` (a residual stream), ``head_dim``, ``vocabulary``,
            ``blocks`` (the depth of a stack: its units are whole blocks), ``block`` (whether one block is there: 1 or 0; follows its stack),
            ``rank`` (of a layer that is factorised, 0 where it is whole), ``dense`` (1 where it is whole, else 0),
            ``own`` (1 where a module has weights of its own, 0 where it shares those of another),
            ``window`` (of an attention: ``:full`` 1 where it is not local, else 0; ``:pairs`` and ``:keys`` of its blocks, 0 where it is full),
            ``input`` (batch, sequence, image size) or ``constant`` (a size that the code sets, such as padding; it only fills a ``ParameterDim``).
        size: units in the uncompressed model.
        fixed: why it cannot be cut, or None where it can.
        modules: every module whose output has this width, in execution order: what patterns match; the blocks of a stack.
        coupled: why cutting a unit changes what the others mean (a normalisation reduces over the axis), or None where a cut equals silencing.
    """

    name: str
    kind: str
    size: int
    fixed: str | None
    modules: tuple[str, ...]
    coupled: str | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """A weight that can be quantized, with the activation that enters its operator.

    Attributes:
        name: the weight's name in the state dict.
        module: the module that owns it.
        operator: ``conv``, ``linear`` or ``embedding``.
        elements: weight elements, those of both factors where it is factorised.
        channels: output channels (rows for an embedding).
        bias: whether the operator adds a bias (after folding a following batch norm into it).
        shared: whether the same weight is used by more than one operator (tied embeddings).
        own: 1 where the weight is its own, 0 where it is that of another site.
        folded: whether a batch norm is folded into it, so that it is stored for itself also where it is shared.
        parts: elements and channels (one scale each) of each tensor that it is stored as: itself, and its two factors; what is not there has none.
        separable: whether the factors are a depthwise and a pointwise convolution, rather than thin ones of a rank.
    """

    name: str
    module: str
    operator: str
    elements: Polynomial
    channels: Polynomial
    bias: bool
    shared: bool = False
    own: Polynomial = Polynomial.constant(1)  # noqa: RUF009 - immutable
    folded: bool = False
    parts: tuple[tuple[Polynomial, Polynomial], ...] = ()
    separable: bool = False

    @property
    def factorable(self) -> bool:
        """Whether it can have factors of a rank."""
        return len(self.parts) > 1 and not self.separable


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A value of the graph.

    Attributes:
        name: the node's name, or the parameter's name in the state dict.
        role: ``parameter``, ``buffer``, ``constant``, ``input`` or ``activation``.
        dims: the extent of each dimension.
        elements: product of ``dims``.
        floating: whether its dtype is floating point.
        own: 1 where its values are its own, 0 where they are those of another parameter.
        alias_of: the index of the tensor whose storage this one views, or None.
    """

    name: str
    role: str
    dims: tuple[Polynomial, ...]
    elements: Polynomial
    floating: bool
    alias_of: int | None = None
    own: Polynomial = Polynomial.constant(1)  # noqa: RUF009 - immutable


@dataclass(frozen=True, slots=True)
class Operator:
    """One ATen op of the graph, unfused, in execution order.

    Attributes:
        name: the node's name.
        target: the op, such as ``aten.conv2d.default``.
        module: the module that called it.
        op_class: ``conv`` (kernel above 1), ``conv3x3`` (3x3, stride 1, ungrouped), ``pointwise``, ``depthwise``, ``grouped``, ``gemm``,
            ``attention``, ``matmul`` (both operands activations), ``embedding``, ``normalization``, ``softmax``, ``activation``,
            ``elementwise``, ``pooling``, ``reduction``, ``movement`` (copies and layout changes) or ``view`` (free).
        macs: multiply-accumulates; zero for anything but convolutions and matrix products.
        inputs, outputs: indices into ``ModelGraph.tensors``.
        site: index into ``ModelGraph.sites`` or None.
        present: 1 where it is executed, else 0 (a block that was dropped, a factor of a layer that is whole); ``macs`` is 0 with it.
        conditional: inputs that it only reads where the second value is 1; where it is 0, the operator before it does.
        site_parts: indices into the site's ``parts`` of what it multiplies by.
        otherwise: the class that it has where the second value is 0, if that is another one.
    """

    name: str
    target: str
    module: str
    op_class: str
    macs: Polynomial
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    site: int | None = None
    present: Polynomial = Polynomial.constant(1)  # noqa: RUF009 - immutable
    conditional: tuple[tuple[int, Polynomial], ...] = ()
    site_parts: tuple[int, ...] = (0,)
    otherwise: tuple[str, Polynomial] | None = None


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens that can be dropped by renumbering.

    Attributes:
        axis: of the embedding's rows.
        inputs: the model's inputs that index it.
        embeddings: the modules that look tokens up.
        heads: the modules that return a value for each token, and the axes of these (``axis`` itself where the weight is tied).
    """

    axis: str
    inputs: tuple[str, ...]
    embeddings: tuple[str, ...]
    heads: tuple[tuple[str, str], ...]

    @property
    def axes(self) -> tuple[str, ...]:
        """Every axis that is cut with it."""
        return tuple(dict.fromkeys((self.axis, *(axis for _, axis in self.heads))))


@dataclass(frozen=True, slots=True)
class Program:
    """Another way to call the model, over the same axes, parameters and sites: a decoding step with its cache, an encoder alone.

    Attributes:
        name: such as ``decode``.
        inputs: names of its inputs, those that other programs return (caches, hidden states) among them.
        tensors: as of ``ModelGraph``, its own.
        operators: as of ``ModelGraph``; their inputs and outputs are indices into ``tensors``, their sites into the graph's.
        growth: how many times larger a cache among the inputs is when all is told.
    """

    name: str
    inputs: tuple[str, ...]
    tensors: tuple[TensorInfo, ...]
    operators: tuple[Operator, ...]
    growth: float = 1.0


@dataclass(frozen=True)
class ModelGraph:
    """A traced model. Build it with :func:`compressors.graph.trace`.

    ``inputs``, ``tensors`` and ``operators`` are those of the program ``forward``, which ``latency_ms`` is of; ``programs`` are the others.
    """

    axes: tuple[Axis, ...]
    sites: tuple[Site, ...]
    tensors: tuple[TensorInfo, ...]
    operators: tuple[Operator, ...]
    parameter_dims: tuple[ParameterDim, ...]
    inputs: tuple[str, ...]
    blocks: tuple[Block, ...]
    fingerprint: str
    vocabularies: tuple[Vocabulary, ...] = ()
    programs: tuple[Program, ...] = ()
    _index: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def prunable(self) -> tuple[Axis, ...]:
        """The axes that can be cut."""
        return tuple(axis for axis in self.axes if axis.fixed is None)

    @cached_property
    def by_program(self) -> dict[str, ModelGraph]:
        """Each further program as a graph of its own, with the same axes and sites, so that whatever prices a graph prices it too."""
        return {p.name: dataclasses.replace(self, inputs=p.inputs, tensors=p.tensors, operators=p.operators, programs=(), _index={}) for p in self.programs}

    def axis_index(self, name: str) -> int:
        """Position of the axis called ``name``."""
        if not self._index:
            self._index.update({axis.name: i for i, axis in enumerate(self.axes)})
        return self._index[name]

    def baseline(self) -> Shapes:
        """One row: the uncompressed model in 32-bit floats."""
        sites = np.full((1, len(self.sites)), 32, dtype=np.int64)
        widths = np.array([[axis.size for axis in self.axes]], dtype=np.int64)
        return Shapes(widths, sites, sites.copy(), np.zeros_like(sites), np.ones_like(sites, dtype=np.bool_), np.zeros(1, dtype=np.bool_))

    def count_parameters(self, shapes: Shapes) -> NDArray[np.int64]:
        """Parameters of each candidate, ``[candidates]``; tied ones and those that layers share count once."""
        total = np.zeros(len(shapes), dtype=np.int64)
        for elements in self._counted:
            total += elements.evaluate(shapes.widths)
        return total

    def count_macs(self, shapes: Shapes, program: str = "forward") -> NDArray[np.int64]:
        """Multiply-accumulates of one run of ``program`` of each candidate at the traced input sizes, ``[candidates]``."""
        total = np.zeros(len(shapes), dtype=np.int64)
        operators = self.operators if program == "forward" else next(p.operators for p in self.programs if p.name == program)
        for operator in operators:
            if operator.macs.terms:
                total += operator.macs.evaluate(shapes.widths)
        return total

    def activation_peak(self, shapes: Shapes) -> NDArray[np.int64]:
        """Largest number of floating-point activation elements alive at once, ``[candidates]``."""
        return activation_peak(self, shapes)

    def table_bytes(self, shapes: Shapes) -> NDArray[np.int64]:
        """Bytes of the tables by which trimmed vocabularies are renumbered, ``[candidates]``."""
        total = np.zeros(len(shapes), dtype=np.int64)
        for vocabulary in self.vocabularies:
            axis = self.axis_index(vocabulary.axis)
            size = self.axes[axis].size
            total += np.where(shapes.widths[:, axis] < size, _TABLE_BYTES * size * (2 if vocabulary.heads else 1), 0)
        return total

    @property
    def parameters(self) -> int:
        """Parameters of the uncompressed model."""
        return int(self.count_parameters(self.baseline())[0])

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one forward pass of the uncompressed model at the traced input sizes."""
        return int(self.count_macs(self.baseline())[0])

    def select_axes(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> tuple[int, ...]:
        """Indices of prunable axes that the patterns leave.

        A pattern is a shell-style glob over module names; an axis matches when any of its modules (or its name) does.
        """
        return tuple(
            i
            for i, axis in enumerate(self.axes)
            if axis.fixed is None and (not include or _matches(include, (axis.name, *axis.modules))) and not _matches(exclude, (axis.name, *axis.modules))
        )

    def select_vocabularies(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> tuple[Vocabulary, ...]:
        """Vocabularies that the patterns leave; a pattern matches the name of an axis, an embedding or an output layer."""
        return tuple(
            vocabulary
            for vocabulary in self.vocabularies
            if (names := (*vocabulary.axes, *vocabulary.embeddings, *(head for head, _ in vocabulary.heads)))
            and (not include or _matches(include, names))
            and not _matches(exclude, names)
        )

    def select_sites(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> tuple[int, ...]:
        """Indices of sites that the patterns leave; a pattern matches the weight's name or its module's."""
        return tuple(
            i
            for i, site in enumerate(self.sites)
            if (not include or _matches(include, (site.name, site.module))) and not _matches(exclude, (site.name, site.module))
        )

    @cached_property
    def module_names(self) -> tuple[str, ...]:
        """Every name a pattern can match, sorted."""
        names = {name for axis in self.axes if axis.kind not in INDICATORS for name in (axis.name, *axis.modules)}
        return tuple(sorted(names | {n for site in self.sites for n in (site.name, site.module)}))

    @cached_property
    def shareable(self) -> tuple[str, ...]:
        """Modules that may take their weights from another one, in the model's order."""
        return tuple(axis.modules[0] for axis in self.axes if axis.kind == "own")

    @cached_property
    def shareable_names(self) -> tuple[str, ...]:
        """Those modules and all that hold them, sorted."""
        return tuple(sorted({".".join(path.split(".")[: i + 1]) for path in self.shareable for i in range(path.count(".") + 1)}))

    @cached_property
    def windowable(self) -> dict[str, int]:
        """Tokens of each self-attention that can have a window, by the name of its module, in the model's order."""
        local = {axis.modules[0] for axis in self.axes if axis.kind == "window"}
        found = {o.module: self.tensors[o.inputs[0]].dims[-2] for o in self.operators if o.op_class == "attention" and o.module in local}
        whole = self.baseline().widths
        return {module: int(tokens.evaluate(whole)[0]) for module, tokens in found.items()}

    def window_sizes(self, module: str, window: int) -> tuple[int, int]:
        """Of an attention in blocks of ``window`` tokens: pairs of queries and keys, and keys of all blocks together (see ``compressors.graph.windows``)."""
        keys = -(-self.windowable[module] // window) * 3 * window
        return keys * window, keys

    @cached_property
    def _counted(self) -> tuple[Polynomial, ...]:
        return tuple(tensor.elements * tensor.own for tensor in self.parameter_tensors.values())

    @cached_property
    def parameter_tensors(self) -> dict[str, TensorInfo]:
        """Parameters by name."""
        return {tensor.name: tensor for tensor in self.tensors if tensor.role == "parameter"}


def _matches(patterns: Sequence[str], names: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns for name in names)
