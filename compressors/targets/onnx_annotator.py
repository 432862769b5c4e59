"""Where ONNX Runtime wants quantize/dequantize: the PT2E annotator whose placements its fusions accept.

Activations are unsigned, one scale a tensor; weights of integer kernels signed and symmetric (ONNX Runtime's documentation, "Quantize ONNX models").
Both inputs of a residual addition and the inputs of pooling are quantized too, so that the tensors between integer kernels stay integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import fx
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec

from compressors.quantization.quantizer import effective_granularity
from compressors.targets.site_annotator import SiteAnnotator, is_float, ranges_at_run_time
from compressors.targets.site_spec import SiteMethod, SiteSpec

__all__ = ["OnnxRuntimeAnnotator"]

_aten = torch.ops.aten
_ADD = (_aten.add.Tensor, _aten.add_.Tensor)
_POOL = (_aten.adaptive_avg_pool2d.default, _aten.avg_pool2d.default, _aten.mean.dim)

_REDUCED = 63
"""Without VNNI, x86 adds pairs of products in 16 bits: 255 * 63 * 2 fits, 255 * 127 * 2 saturates ("reduce range" in ONNX Runtime's documentation)."""

_DYNAMIC = ranges_at_run_time(torch.uint8, 0, 255)


class OnnxRuntimeAnnotator(SiteAnnotator):
    """See ``SiteAnnotator``."""

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        """Attach specifications to the nodes."""
        integer: dict[fx.Node, SiteMethod] = {}
        for node in model.graph.nodes:
            found = self.found(node)
            if found is None:
                continue
            site, operator, weight, activation = found
            groups = effective_granularity(site.granularity, weight.meta["val"].shape) > 0
            runs_integer = site.activation_bits == 8 and (operator == "linear" if self.dynamic else operator != "embedding" and not groups)
            inputs = {weight: self._weight(site, integer_kernel=runs_integer and not groups)}
            if runs_integer:
                inputs[activation] = _DYNAMIC if self.dynamic else self._activation(activation, site.method)
                integer[node] = site.method
            node.meta["quantization_annotation"] = QuantizationAnnotation(input_qspec_map=inputs, _annotated=True)
        for node in model.graph.nodes:
            if node.target in (*_ADD, *_POOL):
                behind = next((integer[origin] for a in node.all_input_nodes if (origin := _origin(a, integer)) is not None), None)
                if behind is not None:
                    inputs = {a: self._activation(a, behind) for a in node.all_input_nodes if is_float(a)}
                    node.meta["quantization_annotation"] = QuantizationAnnotation(input_qspec_map=inputs, _annotated=True)
        return model

    def _weight(self, site: SiteSpec, *, integer_kernel: bool) -> QuantizationSpec:
        top = _REDUCED if integer_kernel and site.weight_bits == 8 else None
        return self.weight(replace(site, symmetric=site.symmetric or integer_kernel), top=top)

    def _activation(self, node: fx.Node, method: SiteMethod) -> QuantizationSpec:
        return self.activation(node, method, torch.uint8, 0, 255)


def _origin(node: fx.Node, integer: Mapping[fx.Node, SiteMethod]) -> fx.Node | None:
    """The convolution that runs in integers and makes this tensor, an activation or a batch norm in between."""
    for _ in range(8):
        if node in integer:
            return node if node.target is not _aten.linear.default else None
        if not node.all_input_nodes or node.op != "call_function":
            return None
        node = node.all_input_nodes[0]
    return None
