"""Fusion that all runtimes share: what follows a convolution or a matrix product element by element is computed with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from compressors.graph.model_graph import ModelGraph, Operator
from compressors.graph.polynomial import Polynomial
from compressors.targets.target import Kernel

__all__ = ["fused_kernels"]

_CONTRACTIONS = ("conv", "conv3x3", "pointwise", "depthwise", "grouped", "gemm")
_FUSED_BEHIND = ("normalization", "activation", "elementwise", "view")
_FREE = ("view",)


def _everything(lead: str, operator: Operator) -> bool:  # noqa: ARG001 - a rule's form
    return operator.op_class in _FUSED_BEHIND


def fused_kernels(graph: ModelGraph, fuses: Callable[[str, Operator], bool] = _everything) -> tuple[Kernel, ...]:
    """What goes into the convolution or matrix product that it follows, as batch norm, activation and residual addition may; in execution order.

    Args:
        graph: any.
        fuses: whether the runtime computes an operator with what it follows, whose class is the first argument.
    """
    groups: list[list[Operator]] = []
    owner: dict[int, int] = {}
    readers: dict[int, int] = {}
    for operator in graph.operators:
        for tensor in operator.inputs:
            readers[tensor] = readers.get(tensor, 0) + 1
    for operator in graph.operators:
        activations = [t for t in operator.inputs if graph.tensors[t].role == "activation"]
        behind = owner.get(activations[0]) if activations else None
        if behind is None and len(activations) > 1:
            behind = owner.get(activations[1])
        lead = groups[behind][0].op_class if behind is not None else ""
        norm_after_gemm = operator.op_class == "normalization" and lead == "gemm"
        single = bool(activations) and readers.get(activations[0], 0) == 1
        if behind is not None and lead in _CONTRACTIONS and fuses(lead, operator) and single and not norm_after_gemm:
            groups[behind].append(operator)
            where = behind
        else:
            groups.append([operator])
            where = len(groups) - 1
        owner.update(dict.fromkeys(operator.outputs, where))
    return tuple(kernel for group in groups if any(o.op_class not in _FREE for o in group) for kernel in _either(_kernel(graph, group), group[0]))


def _either(kernel: Kernel, lead: Operator) -> tuple[Kernel, ...]:
    """The kernel, and beside it that of the other class that its leading operator may have; a candidate executes one of them."""
    if lead.otherwise is None:
        return (kernel,)
    op_class, own = lead.otherwise
    other = Polynomial.constant(1) + own * -1
    return (replace(kernel, present=kernel.present * own), replace(kernel, op_class=op_class, present=kernel.present * other))


def _kernel(graph: ModelGraph, group: list[Operator]) -> Kernel:
    lead = group[0]
    inside = {t for operator in group for t in operator.outputs}
    weights = inputs = Polynomial.constant(0)
    conditional = dict(lead.conditional)
    for tensor in dict.fromkeys(t for operator in group for t in operator.inputs if t not in inside):
        info = graph.tensors[tensor]
        if info.role in ("parameter", "buffer", "constant"):
            weights = weights + info.elements
        else:
            inputs = inputs + info.elements * conditional.get(tensor, 1)
    outputs = Polynomial.constant(0)
    for tensor in group[-1].outputs:
        outputs = outputs + graph.tensors[tensor].elements
    macs = Polynomial.constant(0)
    for operator in group:
        macs = macs + operator.macs
    return Kernel(lead.name, lead.op_class, macs, weights, inputs, outputs, lead.site, lead.module, lead.present, lead.site_parts)
