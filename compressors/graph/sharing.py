"""Modules that may take their weights from another one: the axes that tell which have their own, and how the weights are tied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from torch import nn

from compressors.errors import CompressionError
from compressors.graph.axes import AxisTable
from compressors.graph.blocks import PassThrough
from compressors.graph.model_graph import Axis
from compressors.graph.polynomial import Polynomial
from compressors.sizing import in_scorer

__all__ = ["add_owners", "tie"]


def add_owners(model: nn.Module, table: AxisTable) -> dict[str, Polynomial]:
    """Add the axis ``MODULE:own`` for each module that has a twin (the same class with parameters of the same shapes, tied to nothing), by its name.

    A scorer of crops has none.
    """
    names = Counter(id(tensor) for _, tensor in model.named_parameters(remove_duplicate=False))
    keys: dict[str, tuple[object, ...]] = {}
    for path, module in model.named_modules():
        own = list(module.named_parameters(recurse=False))
        if path and own and not in_scorer(path) and all(names[id(tensor)] == 1 for _, tensor in own):
            keys[path] = (type(module), *((name, tuple(tensor.shape), tensor.dtype) for name, tensor in own))
    twins = Counter(keys.values())
    owners: dict[str, Polynomial] = {}
    for path, key in keys.items():
        if twins[key] > 1:
            owners[path] = Polynomial.axis(len(table.axes))
            table.axes.append(Axis(f"{path}:own", "own", 1, "the steps of a recipe decide it", (path,)))
    return owners


def tie(model: nn.Module, groups: Iterable[Sequence[str]]) -> None:
    """Let the modules of each group hold the parameters of its first one, in place; buffers stay each module's own.

    Args:
        model: has the modules, but for those of blocks that were dropped.
        groups: names of modules.

    Raises:
        CompressionError: the modules of a group are not alike.
    """
    modules = dict(model.named_modules())
    for group in groups:
        present = [path for path in group if path in modules and not isinstance(modules[path], PassThrough)]
        for path in present[1:]:
            first, other = modules[present[0]], modules[path]
            if _shapes(first) != _shapes(other):
                raise CompressionError(f"{present[0]} and {path} cannot share weights: they differ")
            for name, parameter in list(first.named_parameters()):
                owner, _, attribute = name.rpartition(".")
                other.get_submodule(owner).register_parameter(attribute, parameter)


def _shapes(module: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(parameter.shape)) for name, parameter in module.named_parameters()]
