"""Early exits as the cost model sees them: the traced graph cut at each exit, with the exit's head as operators of its own.

The graphs have the axes and sites of the whole one, so that whatever prices a candidate prices it up to any of its exits too. No torch.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from compressors.graph.model_graph import ModelGraph, Operator, TensorInfo
from compressors.graph.polynomial import Polynomial
from compressors.graph.shapes import Shapes
from compressors.sizing import in_scorer

__all__ = ["EXITS", "READABLE", "STAGE", "Exits", "Pool", "blocks_of", "channels_last", "classes_of", "exit_points", "staged", "taken", "unreadable"]

EXITS = "compareto_exits"
"""What the heads are called in the model; their parameters have names below it."""

READABLE = (
    "a block that returns [examples, width], [examples, tokens, width], [examples, channels, time] or [examples, channels, height, width], or channels last"
)
"""What a head can stand behind, for messages."""

STAGE = "stage"
"""Class of the operator that begins each stage but the first: the runtime is started again, and what the last block returned is handed on."""

Pool = Literal["mean", "first"]
_KEPT = 16
_Staged = tuple[ModelGraph, "Exits", tuple[ModelGraph, ...]]
_cache: OrderedDict[tuple[int, Exits], _Staged] = OrderedDict()


@dataclass(frozen=True, slots=True)
class Exits:
    """Where a model may stop, in the order in which it gets there.

    Attributes:
        after: names of modules.
        pool: how a head makes one vector of what such a module returns: the mean over tokens (those that the mask leaves), pixels or time, or the first token.
        hidden: width of a layer with tanh before the head's last; None has none.
    """

    after: tuple[str, ...]
    pool: Pool = "mean"
    hidden: int | None = None

    @classmethod
    def from_plain(cls, data: Mapping[str, Any] | None) -> Self | None:
        """From what ``compareto_structure`` and records hold under ``exits``, which may be more; None of nothing."""
        return None if data is None else cls(tuple(data["after"]), data["pool"], data["hidden"])

    def to_plain(self) -> dict[str, Any]:
        """The reverse."""
        return {"after": list(self.after), "pool": self.pool, "hidden": self.hidden}


def taken(logits: NDArray[Any], threshold: float | None) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """What a model with exits answers, and where it stopped.

    Args:
        logits: ``[examples, stages, classes]``, the last stage being the whole model.
        threshold: an example leaves at the first stage whose largest probability is at least this; None: never before the last.

    Returns:
        ``[examples, classes]``, and ``[examples]`` numbers of stages.
    """
    last = logits.shape[1] - 1
    if threshold is None:
        return logits[:, last], np.full(len(logits), last, dtype=np.int64)
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    sure = 1.0 / shifted.sum(axis=-1) >= threshold
    sure[:, last] = True
    stage = sure.argmax(axis=1).astype(np.int64)
    return logits[np.arange(len(logits)), stage], stage


def classes_of(graph: ModelGraph) -> int | None:
    """Classes of a classifier, whose outputs are ``[examples, classes]``; None of other models."""
    dims = graph.tensors[graph.operators[-1].outputs[0]].dims
    return int(dims[1].evaluate(graph.baseline().widths)[0]) if len(dims) == 2 else None


def _returned(graph: ModelGraph) -> dict[str, int]:
    """As ``exit_points``, of all modules but those of a scorer of crops, and but what ends the model."""
    made: dict[str, int] = {}
    for operator in graph.operators:
        parts = operator.module.split(".") if operator.module else []
        for i in range(0 if in_scorer(operator.module) else len(parts)):
            made[".".join(parts[: i + 1])] = operator.outputs[0]
    last = graph.operators[-1].outputs[0]
    return {name: t for name, t in made.items() if t != last}


def exit_points(graph: ModelGraph) -> dict[str, int]:
    """The tensor that each module returns, as an index, by the module's name; of those that a head can read (``READABLE``)."""
    return {
        name: t
        for name, t in _returned(graph).items()
        if graph.tensors[t].floating and len(graph.tensors[t].dims) in (2, 3, 4) and _of_examples(graph, graph.tensors[t].dims[0])
    }


