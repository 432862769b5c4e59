"""LiteRT (TensorFlow Lite): what it fuses, how our ``.tflite`` files store weights, and how to export, load and time a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from compressors.errors import CompressionError, UserError
from compressors.graph.model_graph import ModelGraph
from compressors.graph.shapes import Shapes
from compressors.targets.fusion import fused_kernels
from compressors.targets.litert_forms import container_of, runs_integer
from compressors.targets.site_spec import SiteSpec
from compressors.targets.storage import Integers, effective_granularity, stored_bytes
from compressors.targets.target import Kernel, Session, Target

if TYPE_CHECKING:
    from torch import Tensor, fx, nn
    from torchao.quantization.pt2e.quantizer import Quantizer

    from compressors.compressor import GraphEdit

__all__ = ["LiteRT"]

_WIDTHS = (2, 3, 4, 8, 16, 32)


class LiteRT(Target):
    """LiteRT on the CPU, through XNNPACK where it has the kernels.

    A file is written for the batch of the example inputs, since static shapes are what XNNPACK and accelerators compile; sessions run other batches in turns
    of it. Integer kernels write integers, so that inputs and outputs of a file may be quantized; sessions take and give floats. Where only weights are
    quantized, they are widened when the file is loaded, and TFLite's own kernels read them, since XNNPACK does not: smaller, and slower than floats.
    """

    name: ClassVar[str] = "litert"
    extra: ClassVar[str | None] = "litert"

    def kernels(self, graph: ModelGraph) -> tuple[Kernel, ...]:
        """Batch norm and activation go into the convolution or matrix product that they follow."""
        return fused_kernels(graph)

    def compute_precision(self, weight_bits: Integers, activation_bits: Integers, granularity: Integers, dynamic: NDArray[np.bool_]) -> NDArray[np.str_]:
        """Integer arithmetic where activations have 8 bits, on packed weights where ranges are taken at run time; kernels of 16 bits are not optimised.

        Narrow weights beside calibrated activations count as floats, which they are in convolutions.
        """
        integer = runs_integer("linear", weight_bits, activation_bits, granularity, dynamic) & (np.asarray(activation_bits) == 8)
        packed = np.asarray(dynamic) & (np.asarray(weight_bits) <= 4)
        return np.where(integer & (packed | (np.asarray(weight_bits) == 8) | np.asarray(dynamic)), np.where(packed, "int4", "int8"), "fp32")

    def container_bits(self, weight_bits: int, *, operator: str = "linear", granularity: int = 0) -> int:  # noqa: ARG002 - the same for all
        """TFLite has integers of 2, 4 and 8 bits; kernels of calibrated activations read 2 bits as 4.

        Raises:
            CompressionError: there are none of ``weight_bits``.
        """
        if weight_bits not in _WIDTHS:
            raise CompressionError(f"LiteRT stores no weights of {weight_bits} bits; accepted: {', '.join(map(str, _WIDTHS))}")
        return int(container_of(weight_bits))

    def stored_bytes(self, graph: ModelGraph, shapes: Shapes) -> Integers:
        """Weights in their container, a scale for each channel (float) or group (float16 where kernels read groups), 8 bytes a zero point, biases."""

        def site_bytes(site: int, elements: Integers, rows: Integers, granularity: Integers) -> Integers:
            asked, operator = shapes.weight_bits[:, site], graph.sites[site].operator
            groups = granularity > 0
            integer = runs_integer(operator, asked, shapes.activation_bits[:, site], granularity, shapes.dynamic)
            blocks = groups & (integer | ((operator == "embedding") & (asked < 8) & (not graph.sites[site].shared)))
            counts = np.where(groups, elements // np.maximum(granularity, 1), np.where(granularity < 0, 1, rows))
            each = np.where(blocks, 2, 4) + np.where(shapes.symmetric[:, site] | integer | blocks, 0, 8)
            return -(-elements * container_of(asked, integer & ~shapes.dynamic) // 8) + np.where((asked <= 8) & (elements > 0), each * counts, 0)

        return stored_bytes(graph, shapes, site_bytes) + self._bias_bytes(graph, shapes)

    def _bias_bytes(self, graph: ModelGraph, shapes: Shapes) -> Integers:
        """What biases of calibrated integer kernels take beyond 4 bytes a channel: scales of their own, 8 bytes beside 16-bit activations, no sharing."""
        total = np.zeros(len(shapes), dtype=np.int64)
        granularity = effective_granularity(graph, shapes)
        for i, site in enumerate(graph.sites):
            if site.bias:
                activations = shapes.activation_bits[:, i]
                integer = runs_integer(site.operator, shapes.weight_bits[:, i], activations, granularity[:, i], shapes.dynamic) & ~shapes.dynamic
                channels = site.channels.evaluate(shapes.widths)
                own = np.int64(1) if site.folded else site.own.evaluate(shapes.widths)
                scales = np.where(granularity[:, i] < 0, 4 * (channels > 0), 4 * channels)
                total += np.where(integer, scales + 4 * channels * ((activations == 16) + (1 - own)), 0)
        return total

    def supported(self, graph: ModelGraph, edit: GraphEdit) -> dict[str, str]:
        """Sites that do not become what was asked for."""
        reasons: dict[str, str] = {}
        granularity = effective_granularity(graph, edit.shapes(graph))[0]
        for i, site in enumerate(graph.sites):
            weights, activations, groups = int(edit.weight_bits[i]), int(edit.activation_bits[i]), granularity[i] > 0
            said = []
            if weights > 8:
                continue
            if edit.granularity[i] > 0 and not groups:
                why = "" if site.operator == "conv" else f": groups of {edit.granularity[i]} do not divide its inputs"
                said.append(f"one scale a channel{why}")
            integer = bool(runs_integer(site.operator, weights, activations, granularity[i], edit.dynamic))
            if activations <= 16 and not integer:
                said.append(f"activations stay float: {_why_float(site.operator, weights, activations, bool(groups), edit.dynamic)}")
            if not edit.symmetric[i] and (integer or (site.operator == "embedding" and groups and weights < 8)):
                said.append("symmetric: the kernel has no zero point for weights")
            if (stored := int(container_of(weights, integer and not edit.dynamic))) != weights:
                said.append(f"simulated: {weights} bits are stored as {stored}")
            if said:
                reasons[site.name] = "; ".join(said)
        return reasons

    def annotator(self, sites: Mapping[str, SiteSpec], *, dynamic: bool) -> Quantizer:
        """Where LiteRT's converter makes integer kernels."""
        from compressors.targets.litert_annotator import LiteRTAnnotator

        return LiteRTAnnotator(sites, dynamic=dynamic)

    def lower(self, module: fx.GraphModule) -> fx.GraphModule:
        """Ranges at run time as XNNPACK takes them: one for each row."""
        from compressors.targets.litert_lowering import lower

        return lower(module)

    def rounded_at_run_time(self, x: Tensor, granularity: int) -> Tensor:  # noqa: ARG002 - the same for all
        """Each row."""
        from compressors.targets.litert_lowering import round_rows

        rounded: Tensor = round_rows(x)
        return rounded

    def stored_group_scale(self, scale: Tensor) -> Tensor:
        """What bfloat16 and float16 both hold."""
        from compressors.targets.litert_lowering import stored_scale

        return stored_scale(scale)

    def export(self, model: nn.Module, example_inputs: Mapping[str, Tensor], folder: Path) -> Path:
        """See ``export_litert``."""
        _require("litert_torch")
        from compressors.targets.litert_export import export_litert

        return export_litert(model, example_inputs, folder)

    def load(self, path: Path, threads: int = 0) -> Session:
        """A session on the CPU."""
        _require("ai_edge_litert")
        from compressors.targets.litert_session import LiteRTSession

        return LiteRTSession(path, threads)

    def file_bytes(self, path: Path) -> int:
        """Bytes of weights, scales, zero points and biases in the file."""
        _require("ai_edge_litert")
        from compressors.targets.litert_file import weight_bytes

        return weight_bytes(path)


def _why_float(operator: str, weights: int, activations: int, groups: bool, dynamic: bool) -> str:
    if operator == "embedding":
        return "an embedding has none"
    if dynamic and operator == "conv":
        return "convolutions have no ranges at run time"
    if dynamic and groups:
        return f"kernels read groups of 4 bits, not of {weights}"
    if groups:
        return "kernels of weights in groups take the ranges of activations at run time (mode: dynamic)"
    if operator == "conv" and activations == 8:
        return f"integer kernels of convolutions take weights of 8 bits, not of {weights}"
    return f"kernels of {activations}-bit activations {'need calibrated ranges' if dynamic else 'take weights of 8 bits'}"


def _require(package: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise UserError(f'the target litert needs {package}, which is not installed: pip install "compareto[litert]"')
