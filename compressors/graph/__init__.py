"""The traced model: axes, sites, operators and shapes, read by everything else."""

from compressors.graph.model_graph import INDICATORS, Axis, ModelGraph, Operator, ParameterDim, Site, TensorInfo
from compressors.graph.polynomial import Polynomial
from compressors.graph.shapes import Shapes
from compressors.graph.tracing import trace

__all__ = ["INDICATORS", "Axis", "ModelGraph", "Operator", "ParameterDim", "Polynomial", "Shapes", "Site", "TensorInfo", "trace"]