def unreadable(graph: ModelGraph) -> dict[str, list[int]]:
    """The shape that each of the other modules returns, by its name."""
    points, widths = exit_points(graph), graph.baseline().widths
    return {name: [int(dim.evaluate(widths)[0]) for dim in graph.tensors[t].dims] for name, t in _returned(graph).items() if name not in points}


def _of_examples(graph: ModelGraph, size: Polynomial) -> bool:
    """Whether a first dimension is that of the model's outputs: not where tokens come first, or where examples are taken apart into more of them."""
    outputs = graph.tensors[graph.operators[-1].outputs[0]].dims
    if not outputs:
        return False
    # Sizes that the trace knows may be equal by chance; one that it has lost is a number.
    if _axes(size) and _axes(outputs[0]):
        return size == outputs[0]
    widths = graph.baseline().widths
    return bool(size.evaluate(widths)[0] == outputs[0].evaluate(widths)[0])


def channels_last(graph: ModelGraph, tensor: int) -> bool:
    """Whether the last dimension of what a block returns is its width.

    So it is of ``[examples, tokens, width]``, and of images whose channels layers have moved there; not of ``[examples, channels, time]`` and
    ``[examples, channels, height, width]``, as convolutions make them, nor of ``[examples, width]``, which has no other.
    """
    dims = graph.tensors[tensor].dims
    if len(dims) < 3:
        return False
    outputs = [(operator.target, graph.tensors[operator.outputs[0]].dims) for operator in (graph.operators[i] for i in _needed(graph, tensor))]
    # A norm, an activation, pooling and a sum keep the axis; a transposition moves it.
    convolved = {axis for target, made in outputs if "conv" in target and len(made) == len(dims) for axis in _axes(made[1])}
    first, last = _axes(dims[1]), _axes(dims[-1])
    if len(dims) == 3:
        return not convolved & first or bool(convolved & last)
    mapped = {axis for target, made in outputs if "linear" in target for axis in _axes(made[-1])}
    return not convolved & first and bool((convolved | mapped) & last)


def _axes(size: Polynomial) -> set[int]:
    return {axis for axes, _ in size.terms for axis in axes}


def blocks_of(graph: ModelGraph) -> dict[str, float]:
    """Modules that stand for depth (the outermost numbered ones, as a list or sequence of modules has), and the share of all arithmetic that is behind each."""
    points = exit_points(graph)
    outermost: dict[str, None] = {}
    for operator in graph.operators:
        parts = operator.module.split(".")
        numbered = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        if numbered is not None and (name := ".".join(parts[: numbered + 1])) in points:
            outermost[name] = None
    shapes = graph.baseline()
    total = max(int(graph.count_macs(shapes)[0]), 1)
    behind = {name: float(_macs(graph, _needed(graph, points[name]), shapes)) / total for name in outermost}
    return {name: share for name, share in behind.items() if 0 < share < 1}


def staged(graph: ModelGraph, exits: Exits) -> tuple[ModelGraph, ...]:
    """For each exit, and then for the whole model, what is executed up to there, earlier heads included.

    All of them hold the parameters of all heads, since a model in memory does.
    """
    key = (id(graph), exits)
    found = _cache.get(key)
    if found is None:
        # The graph is held so that its id cannot be reused while the entry lives.
        found = _cache[key] = (graph, exits, tuple(_staged(graph, exits)))
        while len(_cache) > _KEPT:
            _cache.popitem(last=False)
    return found[2]


