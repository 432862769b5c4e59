"""ONNX Runtime: what it fuses, how our files store weights, and how to export, load and time a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from compressors.graph.model_graph import ModelGraph, Operator
from compressors.graph.shapes import Shapes
from compressors.targets.fusion import fused_kernels
from compressors.targets.site_spec import SiteSpec
from compressors.targets.storage import Integers, effective_granularity, stored_bytes
from compressors.targets.target import Kernel, Session, Target

if TYPE_CHECKING:
    from torch import Tensor, fx, nn
    from torchao.quantization.pt2e.quantizer import Quantizer

    from compressors.compressor import GraphEdit

__all__ = ["OnnxRuntime"]


_SIMPLE_ACTIVATIONS = ("relu", "relu_", "relu6", "relu6_", "hardtanh", "hardtanh_", "clamp", "leaky_relu", "leaky_relu_", "sigmoid", "tanh", "hardsigmoid")


def _fuses(lead: str, operator: Operator) -> bool:
    if operator.op_class == "activation":
        return operator.target.split(".")[1] in _SIMPLE_ACTIVATIONS
    return operator.op_class in ("normalization", "view") or (operator.op_class == "elementwise" and lead != "gemm")


class OnnxRuntime(Target):
    """The CPU execution provider of ONNX Runtime.

    Linear layers whose weights have groups and whose activations are quantized at run time become ``MatMulNBits`` with 8-bit activations; embeddings with
    groups ``GatherBlockQuantized``. Everything else that keeps float activations is widened when the file is loaded: smaller, not faster.
    """

    name: ClassVar[str] = "onnxruntime"

    def kernels(self, graph: ModelGraph) -> tuple[Kernel, ...]:
        """Batch norm and simple activations go into the convolution or matrix product that they follow, residual additions into convolutions only."""
        return fused_kernels(graph, _fuses)

    def compute_precision(self, weight_bits: Integers, activation_bits: Integers, granularity: Integers, dynamic: NDArray[np.bool_]) -> NDArray[np.str_]:
        """Integer arithmetic where both sides are at most 8 bits wide; packed weights where they have groups and ranges are taken at run time; else fp32."""
        integers = (np.asarray(weight_bits) <= 8) & (np.asarray(activation_bits) <= 8)
        groups = np.asarray(granularity) > 0
        return np.where(integers & ~groups, "int8", np.where(integers & groups & np.asarray(dynamic), "int4", "fp32"))

    def container_bits(self, weight_bits: int, *, operator: str = "linear", granularity: int = 0) -> int:
        """ONNX has integers of 4 and 8 bits; 2 bits are stored as such in groups only, which the operators of ONNX Runtime unpack themselves."""
        if weight_bits == 2 and granularity > 0 and operator != "conv":
            return 2
        return max(4, weight_bits)

    def stored_bytes(self, graph: ModelGraph, shapes: Shapes) -> Integers:
        """Weights in their container, a float scale (and a zero point in the container, a byte where there is one a channel) for each channel or group."""

        def site_bytes(site: int, elements: Integers, rows: Integers, granularity: Integers) -> Integers:
            asked = shapes.weight_bits[:, site]
            groups = granularity > 0
            bits = np.where(asked >= 8, asked, np.where((asked == 2) & groups, 2, 4))
            per_row = np.where(groups, elements // np.maximum(rows * np.maximum(granularity, 1), 1), np.where(granularity < 0, 0, 1))
            zero_points = np.where(groups, -(-per_row * bits // 8), per_row) * rows
            zero_points = np.where(self._symmetric(graph, shapes, site, granularity) | (elements == 0), 0, zero_points)
            return -(-elements * bits // 8) + np.where(asked <= 8, 4 * per_row * rows + zero_points, 0)

        return stored_bytes(graph, shapes, site_bytes)

    def _symmetric(self, graph: ModelGraph, shapes: Shapes, site: int, granularity: Integers) -> NDArray[np.bool_]:
        """Whether no zero point is stored: integer kernels of channels and tensors have none."""
        integer = (shapes.activation_bits[:, site] <= 8) & (granularity <= 0) & (graph.sites[site].operator != "embedding")
        return shapes.symmetric[:, site] | integer | (granularity < 0)

    def supported(self, graph: ModelGraph, edit: GraphEdit) -> dict[str, str]:
        """Sites that do not become what was asked for."""
        reasons: dict[str, str] = {}
        granularity = effective_granularity(graph, edit.shapes(graph))[0]
        for i, site in enumerate(graph.sites):
            weights, activations = int(edit.weight_bits[i]), int(edit.activation_bits[i])
            said = []
            if weights > 8:
                continue
            if activations == 16:
                said.append("activations stay float: ONNX Runtime has no kernels for 16-bit integers")
            if edit.granularity[i] > 0 and granularity[i] == 0:
                why = "convolutions have no groups" if site.operator == "conv" else f"groups of {edit.granularity[i]} do not divide its inputs"
                said.append(f"one scale a channel: {why}")
            if activations == 8 and granularity[i] > 0 and not edit.dynamic:
                said.append("activations stay float: kernels of weights in groups take the ranges of activations at run time (mode: dynamic)")
            if edit.dynamic and site.operator == "conv":
                said.append("activations stay float: convolutions have no ranges at run time")
            if not edit.symmetric[i] and activations == 8 and granularity[i] <= 0:
                said.append("symmetric: integer kernels have no zero point for weights")
            stored = self.container_bits(weights, operator=site.operator, granularity=int(granularity[i]))
            if stored != weights:
                said.append(f"simulated: {weights} bits are stored as {stored}")
            if said:
                reasons[site.name] = "; ".join(said)
        return reasons

    def annotator(self, sites: Mapping[str, SiteSpec], *, dynamic: bool) -> Quantizer:
        """Where ONNX Runtime fuses."""
        from compressors.targets.onnx_annotator import OnnxRuntimeAnnotator

        return OnnxRuntimeAnnotator(sites, dynamic=dynamic)

    def lower(self, module: fx.GraphModule) -> fx.GraphModule:
        """Ranges at run time and weights in groups with the arithmetic of ONNX Runtime's operators."""
        from compressors.targets.onnx_dynamic import lower_dynamic
        from compressors.targets.onnx_groups import lower_groups

        return lower_dynamic(lower_groups(module))

    def rounded_at_run_time(self, x: Tensor, granularity: int) -> Tensor:
        """As ``MatMulNBits`` rounds each group of a row, and ``DynamicQuantizeLinear`` the whole tensor."""
        from compressors.targets.onnx_dynamic import dynamic_quantize
        from compressors.targets.onnx_groups import rounded_groups

        if granularity > 0:
            return rounded_groups(x, granularity)
        integers, scale, zero_point = dynamic_quantize(x)
        rounded: Tensor = (integers.float() - zero_point.float()) * scale
        return rounded

    def linear_at_run_time(self, x: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor, granularity: int) -> tuple[Tensor, Tensor]:
        """One range for the whole tensor multiplies integers, as ``MatMulInteger`` does: a last bit decides what the next layer rounds to."""
        from compressors.targets.onnx_dynamic import dynamic_quantize, integer_linear

        if granularity > 0:
            return super().linear_at_run_time(x, weight, bias, scale, granularity)
        integers, step, zero_point = dynamic_quantize(x)
        stored = (weight / (scale if scale.ndim == 0 else scale[:, None])).round().to(weight.dtype)
        output: Tensor = integer_linear(integers, step, zero_point, stored.t(), scale, bias)
        return output, (integers.float() - zero_point.float()) * step

    def export(self, model: nn.Module, example_inputs: Mapping[str, Tensor], folder: Path) -> Path:
        """See ``export_onnx``."""
        from compressors.targets.onnx_export import export_onnx

        return export_onnx(model, example_inputs, folder)

    def load(self, path: Path, threads: int = 0) -> Session:
        """An ONNX Runtime session on the CPU."""
        from compressors.targets.onnx_session import OnnxSession

        return OnnxSession(path, threads)

    def file_bytes(self, path: Path) -> int:
        """Bytes of weights, scales and biases in the file, in the encoder's beside a decoder, and in all stages of a plan."""
        import onnx

        from compressors.targets.onnx_generation import encoder_beside
        from compressors.targets.onnx_packing import weight_bytes
        from compressors.targets.onnx_stages import STAGES, stage_files

        files = stage_files(path) if path.name == STAGES else (path, encoder_beside(path))
        return sum(weight_bytes(onnx.load(file, load_external_data=False)) for file in files if file is not None)
