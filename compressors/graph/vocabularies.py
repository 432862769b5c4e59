"""Vocabularies: embeddings that an input of the model indexes, with the output layers that have a column for each of the same tokens."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from compressors.graph.axes import AxisTable
from compressors.graph.dims import Leaf, resolve
from compressors.graph.model_graph import Vocabulary
from compressors.graph.propagation import Propagation, Step, Value

__all__ = ["find_vocabularies"]


def find_vocabularies(model: nn.Module, found: Propagation, table: AxisTable) -> tuple[Vocabulary, ...]:
    """The vocabularies of the model, none where anything else is laid out over the tokens."""
    modules = dict(model.named_modules(remove_duplicate=False))
    lookups: dict[int, list[Step]] = {}
    for step in found.steps:
        if step.call.name == "embedding" and (axis := _axis(step.arguments["weight"], table)) is not None:
            lookups.setdefault(axis, []).append(step)
    vocabularies = []
    for axis, steps in lookups.items():
        indexed = [step for step in steps if _root(step.arguments["indices"]).role == "input"]
        heads = list(_heads(found, table, axis, indexed[0], modules)) if indexed else []
        covered = [*(step.call.module for step in steps), *(step.call.module for step in heads)]
        owned = {id(tensor) for path in covered for tensor in (*modules[path].parameters(recurse=False), *modules[path].buffers(recurse=False))}
        axes = {axis, *(_axis(step.arguments["weight"], table) for step in heads)}
        if not indexed or not all(_looks_up(modules[step.call.module], step) for step in steps) or _others(found, table, axes, owned):
            continue
        vocabularies.append(
            Vocabulary(
                table.axes[axis].name,
                tuple(dict.fromkeys(_root(step.arguments["indices"]).name for step in indexed)),
                tuple(dict.fromkeys(step.call.module for step in steps)),
                tuple(dict.fromkeys((step.call.module, table.axes[_axis(step.arguments["weight"], table) or 0].name) for step in heads)),
            )
        )
    return tuple(vocabularies)


def _root(value: Value) -> Value:
    while value.alias_of is not None:
        value = value.alias_of
    return value


def _axis(weight: Value, table: AxisTable) -> int | None:
    rows = resolve(weight.dims[0]) if weight.role == "parameter" else None
    return table.index.get(rows) if isinstance(rows, Leaf) else None


def _looks_up(module: nn.Module, step: Step) -> bool:
    return isinstance(module, nn.Embedding) and module.weight is step.arguments["weight"].fake


def _heads(found: Propagation, table: AxisTable, axis: int, lookup: Step, modules: dict[str, nn.Module]) -> Iterator[Step]:
    """Linear layers that return a value for each token at each place of the input: with the embedding's weight, or with one of their own."""
    places = lookup.arguments["indices"].dims
    for step in found.steps:
        weight, module = step.arguments.get("weight"), modules.get(step.call.module)
        if step.call.name != "linear" or weight is None or not isinstance(module, nn.Linear) or module.weight is not weight.fake:
            continue
        own = _axis(weight, table)
        returned = step.outputs[0].dims
        tied = own == axis
        like = own is not None and "the model returns it" in (table.axes[own].fixed or "") and table.axes[own].size == table.axes[axis].size
        if tied or (like and len(returned) == len(places) + 1 and all(resolve(a) is resolve(b) for a, b in zip(returned, places, strict=False))):
            yield step


def _others(found: Propagation, table: AxisTable, axes: set[int | None], owned: set[int]) -> bool:
    """Whether a parameter or buffer of another module lies on one of the axes."""
    names = {entry.parameter for entry in table.parameter_dims for segment in entry.segments if axes & set(segment)}
    return any(id(found.parameters[name].fake) not in owned for name in names)
