"""A graph's kernels evaluated for a batch of candidates, once for all devices that read the same graph and runtime."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from compressors.graph import ModelGraph, Polynomial, Shapes
from compressors.targets import Kernel, Target
from compressors.targets.storage import effective_granularity
from evaluators.devices.kernel_time import GEMV, Product
from evaluators.devices.rates import PRECISIONS

__all__ = ["KernelTable", "kernel_table"]


Floats = NDArray[np.float64]
_FLOAT_CLASSES = frozenset(("normalization", "softmax", "activation", "matmul", "attention"))
_KEPT = 8
_PART = 256
"""Candidates that are priced at once: few enough for their arrays to stay in a processor's cache."""
_INT8 = PRECISIONS.index("int8")


@dataclass(frozen=True)
class KernelTable:
    """Sizes of every kernel, each array ``[kernels, candidates]``.

    Attributes:
        kernels: in execution order.
        present: 1 where the candidate executes the kernel, else 0, as everything below is then.
        macs, weights, inputs, outputs: multiply-accumulates and elements.
        precision: index into ``PRECISIONS`` of the arithmetic asked for, before any fallback.
        weight_bits: as stored.
        integer: whether activations arrive and leave as 8-bit integers.
        quantizes: whether the kernel, being float among integer ones, needs its activations converted.
        dynamic: ``[candidates]`` whether integer kernels quantize their inputs at run time.
        stored_bytes: ``[candidates]`` weights, scales and biases as the runtime's format stores them.
        activation_peak: ``[candidates]`` elements alive at once.
        cache_elements: ``[candidates]`` of the cache that a language model has filled when all is told.
        multiplied: elements of the weight that the kernel multiplies by, which may be one factor of its site's; 0 where it has no site.
        site_weights, site_bits, site_precision: ``[sites, candidates]`` elements, stored bits and index of the arithmetic of each weight.
    """

    kernels: tuple[Kernel, ...]
    present: Floats
    macs: Floats
    weights: Floats
    inputs: Floats
    outputs: Floats
    precision: NDArray[np.int8]
    weight_bits: NDArray[np.int8]
    integer: NDArray[np.bool_]
    quantizes: NDArray[np.bool_]
    dynamic: NDArray[np.bool_]
    stored_bytes: Floats
    activation_peak: Floats
    cache_elements: Floats
    multiplied: Floats
    site_weights: Floats
    site_bits: NDArray[np.int8]
    site_precision: NDArray[np.int8]

    @cached_property
    def parts(self) -> tuple[KernelTable, ...]:
        """The same candidates in order, a few in each table."""
        count = len(self.dynamic)
        if count <= _PART:
            return (self,)
        arrays = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "kernels"}
        return tuple(KernelTable(self.kernels, **{name: array[..., i : i + _PART] for name, array in arrays.items()}) for i in range(0, count, _PART))

    # What every device computes of these in the same way:

    @cached_property
    def summed(self) -> KernelTable:
        """The same with one kernel for all without arithmetic or weights of a site that share class and form: their times, energies and bytes add up."""
        alone = [k for k, kernel in enumerate(self.kernels) if kernel.site is not None or self.macs[k].any()]
        rest = sorted(set(range(len(self.kernels))) - set(alone))
        if len(rest) < 2:
            return self
        forms = [("integer", self.integer), ("quantizes", self.quantizes & ~self.integer), ("", ~self.integer & ~self.quantizes)]
        groups = [
            ([k for k in rest if self.kernels[k].op_class == op_class], name, mask)
            for op_class in dict.fromkeys(self.kernels[k].op_class for k in rest)
            for name, mask in forms
        ]
        groups = [(rows, name, mask) for rows, name, mask in groups if mask[rows].any()]
        arrays = {
            name: np.concatenate([getattr(self, name)[alone], [np.where(mask[rows], getattr(self, name)[rows], 0.0).sum(axis=0) for rows, _, mask in groups]])
            for name in ("present", "macs", "weights", "inputs", "outputs", "multiplied")
        }
        for name in ("precision", "weight_bits"):
            arrays[name] = np.concatenate([getattr(self, name)[alone], [getattr(self, name)[rows[0]] for rows, _, _ in groups]])
        for name in ("integer", "quantizes"):
            arrays[name] = np.concatenate([getattr(self, name)[alone], [np.full(len(self.dynamic), form == name) for _, form, _ in groups]])
        kernels = tuple(self.kernels[k] for k in (*alone, *(rows[0] for rows, _, _ in groups)))
        return dataclasses.replace(self, kernels=kernels, **arrays)

    @cached_property
    def moved(self) -> Floats:
        """Activations that are read and written."""
        return self.inputs + self.outputs

    @cached_property
    def weights_read(self) -> Floats:
        """An embedding reads the rows it looks up, not its table."""
        gathers = np.array([k.op_class == "embedding" for k in self.kernels], dtype=np.bool_)[:, None]
        return np.where(gathers, np.minimum(self.weights, self.outputs), self.weights)

    @cached_property
    def requantized(self) -> Floats:
        """Activations that are converted on their way into and out of float kernels among integer ones."""
        return np.where(self.quantizes, self.moved, 0.0)

    @cached_property
    def quantized_at_run_time(self) -> Floats:
        """Activations whose ranges are taken at run time."""
        return np.where((self.precision == _INT8) & self.dynamic, self.inputs, 0.0)

    @cached_property
    def computes_integers(self) -> NDArray[np.bool_]:
        """Whether the kernel is one for integers."""
        integers: NDArray[np.bool_] = (self.precision == _INT8) | self.integer
        return integers

    @cached_property
    def products(self) -> tuple[Product, ...]:
        """The kernels that multiply, by op class."""
        return self._products([kernel.op_class for kernel in self.kernels])

    @cached_property
    def row_products(self) -> tuple[Product, ...]:
        """The same, where a matrix that is multiplied by one row alone is of the class ``gemv``: each weight is used once."""
        single = [bool(row.all()) for row in self.macs <= self.weights]
        return self._products([GEMV if one and kernel.op_class == "gemm" else kernel.op_class for one, kernel in zip(single, self.kernels, strict=True)])

    def _products(self, op_classes: Sequence[str]) -> tuple[Product, ...]:
        by_class: dict[str, list[int]] = {}
        for k in np.flatnonzero(self.macs.any(axis=1)).tolist():
            by_class.setdefault(op_classes[k], []).append(k)
        return tuple(self._product(op_class, np.array(kernels)) for op_class, kernels in by_class.items())

    def _product(self, op_class: str, kernels: NDArray[np.int64]) -> Product:
        macs, weights, outputs = self.macs[kernels], self.weights[kernels], self.outputs[kernels]
        # The sizes of the matrices follow from their own elements; biases and what was folded into them would make them look wider.
        sites = np.array([self.kernels[k].site is not None for k in kernels])
        weights = np.where(sites[:, None], self.multiplied[kernels], weights)
        present, which = np.unique(self.precision[kernels] * 2 + self.dynamic, return_inverse=True)
        arithmetics = tuple((int(value) // 2, bool(value % 2)) for value in present)
        return Product.of(op_class, kernels, macs, weights, outputs, arithmetics, which.reshape(macs.shape))


_cache: OrderedDict[tuple[int, str, bytes], tuple[ModelGraph, KernelTable]] = OrderedDict()


def kernel_table(graph: ModelGraph, target: Target, shapes: Shapes) -> KernelTable:
    """The table; the last few are kept, since every device of a study asks for the same ones."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (shapes.widths, shapes.weight_bits, shapes.activation_bits, shapes.granularity, shapes.symmetric, shapes.dynamic):
        digest.update(np.ascontiguousarray(array).data)
    key = (id(graph), target.name, digest.digest())
    found = _cache.get(key)
    if found is None:
        # The graph is held so that its id cannot be reused while the entry lives.
        found = _cache[key] = (graph, _build(graph, target, shapes))
        while len(_cache) > _KEPT:
            _cache.popitem(last=False)
    else:
        _cache.move_to_end(key)
    return found[1]


def _build(graph: ModelGraph, target: Target, shapes: Shapes) -> KernelTable:
    evaluated: dict[Polynomial, Floats] = {}

    def rows(polynomials: list[Polynomial]) -> Floats:
        for p in polynomials:
            if p not in evaluated:
                evaluated[p] = p.evaluate(shapes.widths).astype(np.float64)
        return np.stack([evaluated[p] for p in polynomials]) if polynomials else np.zeros((0, len(shapes)))

    known = target.kernels(graph)
    # What no candidate executes, such as the factors of layers that all of them leave whole, costs no time here either.
    present = rows([k.present for k in known])
    executed = np.flatnonzero(present.any(axis=1))
    kernels, present = tuple(known[k] for k in executed), present[executed]
    shape = (len(kernels), len(shapes))
    precision, weight_bits = np.zeros(shape, dtype=np.int8), np.full(shape, 32, dtype=np.int8)
    integer, quantizes = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
    static = ~shapes.dynamic
    context = np.zeros(len(shapes), dtype=np.bool_)
    site_precision = _site_precision(graph, target, shapes)
    for k, kernel in enumerate(kernels):
        if kernel.site is not None:
            precision[k] = site_precision[:, kernel.site]
            weight_bits[k] = shapes.weight_bits[:, kernel.site]
            if kernel.op_class != "embedding":
                context = (precision[k] == _INT8) & (shapes.activation_bits[:, kernel.site] <= 8) & static
                integer[k] = context
        elif kernel.op_class in _FLOAT_CLASSES:
            quantizes[k] = context
        else:
            integer[k] = context
    return KernelTable(
        kernels,
        present,
        rows([k.macs for k in kernels]) * present,
        rows([k.weight_elements for k in kernels]) * present,
        rows([k.input_elements for k in kernels]) * present,
        rows([k.output_elements for k in kernels]) * present,
        precision,
        weight_bits,
        integer,
        quantizes,
        shapes.dynamic,
        target.stored_bytes(graph, shapes).astype(np.float64),
        graph.activation_peak(shapes).astype(np.float64),
        _cache_elements(graph, shapes),
        rows([_multiplied(graph, kernel) for kernel in kernels]),
        rows([site.elements * site.own for site in graph.sites]),
        shapes.weight_bits.T.astype(np.int8),
        site_precision.T,
    )


def _multiplied(graph: ModelGraph, kernel: Kernel) -> Polynomial:
    total = Polynomial.constant(0)
    if kernel.site is not None:
        site = graph.sites[kernel.site]
        for part in kernel.site_parts:
            total = total + (site.parts[part][0] if site.parts else site.elements)
        total = total * site.own
    return total


def _cache_elements(graph: ModelGraph, shapes: Shapes) -> Floats:
    total = np.zeros(len(shapes))
    for program in graph.programs:
        if program.name == "decode":
            for tensor in program.tensors:
                if tensor.role == "input" and tensor.floating:
                    total += tensor.elements.evaluate(shapes.widths) * program.growth
    return total


def _site_precision(graph: ModelGraph, target: Target, shapes: Shapes) -> NDArray[np.int8]:
    """Index into ``PRECISIONS``, ``[candidates, sites]``; asked once for each distinct combination."""
    granularity = effective_granularity(graph, shapes)
    packed = ((shapes.weight_bits * 256 + shapes.activation_bits) * 256 + granularity + 1) * 2 + shapes.dynamic[:, None]
    distinct, inverse = np.unique(packed, return_inverse=True)
    rest = distinct // 2
    names = target.compute_precision(rest // 65536, rest // 256 % 256, rest % 256 - 1, distinct % 2 == 1)
    indices = np.array([PRECISIONS.index(str(name)) for name in names], dtype=np.int8)
    return indices[inverse].reshape(packed.shape)
