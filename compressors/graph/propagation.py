"""Walks an exported program and gives every dimension of every tensor its place in the algebra of ``dims``."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from compressors.graph.dims import ONE, Leaf, fix
from compressors.graph.rules import Call, Dims, Mark, op_name, rule_of, schema_of

__all__ = ["Propagation", "Step", "Value", "propagate"]

_SILENT = {"_assert_tensor_metadata", "_assert_async", "_assert_scalar", "sym_constrain_range_for_size", "sym_size"}


@dataclass(slots=True, eq=False)
class Value:
    """A tensor of the program.

    Attributes:
        name: the node's name, or the name in the state dict.
        role: as in ``TensorInfo``.
        dims: its dimensions.
        floating: whether its dtype is floating point.
        fake: shape, strides and dtype.
        alias_of: the value whose storage it views.
    """

    name: str
    role: str
    dims: Dims
    floating: bool
    fake: Tensor
    alias_of: Value | None = None


@dataclass(slots=True)
class Step:
    """One executed op; ``arguments`` are its tensor arguments by their name in the schema."""

    call: Call
    target: OpOverload
    op_class: str
    inputs: list[Value]
    outputs: list[Value]
    arguments: dict[str, Value]


@dataclass(slots=True)
class Propagation:
    """The program with dimensions.

    Attributes:
        parameters: every parameter and buffer of the model by its first name in the state dict, used or not.
        inputs: the model's inputs by name, in order.
        steps: executed ops, in order.
        outputs: what the model returns.
        marks: what the rules learnt.
    """

    parameters: dict[str, Value] = field(default_factory=dict)
    inputs: dict[str, Value] = field(default_factory=dict)
    constants: list[Value] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)


def propagate(
    model: nn.Module, program: ExportedProgram, used_outputs: frozenset[int] | None = None, first: Propagation | None = None, path: str = ""
) -> Propagation:
    """Assign dimensions to everything in a program.

    Args:
        model: the whole model.
        program: exported from its submodule ``path``.
        used_outputs: have sizes to keep; None for all.
        first: the program of the whole model, where this one is another: they share the parameters, and what floats into this one (caches, hidden states) has
            the widths that its parameters give it.
        path: empty for the model itself.
    """
    result = Propagation()
    canonical: dict[str, str] = {}
    seen: dict[int, str] = {}
    for role, entries in (("parameter", model.named_parameters(remove_duplicate=False)), ("buffer", model.named_buffers(remove_duplicate=False))):
        for name, tensor in entries:
            canonical[name] = seen.setdefault(id(tensor), name)
            if canonical[name] == name:
                result.parameters[name] = Value(name, role, _widths(tensor.shape), tensor.is_floating_point(), tensor)
    if first is not None:
        result.parameters = first.parameters
    known: dict[fx.Node, Any] = {}
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    for node, spec in zip(placeholders, program.graph_signature.input_specs, strict=True):
        fake = node.meta.get("val")
        owned = _joined(path, spec.target or "")
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and owned in canonical:
            known[node] = result.parameters[canonical[owned]]
        elif isinstance(fake, Tensor):
            if spec.kind is InputKind.USER_INPUT:
                state = first is not None and fake.is_floating_point()
                dims = _widths(fake.shape) if state else tuple(Leaf(size, "input", "the input's size") if size != 1 else ONE for size in fake.shape)
                known[node] = result.inputs[node.name] = Value(node.name, "input", dims, fake.is_floating_point(), fake)
            else:
                known[node] = _constant(node, fake)
                result.constants.append(known[node])
    _Walk(result, known, used_outputs, path).run(program.graph_module, "")
    return result


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _widths(shape: torch.Size) -> Dims:
    return tuple(ONE if size == 1 else Leaf(size) for size in shape)


def _constant(node: fx.Node, fake: Tensor) -> Value:
    dims = tuple(ONE if size == 1 else Leaf(size, "constant", f"the constant {node.name}") for size in fake.shape)
    return Value(node.name, "constant", dims, fake.is_floating_point(), fake)


@dataclass(slots=True)
class _Walk:
    result: Propagation
    known: dict[fx.Node, Any]
    used: frozenset[int] | None = None
    path: str = ""

    def run(self, graph_module: fx.GraphModule, prefix: str) -> Any:
        """Interpret one graph; nested graphs (contexts such as no_grad) recurse."""
        for node in graph_module.graph.nodes:
            if node.op == "get_attr":
                target = graph_module.get_submodule(node.target) if _is_module(graph_module, node.target) else getattr(graph_module, node.target)
                if isinstance(target, Tensor):
                    target = _constant(node, target)
                    self.result.constants.append(target)
                self.known[node] = target
            elif node.op == "call_function":
                self.known[node] = self._call(node, prefix)
            elif node.op == "output":
                returned = [self.known[n] for n in node.all_input_nodes]
                if prefix:
                    return returned
                self._returned(node)
        return None

    def _returned(self, node: fx.Node) -> None:
        for position, argument in enumerate(node.args[0]):  # type: ignore[arg-type]
            value = self.known.get(argument)
            if isinstance(value, Value) and (self.used is None or position in self.used):
                self.result.outputs.append(value)
                for dim in value.dims:
                    fix(dim, "the model returns it")

    def _call(self, node: fx.Node, prefix: str) -> Any:
        target = node.target
        if target is operator.getitem:
            return self.known[node.args[0]][node.args[1]]  # type: ignore[index]
        if not isinstance(target, OpOverload):
            return self._nested(node, prefix)
        if op_name(target) in _SILENT:
            return None
        return self._aten(node, target)

    def _nested(self, node: fx.Node, prefix: str) -> Any:
        bodies = [self.known[n] for n in node.all_input_nodes if isinstance(self.known.get(n), fx.GraphModule)]
        if len(bodies) != 1:
            for n in node.all_input_nodes:
                value = self.known.get(n)
                if isinstance(value, Value):
                    for dim in value.dims:
                        fix(dim, f"control flow ({node.target})")
            fakes = node.meta["val"]
            values = [self._activation(f"{node.name}_{i}", fake, None) for i, fake in enumerate(fakes if isinstance(fakes, (tuple, list)) else [fakes])]
            return values if isinstance(fakes, (tuple, list)) else values[0]
        arguments = [n for n in node.all_input_nodes if not isinstance(self.known.get(n), fx.GraphModule)]
        for inner, outer in zip((n for n in bodies[0].graph.nodes if n.op == "placeholder"), arguments, strict=True):
            self.known[inner] = self.known[outer]
        return self.run(bodies[0], f"{prefix}{node.name}_")

    def _activation(self, name: str, fake: Tensor, dims: Dims | None) -> Value:
        if dims is None or tuple(d.size for d in dims) != tuple(fake.shape):
            if dims is not None:
                for dim in dims:
                    fix(dim, f"the op {name} yields another shape than expected")
            dims = tuple(ONE if size == 1 else Leaf(size, "constant", f"an op without a rule ({name})") for size in fake.shape)
        return Value(name, "activation", dims, fake.is_floating_point(), fake)

    def _aten(self, node: fx.Node, target: OpOverload) -> Any:
        rule, op_class = rule_of(target)
        stack = node.meta.get("nn_module_stack") or {}
        module = _joined(self.path, str(list(stack.values())[-1][0]) if stack else "")
        arguments = {a.name: a.default_value for a in schema_of(target).arguments if a.has_default_value()}
        arguments |= {a.name: value for a, value in zip(schema_of(target).arguments, node.args, strict=False)} | dict(node.kwargs)
        call = Call(node, op_name(target), module, arguments, lambda n: self.known[n].dims, self.result.marks)
        inputs = [self.known[n] for n in node.all_input_nodes if isinstance(self.known.get(n), Value)]
        found: Dims | list[Dims] | None = None
        if rule is None:
            for value in inputs:
                for dim in value.dims:
                    call.fix(dim, "an op without a rule")
        else:
            found = rule(call)
        fakes = node.meta["val"]
        outputs: list[Value]
        if isinstance(fakes, (tuple, list)):
            each = found if isinstance(found, list) else [None] * len(fakes)
            outputs = [
                self._activation(f"{node.name}_{i}", fake, dims) for i, (fake, dims) in enumerate(zip(fakes, each, strict=False)) if isinstance(fake, Tensor)
            ]
        elif isinstance(fakes, Tensor):
            outputs = [self._activation(node.name, fakes, None if isinstance(found, list) else found)]
        else:
            outputs = []
        op_class = _alias(target, op_class, inputs, outputs)
        if not _is_constant(inputs):
            tensors = {name: self.known[n] for name, n in arguments.items() if isinstance(n, fx.Node) and isinstance(self.known.get(n), Value)}
            self.result.steps.append(Step(call, target, op_class, inputs, outputs, tensors))
        else:
            for value in outputs:
                value.role = "constant"
            self.result.constants += outputs
        return outputs if isinstance(fakes, (tuple, list)) else outputs[0] if outputs else None


def _is_constant(inputs: list[Value]) -> bool:
    # What depends on neither inputs nor parameters is computed before the model runs (runtimes fold it).
    return all(value.role == "constant" for value in inputs)


def _is_module(graph_module: fx.GraphModule, name: Any) -> bool:
    return isinstance(getattr(graph_module, str(name), None), nn.Module)


def _alias(target: OpOverload, op_class: str, inputs: list[Value], outputs: list[Value]) -> str:
    """Set ``alias_of`` of the outputs; the op's class, ``movement`` where a view has to copy."""
    first = schema_of(target).arguments[0].alias_info if schema_of(target).arguments else None
    if first is not None and first.is_write and inputs and outputs and op_class != "view":
        outputs[0].alias_of = inputs[0]
        return op_class
    if op_class != "view" or not inputs:
        return op_class
    source = inputs[0]
    name = op_name(target)
    if name in ("reshape", "flatten", "contiguous", "to", "clone"):
        fake = torch.empty_strided(source.fake.shape, source.fake.stride(), dtype=source.fake.dtype, device="meta")
        out = outputs[0].fake
        if name == "clone" or fake.dtype != out.dtype or (name == "contiguous" and not fake.is_contiguous()):
            return "movement"
        viewed = fake.reshape(out.shape)
        if not viewed._is_view():  # noqa: SLF001  (the only way to ask whether reshape has copied)
            return "movement"
    for value in outputs:
        value.alias_of = source
    return op_class
