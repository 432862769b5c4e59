"""``trace``: a live module and example inputs in, a ``ModelGraph`` out."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree as pytree

from compressors.evaluating import evaluating
from compressors.graph.axes import assign_axes
from compressors.graph.blocks import Stack, find_stacks
from compressors.graph.entries import Entry, register_caches
from compressors.graph.followable import unfollowed_axes
from compressors.graph.model_graph import ModelGraph, Operator, Program, Site, TensorInfo
from compressors.graph.operators import describe
from compressors.graph.propagation import Propagation, propagate
from compressors.graph.ranks import add_ranks, add_separable
from compressors.graph.sharing import add_owners
from compressors.graph.untraceable import check_inputs, check_sizes, not_exported, not_run
from compressors.graph.vocabularies import find_vocabularies
from compressors.graph.windows import add_windows

__all__ = ["trace"]

_LOGGERS = ("torch.export", "torch.fx.experimental.symbolic_shapes", "torch._subclasses.fake_tensor")
"""Print what is raised as well."""

_FOLLOWING = frozenset(("site_parts", "otherwise", "separable"))
"""Fields that follow from the others: a graph without alternatives is known by the same fingerprint with and without them."""


def trace(
    model: nn.Module, example_inputs: Sequence[Tensor] | Mapping[str, Tensor], *, check_cuts: bool = True, programs: Mapping[str, Entry] | None = None
) -> ModelGraph:
    """Trace ``model`` at the sizes of ``example_inputs``. The model is left as it was.

    A model on the meta device is traced without weights; cut models are then compared by the shapes of their outputs alone, so that code which cuts in the
    wrong place without a complaint goes unnoticed.

    Args:
        model: any module that ``torch.export`` accepts.
        example_inputs: its inputs, by position or by keyword.
        check_cuts: run the model with every prunable axis cut, and fix those that its Python code cannot follow.
        programs: further ways to call the model, by name; they share its axes, and what one of them fixes is fixed in all.

    Raises:
        TraceError: the model cannot be run or exported; says where, and what to change.
    """
    args, kwargs = check_inputs(example_inputs)
    register_caches(model)
    with evaluating(model), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call, args, kwargs = _caller(model, args, kwargs)
        try:
            stacks, outputs = find_stacks(model, call)
        except Exception as error:
            raise not_run(model, args, kwargs, error) from error
        program = _export(model, args, kwargs)
        check_sizes(model, program)
        others = {name: (entry, _export(model.get_submodule(entry.path), (), dict(entry.inputs))) for name, entry in (programs or {}).items()}
        graph = _build(model, program, _judged(outputs, program), stacks, others)
        if check_cuts:
            reasons = unfollowed_axes(_as_it_is(model), graph, _outputs(outputs), lambda m: _outputs(call(m)))
            if reasons:
                axes = tuple(dataclasses.replace(axis, fixed=axis.fixed or reasons.get(axis.name)) for axis in graph.axes)
                graph = dataclasses.replace(graph, axes=axes)
    return dataclasses.replace(graph, fingerprint=_fingerprint(graph))


def _as_it_is(model: nn.Module) -> nn.Module:
    """The same module without the memory of earlier cuts, whose indices are not those of this trace."""
    if getattr(model, "compareto_structure", None) is None:
        return model
    plain = copy.copy(model)
    del plain.compareto_structure
    return plain


def _caller(model: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> tuple[Callable[[nn.Module], Any], tuple[Tensor, ...], dict[str, Tensor]]:
    """What runs a model on the example inputs, and these, on the meta device where the model lies there."""
    if not any(tensor.is_meta for tensor in (*model.parameters(), *args, *kwargs.values())):
        return (lambda m: m(*args, **kwargs)), args, kwargs
    args, kwargs = tuple(value.to("meta") for value in args), {name: value.to("meta") for name, value in kwargs.items()}
    # Libraries ask plain meta tensors for values (is anything masked?), which they know better of a fake one.
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fakes, named = [mode.from_tensor(value) for value in args], {name: mode.from_tensor(value) for name, value in kwargs.items()}

    def call(m: nn.Module) -> Any:
        with mode:
            return m(*fakes, **named)

    return call, args, kwargs


def _export(model: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> ExportedProgram:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        # It prints the graph so far to stderr before it raises.
        with contextlib.redirect_stderr(io.StringIO()):
            return torch.export.export(model, args, kwargs, strict=False)
    except Exception as error:
        raise not_exported(model, args, kwargs, error) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _build(
    model: nn.Module, program: ExportedProgram, judged: frozenset[int] | None, stacks: list[Stack], programs: Mapping[str, tuple[Entry, ExportedProgram]]
) -> ModelGraph:
    found = propagate(model, program, judged)
    others = {name: propagate(model, other, frozenset(), found, entry.path) for name, (entry, other) in programs.items()}
    table = assign_axes(found, stacks, tuple(others.values()))
    blocks = tuple(block for stack in stacks for block in stack.blocks)
    factors, owners = add_ranks(model, found, table) | add_separable(model, found, table), add_owners(model, table)
    # A decoding step reads its whole cache, which a window of the forward pass would contradict.
    windows = add_windows(model, found, table) if not others else {}
    tensors, operators, sites = describe(found, table, factors, owners, windows)
    further = tuple(
        dataclasses.replace(_program(name, other, describe(other, table, factors, owners), sites), growth=programs[name][0].growth)
        for name, other in others.items()
    )
    vocabularies = find_vocabularies(model, found, table)
    trimmed = {name for vocabulary in vocabularies for name in vocabulary.axes}
    axes = (dataclasses.replace(axis, fixed=f"{axis.fixed}; only trim_vocabulary cuts it") if axis.name in trimmed else axis for axis in table.axes)
    return ModelGraph(tuple(axes), sites, tensors, operators, tuple(table.parameter_dims), tuple(found.inputs), blocks, "", vocabularies, further)


def _program(name: str, found: Propagation, described: tuple[tuple[TensorInfo, ...], tuple[Operator, ...], tuple[Site, ...]], sites: Sequence[Site]) -> Program:
    """With the sites of the whole graph; a weight that ``forward`` does not use is none."""
    tensors, operators, own = described
    position = {site.name: i for i, site in enumerate(sites)}
    operators = tuple(dataclasses.replace(o, site=None if o.site is None else position.get(own[o.site].name)) for o in operators)
    return Program(name, tuple(found.inputs), tensors, operators)


def _logits(outputs: Any) -> Any:
    """What a model is judged by: hidden states and caches that are returned beside logits may change their sizes."""
    return outputs["logits"] if isinstance(outputs, Mapping) and isinstance(outputs.get("logits"), Tensor) else outputs


def _judged(outputs: Any, program: ExportedProgram) -> frozenset[int] | None:
    """Positions of ``_logits`` among the program's outputs; None for all."""
    logits = _logits(outputs)
    if logits is outputs:
        return None
    kinds = [spec.kind for spec in program.graph_signature.output_specs]
    first = kinds.index(OutputKind.USER_OUTPUT)
    return frozenset(first + i for i, leaf in enumerate(pytree.tree_leaves(outputs)) if leaf is logits)


def _outputs(outputs: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(_logits(outputs)) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _fingerprint(graph: ModelGraph) -> str:
    """Sixteen hexadecimal digits over everything but weights."""
    items = [item for group in (graph.axes, graph.sites, graph.tensors, graph.operators, graph.parameter_dims, graph.blocks) for item in group]
    plain = json.dumps(items, sort_keys=True, default=lambda item: {name: getattr(item, name) for name in item.__slots__ if name not in _FOLLOWING})
    return hashlib.sha256(plain.encode()).hexdigest()[:16]
