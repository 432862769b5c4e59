"""From executed ops to operators, tensors and sites."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from math import prod

from compressors.graph.axes import AxisTable
from compressors.graph.model_graph import Operator, Site, TensorInfo
from compressors.graph.polynomial import Polynomial
from compressors.graph.propagation import Propagation, Step, Value
from compressors.graph.ranks import Factors, middle
from compressors.graph.rules import Dims
from compressors.graph.windows import Window, neighbours

__all__ = ["describe"]


def describe(
    found: Propagation, table: AxisTable, factors: Mapping[Value, Factors], owners: Mapping[str, Polynomial], windows: Mapping[str, Window] | None = None
) -> tuple[tuple[TensorInfo, ...], tuple[Operator, ...], tuple[Site, ...]]:
    """Tensors (parameters and inputs first), operators in execution order, and sites.

    Args:
        found: the program.
        table: its axes.
        factors: what may stand for a weight; is listed beside it.
        owners: for modules that may share their weights, 1 where they have their own, else 0.
        windows: of attentions that may be local, by module.
    """
    values: dict[Value, int] = {}
    halves = [half for each in factors.values() for half in (each.first, each.second)]
    for value in (*found.parameters.values(), *halves, *found.inputs.values(), *found.constants):
        values.setdefault(value, len(values))
    steps = [step for step in found.steps if step.outputs]
    middles = {id(step): middle(step, factors[weight]) for step in steps if (weight := _weight(step)) is not None and weight in factors}
    windows = windows or {}
    local = {id(step): neighbours(step, windows[step.call.module]) for step in steps if step.op_class == "attention" and step.call.module in windows}
    for step in steps:
        for value in (*step.inputs, *([middles[id(step)]] if id(step) in middles else []), *local.get(id(step), ()), *step.outputs):
            values.setdefault(value, len(values))
    inner = _inner(found, steps)
    inner |= {half: half.name for half in halves} | {middles[id(step)]: step.call.module for step in steps if id(step) in middles}
    inner |= {value: step.call.module for step in steps for value in local.get(id(step), ())}
    there = {weight: each.dense for weight, each in factors.items()}
    # Thin factors have no elements where their rank is 0.
    there |= {half: each.factorised for each in factors.values() if each.separable for half in (each.first, each.second)}
    there |= {middles[id(step)]: factors[w].factorised for step in steps if (w := _weight(step)) is not None and w in factors and factors[w].separable}
    own = {value: owners[module] for value in found.parameters.values() if (module := value.name.rpartition(".")[0]) in owners}
    own |= {half: own[weight] for weight, each in factors.items() if weight in own for half in (each.first, each.second)}
    tensors = tuple(_tensor(value, values, table, inner.get(value, ""), there, own) for value in values)
    uses = Counter(value for step in steps for value in step.inputs)
    normalised = {step.arguments["input"] for step in steps if step.call.name == "batch_norm"}
    sites: dict[Value, Site] = {}
    operators: list[Operator] = []
    for step in steps:
        weight = _weight(step)
        if weight is not None:
            folded = step.outputs[0] in normalised and uses[step.outputs[0]] == 1
            known = sites.get(weight) or _site(step, weight, table, factors.get(weight), own.get(weight, Polynomial.constant(1)))
            bias = step.arguments.get("bias") is not None or step.call.name == "addmm" or folded
            sites[weight] = replace(known, bias=known.bias or bias, folded=known.folded or (folded and step.op_class == "conv"), shared=weight in sites)
        if weight is not None and weight in factors:
            operators += _pair(step, factors[weight], middles[id(step)], values, table, _op_class(step, weight), list(sites).index(weight))
            continue
        if id(step) in local:
            operators += _windowed(step, windows[step.call.module], local[id(step)], values, table)
            continue
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


def _pair(step: Step, factors: Factors, between: Value, values: Mapping[Value, int], table: AxisTable, op_class: str, site: int) -> tuple[Operator, Operator]:
    """The first factor, which is there where the layer is factorised, and the layer, which then multiplies by the second one alone."""
    module, present, between_size = step.call.module, table.present(step.call.module), table.polynomial(factors.between)
    once = factors.factorised if factors.separable else Polynomial.constant(1)
    source = step.arguments.get("input", step.arguments.get("mat1"))
    assert source is not None, "linear layers and convolutions have an input"
    first = Operator(
        name=f"{step.call.node.name}_first",
        target=str(step.target),
        module=module,
        op_class="depthwise" if factors.separable else op_class,
        macs=_product(between.dims, table) * _product(factors.first.dims[1:], table) * once * present,
        inputs=(values[source], values[factors.first]),
        outputs=(values[between],),
        site=site,
        present=present * factors.factorised,
        site_parts=(1,),
    )
    second = Operator(
        name=step.call.node.name,
        target=str(step.target),
        module=module,
        op_class=op_class,
        macs=(_macs(step, table) * factors.dense + _product(step.outputs[0].dims, table) * between_size * once) * present,
        inputs=(*(values[value] for value in step.inputs), values[between], values[factors.second]),
        outputs=tuple(values[value] for value in step.outputs),
        site=site,
        present=present,
        conditional=((values[source], factors.dense),),
        site_parts=(0, 2),
        otherwise=("pointwise", factors.dense) if factors.separable else None,
    )
    return first, second


def _windowed(step: Step, window: Window, read: tuple[Value, Value], values: Mapping[Value, int], table: AxisTable) -> tuple[Operator, Operator]:
    """What lays keys and values out for the blocks of queries, which is there where attention is local, and attention, which then reads these alone."""
    present, once = table.present(step.call.module), Polynomial.constant(1) + window.full * -1
    query, key, value = (step.arguments[name] for name in ("query", "key", "value"))
    laid = Operator(
        name=f"{step.call.node.name}_blocks",
        target="compareto.blocks",
        module=step.call.module,
        op_class="movement",
        macs=Polynomial.constant(0),
        inputs=(values[key], values[value]),
        outputs=(values[read[0]], values[read[1]]),
        present=present * once,
    )
    each = _product(query.dims[:-2], table) * (table.polynomial(query.dims[-1]) + table.polynomial(value.dims[-1]))
    attention = Operator(
        name=step.call.node.name,
        target=str(step.target),
        module=step.call.module,
        op_class=step.op_class,
        macs=(_macs(step, table) * window.full + each * window.pairs) * present,
        inputs=(*(values[v] for v in step.inputs), values[read[0]], values[read[1]]),
        outputs=tuple(values[v] for v in step.outputs),
        present=present,
        conditional=((values[key], window.full), (values[value], window.full)),
    )
    return laid, attention


def _product(dims: Dims, table: AxisTable) -> Polynomial:
    total = Polynomial.constant(1)
    for dim in dims:
        total = total * table.polynomial(dim)
    return total


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


def _tensor(
    value: Value, values: Mapping[Value, int], table: AxisTable, where: str, there: Mapping[Value, Polynomial], own: Mapping[Value, Polynomial]
) -> TensorInfo:
    dims = tuple(table.polynomial(dim) for dim in value.dims)
    elements = table.present(where) * _product(value.dims, table)
    if value in there:
        elements = elements * there[value]
    alias = None if value.alias_of is None else values[value.alias_of]
    return TensorInfo(value.name, value.role, dims, elements, value.floating, alias, own.get(value, Polynomial.constant(1)))


def _macs(step: Step, table: AxisTable) -> Polynomial:
    total = Polynomial.constant(0)
    for dims in step.call.macs:
        total = total + _product(dims, table)
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


def _site(step: Step, weight: Value, table: AxisTable, factors: Factors | None, own: Polynomial) -> Site:
    operator = {"conv": "conv", "embedding": "embedding"}.get(step.op_class, "linear")
    # Output channels come last where the weight is used as it is (x @ weight) and first where the op transposes it.
    transposed = step.call.name.startswith("conv_transpose") or (step.op_class == "matmul" and step.inputs and weight in step.inputs)
    present = table.present(weight.name)
    channels = table.polynomial(weight.dims[1 if transposed else 0]) * present
    parts = [(_product(weight.dims, table) * present, channels)]
    if factors is not None:
        once = (factors.factorised if factors.separable else Polynomial.constant(1)) * present
        parts = [(size * factors.dense, scales * factors.dense) for size, scales in parts]
        parts.append((_product(factors.first.dims, table) * once, table.polynomial(factors.between) * once))
        parts.append((_product(factors.second.dims, table) * once, channels * factors.factorised))
    elements = sum((size for size, _ in parts), Polynomial.constant(0))
    separable = factors is not None and factors.separable
    module = weight.name.rpartition(".")[0]
    return Site(weight.name, module, operator, elements, channels, bias=False, own=own, parts=tuple(parts), separable=separable)


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
