"""From executed ops to operators, tensors and sites."""

from __future__ import annotations

from collections import Counter
from math import prod

from compressors.graph.axes import AxisTable
from compressors.graph.model_graph import Operator, Site, TensorInfo
from compressors.graph.polynomial import Polynomial
from compressors.graph.propagation import Propagation, Step, Value

__all__ = ["describe"]


def describe(found: Propagation, table: AxisTable) -> tuple[tuple[TensorInfo, ...], tuple[Operator, ...], tuple[Site, ...]]:
    """Tensors (parameters and inputs first), operators in execution order, and sites."""
    values: dict[Value, int] = {}
    for value in (*found.parameters.values(), *found.inputs.values(), *found.constants):
        values.setdefault(value, len(values))
    steps = [step for step in found.steps if step.outputs]
    for step in steps:
        for value in (*step.inputs, *step.outputs):
            values.setdefault(value, len(values))
    inner = _inner(found, steps)
    tensors = tuple(_tensor(value, values, table, inner.get(value, "")) for value in values)
    uses = Counter(value for step in steps for value in step.inputs)
    normalised = {step.arguments["input"] for step in steps if step.call.name == "batch_norm"}
    sites: dict[Value, Site] = {}
    operators: list[Operator] = []
    for step in steps:
        weight = _weight(step)
        if weight is not None:
            folded = step.outputs[0] in normalised and uses[step.outputs[0]] == 1
            sites[weight] = _site(step, weight, folded, table, known=sites.get(weight))
        operators.append(
            Operator(
                name=step.call.node.name,
                target=str(step.target),
                module=step.call.module,
                op_class=_op_class(step, weight),
                macs=_macs(step, table) * table.present(step.call.module),
                inputs=tuple(values[value] for value in step.inputs),
                outputs=tuple(values[value] for value in step.outputs),
                site=None if weight is None else list(sites).index(weight),
                present=table.present(step.call.module),
            )
        )
    return tensors, tuple(operators), tuple(sites.values())


def _inner(found: Propagation, steps: list[Step]) -> dict[Value, str]:
    """Where each value lives: a parameter in its module, an activation in the deepest module that holds its maker and all its readers."""
    where = {value: name for name, value in found.parameters.items()}
    for step in steps:
        for value in step.outputs:
            where[value] = step.call.module
    for step in steps:
        for value in step.inputs:
            if value.role == "activation":
                where[value] = _common(where[value], step.call.module)
    for value in found.outputs:
        where[value] = ""
    return where


def _common(a: str, b: str) -> str:
    parts = []
    for x, y in zip(a.split("."), b.split("."), strict=False):
        if x != y:
            break
        parts.append(x)
    return ".".join(parts)


def _tensor(value: Value, values: dict[Value, int], table: AxisTable, where: str) -> TensorInfo:
    dims = tuple(table.polynomial(dim) for dim in value.dims)
    elements = table.present(where)
    for dim in dims:
        elements = elements * dim
    return TensorInfo(value.name, value.role, dims, elements, value.floating, None if value.alias_of is None else values[value.alias_of])


def _macs(step: Step, table: AxisTable) -> Polynomial:
    total = Polynomial.constant(0)
    for dims in step.call.macs:
        product = Polynomial.constant(1)
        for dim in dims:
            product = product * table.polynomial(dim)
        total = total + product
    return total


def _weight(step: Step) -> Value | None:
    """The parameter that the op multiplies by, or looks rows up in."""
    if step.op_class in ("conv", "gemm", "embedding") and "weight" in step.arguments:
        weight = step.arguments["weight"]
    elif step.call.name in ("mm", "addmm", "matmul"):
        weight = step.arguments["other" if step.call.name == "matmul" else "mat2"]
    else:
        return None
    while weight.alias_of is not None:
        weight = weight.alias_of
    return weight if weight.role == "parameter" and len(weight.dims) >= 2 else None


def _site(step: Step, weight: Value, folded: bool, table: AxisTable, known: Site | None) -> Site:
    operator = {"conv": "conv", "embedding": "embedding"}.get(step.op_class, "linear")
    # Output channels come last where the weight is used as it is (x @ weight) and first where the op transposes it.
    transposed = step.call.name.startswith("conv_transpose") or (step.op_class == "matmul" and step.inputs and weight in step.inputs)
    bias = step.arguments.get("bias") is not None or step.call.name == "addmm" or folded
    present = elements = table.present(weight.name)
    for dim in weight.dims:
        elements = elements * table.polynomial(dim)
    module = weight.name.rpartition(".")[0]
    channels = table.polynomial(weight.dims[1 if transposed else 0]) * present
    if known is not None:
        return Site(known.name, known.module, known.operator, known.elements, known.channels, known.bias or bias, shared=True)
    return Site(weight.name, module, operator, elements, channels, bias)


def _op_class(step: Step, weight: Value | None) -> str:
    if step.op_class == "matmul" and weight is not None:
        return "gemm"
    if step.op_class != "conv" or step.call.name.startswith("conv_transpose"):
        return step.op_class
    kernel = [dim.size for dim in step.arguments["weight"].dims[2:]]
    groups, stride = step.call["groups"], step.call["stride"]
    if groups > 1:
        return "depthwise" if step.arguments["weight"].dims[1].size == 1 else "grouped"
    if prod(kernel) == 1:
        return "pointwise"
    return "conv3x3" if kernel == [3, 3] and prod(stride) == 1 else "conv"
