"""A model with early exits as one ONNX file a stage: the exported graph cut at each exit, and a plan that says how they follow each other.

``model.stages`` is JSON::

    {"stages_version": 2,
     "threshold": 0.8,
     "stages": ["stage-1.onnx", "stage-2.onnx"],
     "rows": {tensor: rows of it that one example has}}

A stage takes inputs of the model and tensors that earlier stages gave, by name, and gives ``logits``, their ``confidence`` (the largest probability,
``[examples]``) where another stage follows, and what later stages take. What is not in ``rows`` is no
example's own, such as a table, and passes as it is. ``search/bench.py`` runs such a plan without torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UnexportableError

if TYPE_CHECKING:
    import onnx

__all__ = ["STAGES", "STAGES_VERSION", "split_stages", "stage_files"]

STAGES = "model.stages"
STAGES_VERSION = 2
_LOGITS, _CONFIDENCE = "logits", "confidence"
_WEIGHTY = 64
"""Float tables with more elements are weights: what reads one is worth passing on rather than computing again."""
_CHEAP = 8
"""What takes more nodes than these to compute again, such as a mask, is passed on as well."""
_PRODUCTS = frozenset(("MatMul", "Gemm", "Conv", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv", "Attention", "Softmax"))

_Arrays = dict[str, NDArray[Any]]


def stage_files(path: Path) -> list[Path]:
    """The files of a plan, in order."""
    return [path.with_name(name) for name in json.loads(path.read_text(encoding="utf-8"))["stages"]]


def split_stages(path: Path, threshold: float, inputs: Mapping[str, NDArray[Any]]) -> Path:
    """Replace an exported model, whose output ``logits`` is ``[examples, stages, classes]``, by its stages.

    Args:
        path: the ONNX file; it is removed.
        threshold: the confidence from which on an exit is trusted.
        inputs: at least one example, each ``[examples, ...]``.

    Returns:
        The plan.

    Raises:
        UnexportableError: the graph does not end in the logits of stages, or is too large for one file.
    """
    import onnx

    if path.with_name(f"{path.name}.data").exists():
        raise UnexportableError("a model with early exits of more than 2 GB cannot be exported as stages")
    graph = _Graph(onnx.load(path))
    parts = graph.parts()
    probes = [_sized(inputs, count) for count in (2, 3)]
    for name, dims in graph.inputs.items():
        if len(dims) > 1 and isinstance(dims[1], str) and inputs[name].shape[1] > 1:
            # Texts of any length: which of the sizes between stages are theirs?
            probes.append({other: value[:, : value.shape[1] // 2] if value.ndim > 1 else value for other, value in probes[0].items()})
            break
    files, found = [], [dict(probe) for probe in probes]
    for i, part in enumerate(parts):
        file = path.with_name(f"stage-{i + 1}.onnx")
        gives = sorted({name for later in parts[i + 1 :] for name in later.takes} & part.made)
        onnx.save(graph.model_of(part, gives, found, known=False), file)
        for values in found:
            values.update(_run(file, values))
        onnx.save(graph.model_of(part, gives, found, known=True), file)
        files.append(file.name)
    passed = {name for part in parts for name in part.takes}
    rows = {name: each for name in sorted(passed) if (each := _rows([(len(next(iter(p.values()))), v[name]) for p, v in zip(probes, found, strict=True)]))}
    path.unlink()
    plan = {"stages_version": STAGES_VERSION, "threshold": threshold, "stages": files, "rows": rows}
    place = path.with_name(STAGES)
    place.write_text(json.dumps(plan, indent=1), encoding="utf-8")
    return place


class _Part:
    """One stage: positions of its nodes, its logits, names of what it takes from outside, and whether another one follows."""

    def __init__(self, nodes: Iterable[int], logits: str, takes: Iterable[str], made: set[str], *, goes_on: bool) -> None:
        self.nodes, self.logits, self.takes, self.made, self.goes_on = sorted(nodes), logits, sorted(takes), made, goes_on


class _Graph:
    """An ONNX graph that ends in the concatenated logits of stages."""

    def __init__(self, model: onnx.ModelProto) -> None:
        import onnx

        self.model = model
        self.nodes = list(model.graph.node)
        self.maker = {name: i for i, node in enumerate(self.nodes) for name in node.output if name}
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.inputs: dict[str, list[int | str]] = {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in model.graph.input
        }
        self._varies = self._closed(set(self.inputs))
        self._heavy = self._closed({o for node in self.nodes if self._weighs(node) for o in node.output}, ends=("Shape", "Size"))
        kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BOOL)
        self._values = {v.name for v in onnx.shape_inference.infer_shapes(model).graph.value_info if v.type.tensor_type.elem_type in kinds}

    def parts(self) -> list[_Part]:
        """The stages."""
        found: list[_Part] = []
        done: set[str] = set()
        ends = self._logits()
        for logits in ends:
            nodes, takes, waiting = set[int](), set[str](), [logits]
            while waiting:
                name = waiting.pop()
                if not name or name in self.initializers:
                    continue
                if name in self.inputs or (name in done and (name in self._heavy or self._laborious(name))):
                    takes.add(name)
                elif (i := self.maker[name]) not in nodes:
                    # What is cheap is computed again: sizes then are those of the examples that are left.
                    nodes.add(i)
                    waiting += self.nodes[i].input
            made = {name for i in nodes for name in self.nodes[i].output}
            done |= made
            found.append(_Part(nodes, logits, takes, made, goes_on=len(found) < len(ends) - 1))
        return found

    def model_of(self, part: _Part, gives: list[str], values: list[_Arrays], *, known: bool) -> onnx.ModelProto:
        """A model of one stage; sizes that differ between ``values`` are left open, and so is all of outputs until they are ``known``."""
        import onnx
        from onnx import helper

        nodes = [_renamed(self.nodes[i], part.logits, _LOGITS) for i in part.nodes]
        own_outputs, ends, tables = [_LOGITS], [], []
        if part.goes_on:
            # Here rather than in the runner, which has nothing of it in the processor's caches and takes longer than a kernel.
            tables = [helper.make_tensor(f"{_CONFIDENCE}_axes", onnx.TensorProto.INT64, [1], [-1])]
            ends.append(helper.make_node("Softmax", [_LOGITS], [f"{_CONFIDENCE}_of_classes"], axis=-1))
            ends.append(helper.make_node("ReduceMax", [f"{_CONFIDENCE}_of_classes", tables[0].name], [_CONFIDENCE], keepdims=0))
            own_outputs.append(_CONFIDENCE)
        used = {name for node in nodes for name in node.input}
        own = [value for value in self.model.graph.input if value.name in part.takes]
        taken = [_described(name, [v[name] for v in values]) for name in part.takes if name not in self.inputs]
        outputs = [_described(name, [v[name] for v in values if known and name in v]) for name in (*own_outputs, *gives)]
        initializers = [tensor for name, tensor in self.initializers.items() if name in used]
        graph = helper.make_graph([*nodes, *ends], "stage", [*own, *taken], outputs, [*initializers, *tables])
        model = helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version, functions=self.model.functions)
        model.metadata_props.extend(self.model.metadata_props)
        return model

    def _logits(self) -> list[str]:
        """Of each stage: what is concatenated into the model's output."""
        end = self.nodes[self.maker[_LOGITS]] if _LOGITS in self.maker else None
        if end is None or end.op_type != "Concat" or len(end.input) < 2:
            raise UnexportableError("the exported graph does not end in the logits of its stages")
        names = []
        for name in end.input:
            node = self.nodes[self.maker[name]]
            names.append(node.input[0] if node.op_type in ("Unsqueeze", "Reshape") else name)
        # The one name that a stage's own output has.
        for node in self.nodes:
            for i, name in enumerate(node.output):
                if name == _LOGITS:
                    node.output[i] = "all_logits"
        return names

    def _weighs(self, node: onnx.NodeProto) -> bool:
        import onnx

        if not any(name in self._varies for name in node.input):
            return False
        integers = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
        tables = (self.initializers[name] for name in self._constants(node) if self.initializers[name].data_type not in integers)
        return node.op_type in _PRODUCTS or any(int(np.prod(tensor.dims)) > _WEIGHTY for tensor in tables)

    def _laborious(self, name: str) -> bool:
        """Whether a tensor of values, not of sizes or positions, takes many nodes."""
        nodes, waiting = set[int](), [name] if name in self._values and name in self._varies else []
        while waiting and len(nodes) <= _CHEAP:
            i = self.maker.get(waiting.pop())
            if i is not None and i not in nodes:
                nodes.add(i)
                waiting += self.nodes[i].input
        return len(nodes) > _CHEAP

    def _constants(self, node: onnx.NodeProto) -> set[str]:
        """Initializers that a node reads, itself or through nodes that depend on no input."""
        found, waiting = set[str](), list(node.input)
        while waiting:
            name = waiting.pop()
            if name in self.initializers:
                found.add(name)
            elif name in self.maker and name not in self._varies:
                waiting += self.nodes[self.maker[name]].input
        return found

    def _closed(self, names: set[str], ends: tuple[str, ...] = ()) -> set[str]:
        """``names`` and all that is made from them, but not by nodes of the types ``ends``."""
        found = set(names)
        for node in self.nodes:
            if node.op_type not in ends and any(name in found for name in node.input):
                found |= set(node.output)
        return found


