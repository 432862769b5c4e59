"""The traced model: axes, sites, operators and shapes, read by everything else. What traces one is loaded where it is used: reading a graph needs no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from compressors.graph.model_graph import INDICATORS, Axis, ModelGraph, Operator, ParameterDim, Program, Site, TensorInfo
from compressors.graph.polynomial import Polynomial
from compressors.graph.shapes import Shapes

if TYPE_CHECKING:
    from compressors.graph.entries import Entry, generation_entries
    from compressors.graph.tracing import trace

__all__ = [
    "INDICATORS",
    "Axis",
    "Entry",
    "ModelGraph",
    "Operator",
    "ParameterDim",
    "Polynomial",
    "Program",
    "Shapes",
    "Site",
    "TensorInfo",
    "generation_entries",
    "trace",
]

_LAZY = {"Entry": "entries", "generation_entries": "entries", "trace": "tracing"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
