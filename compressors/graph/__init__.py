"""The traced model: axes, sites, operators and shapes, read by everything else."""

from compressors.graph.entries import Entry, generation_entries
from compressors.graph.model_graph import INDICATORS, Axis, ModelGraph, Operator, ParameterDim, Program, Site, TensorInfo
from compressors.graph.polynomial import Polynomial
from compressors.graph.shapes import Shapes
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