def _staged(graph: ModelGraph, exits: Exits) -> list[ModelGraph]:
    points, classes = exit_points(graph), classes_of(graph)
    assert classes is not None, "only classifiers have exits"
    # The first stage is handed nothing.
    tensors, heads, starts = list(graph.tensors), [], [[Operator(f"{EXITS}_{STAGE}", f"compareto.{STAGE}", EXITS, STAGE, Polynomial.constant(0), (), ())]]
    for i, name in enumerate(exits.after):
        starts.append([_start(tensors, points[name], f"{EXITS}.{i}")])
        heads.append(_head(tensors, points[name], f"{EXITS}.{i}", exits, classes, last=channels_last(graph, points[name])))
    graphs, done = [], set[int]()
    executed: list[Operator] = []
    everything = set(range(len(graph.operators)))
    for needed, start, head in zip((*(_needed(graph, points[name]) for name in exits.after), everything), starts, (*heads, []), strict=True):
        executed += [*start, *(graph.operators[i] for i in sorted(needed - done)), *head]
        done |= needed
        graphs.append(dataclasses.replace(graph, operators=tuple(executed), tensors=tuple(tensors), programs=(), _index={}))
    return graphs


def _needed(graph: ModelGraph, tensor: int) -> set[int]:
    """Positions of the operators that make a tensor."""
    maker = {t: i for i, operator in enumerate(graph.operators) for t in operator.outputs}
    found: set[int] = set()
    waiting = [tensor]
    while waiting:
        i = maker.get(waiting.pop())
        if i is not None and i not in found:
            found.add(i)
            waiting += graph.operators[i].inputs
    return found


def _macs(graph: ModelGraph, needed: set[int], shapes: Shapes) -> int:
    return sum(int(graph.operators[i].macs.evaluate(shapes.widths)[0]) for i in needed)


def _start(tensors: list[TensorInfo], source: int, name: str) -> Operator:
    """What a stage costs beside its operators; the tensor that it adds is the copy that was handed on."""
    tensors.append(dataclasses.replace(tensors[source], name=f"{name}.passed"))
    return Operator(f"{name.replace('.', '_')}_{STAGE}", f"compareto.{STAGE}", name, STAGE, Polynomial.constant(0), (source,), (len(tensors) - 1,))


def _head(tensors: list[TensorInfo], source: int, name: str, exits: Exits, classes: int, *, last: bool) -> list[Operator]:
    """The operators of a head, whose tensors are added: pooling, a normalisation where the width is ``last``, one or two linear layers."""
    dims = tensors[source].dims
    width = dims[-1] if last else dims[1]
    operators: list[Operator] = []

    def add(title: str, role: str, *shape: Polynomial) -> int:
        elements = Polynomial.constant(1)
        for dim in shape:
            elements = elements * dim
        tensors.append(TensorInfo(title, role, shape, elements, floating=True))
        return len(tensors) - 1

    def then(what: str, op_class: str, read: Sequence[int], made: int, macs: Polynomial) -> int:
        operators.append(Operator(f"{name.replace('.', '_')}_{what}", f"compareto.{what}", name, op_class, macs, tuple(read), (made,)))
        return made

    nothing, current = Polynomial.constant(0), source
    if len(dims) > 2:
        pooled = add(f"{name}.pooled", "activation", dims[0], width)
        current = then("pool", "movement" if last and len(dims) == 3 and exits.pool == "first" else "reduction", [source], pooled, nothing)
    if last:
        parameters = [add(f"{name}.norm.{kind}", "parameter", width) for kind in ("weight", "bias")]
        current = then("norm", "normalization", [current, *parameters], add(f"{name}.normed", "activation", dims[0], width), nothing)
    layers = [("hidden", exits.hidden)] if exits.hidden is not None else []
    for title, size in (*layers, ("output", classes)):
        outputs = Polynomial.constant(size)
        parameters = [add(f"{name}.{title}.weight", "parameter", outputs, width), add(f"{name}.{title}.bias", "parameter", outputs)]
        made = add(f"{name}.{title}.made", "activation", dims[0], outputs)
        current = then(title, "gemm", [current, *parameters], made, dims[0] * width * outputs)
        if title == "hidden":
            current = then("tanh", "activation", [current], add(f"{name}.tanh", "activation", dims[0], outputs), nothing)
        width = outputs
    return operators