def _renamed(node: onnx.NodeProto, name: str, to: str) -> onnx.NodeProto:
    """A copy in which a tensor is called otherwise; what is inside of it (a loop's body) has no logits."""
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for names in (copy.input, copy.output):
        for i, found in enumerate(names):
            if found == name:
                names[i] = to
    return copy


def _described(name: str, values: list[NDArray[Any]]) -> onnx.ValueInfoProto:
    from onnx import ValueInfoProto, helper

    if not values:
        return ValueInfoProto(name=name)
    shapes = [value.shape for value in values]
    dims = [sizes[0] if len(set(sizes)) == 1 else f"{name}_{i}" for i, sizes in enumerate(zip(*shapes, strict=True))]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values[0].dtype), dims)


def _rows(found: list[tuple[int, NDArray[Any]]]) -> int:
    """How many rows of a tensor belong to one example; 0 where it is no example's own."""
    each = {len(value) / count if value.ndim else 0.0 for count, value in found[:2]}
    return int(each.pop()) if len(each) == 1 and all(value.is_integer() for value in each) else 0


def _sized(inputs: Mapping[str, NDArray[Any]], count: int) -> _Arrays:
    return {name: np.resize(value, (count, *value.shape[1:])) for name, value in inputs.items()}


def _run(file: Path, values: Mapping[str, NDArray[Any]]) -> _Arrays:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    feeds = {i.name: np.ascontiguousarray(values[i.name]) for i in session.get_inputs()}
    return dict(zip(names, session.run(names, feeds), strict=True))
