"""Where LiteRT wants quantize/dequantize: the PT2E annotator whose placements its converter turns into integer kernels.

A kernel runs in integers only where its inputs, its weight and its output are quantized, so outputs are annotated too, behind the activation that is fused
into them. Activations are signed and asymmetric, one scale a tensor; weights of integer kernels symmetric; pooling and changes of shape keep the scale of their
input, as TFLite's int8 kernels require (TensorFlow Lite 8-bit quantization specification). Only float tensors are annotated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import fx
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, SharedQuantizationSpec

from compressors.quantization.quantizer import effective_granularity
from compressors.targets.litert_forms import runs_integer
from compressors.targets.site_annotator import SiteAnnotator, is_float, ranges_at_run_time
from compressors.targets.site_spec import SiteMethod, SiteSpec

__all__ = ["LiteRTAnnotator"]

_aten = torch.ops.aten
_RELU = (_aten.relu.default, _aten.relu_.default)
_CLAMP = (_aten.hardtanh.default, _aten.hardtanh_.default, _aten.relu6.default, _aten.clamp.default)
_ADD = (_aten.add.Tensor, _aten.add_.Tensor)
_KEEPS_SCALE = (
    _aten.max_pool2d.default,
    _aten.avg_pool2d.default,
    _aten.adaptive_avg_pool2d.default,
    _aten.mean.dim,
    _aten.view.default,
    _aten.reshape.default,
    _aten.flatten.using_ints,
    _aten.permute.default,
    _aten.transpose.int,
    _aten.squeeze.dims,
    _aten.squeeze.dim,
    _aten.unsqueeze.default,
    _aten.dropout.default,
    _aten.contiguous.default,
    _aten.clone.default,
)
_BITS = {8: (torch.int8, -128, 127, False), 16: (torch.int16, -32767, 32767, True)}

_DYNAMIC = ranges_at_run_time(torch.int8, -128, 127)


class LiteRTAnnotator(SiteAnnotator):
    """See ``SiteAnnotator``."""

    def __init__(self, sites: Mapping[str, SiteSpec], *, dynamic: bool = False) -> None:
        super().__init__(sites, dynamic=dynamic)
        self._made: dict[fx.Node, tuple[int, SiteMethod]] = {}
        """Integer tensors that convolutions have made, perhaps through others: their bits, and how their ranges are found."""

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        """Attach specifications to the nodes."""
        for node in model.graph.nodes:
            if node.target in self.weighted:
                self._weighted(node)
            elif node.target in _ADD:
                self._addition(node)
            elif node.target in _KEEPS_SCALE and node.args[0] in self._made:
                self._same_scale(node)
        return model

    def _weighted(self, node: fx.Node) -> None:
        found = self.found(node)
        if found is None:
            return
        site, operator, weight, activation = found
        granularity = effective_granularity(site.granularity, weight.meta["val"].shape)
        integer = bool(runs_integer(operator, site.weight_bits, site.activation_bits, granularity, self.dynamic))
        # What integer kernels and lookups read has no zero point.
        symmetric = integer or (operator == "embedding" and granularity > 0 and site.weight_bits < 8)
        inputs = {weight: self.weight(replace(site, symmetric=site.symmetric or symmetric))}
        if not integer:
            annotate(node, inputs)
        elif self.dynamic:
            annotate(node, {activation: _DYNAMIC, **inputs})
        else:
            annotate(node, {activation: self._activation(activation, site.activation_bits, site.method), **inputs})
            out = self._output(node, site.activation_bits, site.method)
            if operator == "conv":
                self._made[out] = (site.activation_bits, site.method)

    def _addition(self, node: fx.Node) -> None:
        """Residuals: both sides must be activations, and a convolution behind one of them."""
        sides = [a for a in node.args[:2] if isinstance(a, fx.Node) and is_float(a)]
        behind = next((self._made[a] for a in sides if a in self._made), None)
        if behind is None or len(sides) < 2 or node.kwargs.get("alpha", 1) != 1:
            return
        annotate(node, {a: self._activation(a, *behind) for a in sides})
        self._made[self._output(node, *behind)] = behind

    def _same_scale(self, node: fx.Node) -> None:
        source = node.args[0]
        assert isinstance(source, fx.Node), "what has been made is a node"
        bits, method = self._made[source]
        annotate(node, {source: self._activation(source, bits, method)}, SharedQuantizationSpec((source, node)))
        self._made[node] = (bits, method)

    def _output(self, node: fx.Node, bits: int, method: SiteMethod) -> fx.Node:
        """Annotate what the kernel writes: the activation behind it, where that is fused and nobody else reads the node."""
        users = list(node.users)
        out = users[0] if len(users) == 1 and _fuses(users[0]) else node
        annotate(out, {}, self._activation(out, bits, method))
        return out

    def _activation(self, node: fx.Node, bits: int, method: SiteMethod) -> QuantizationSpec:
        dtype, lowest, highest, symmetric = _BITS[bits]
        return self.activation(node, method, dtype, lowest, highest, symmetric=symmetric)


def annotate(node: fx.Node, inputs: Mapping[fx.Node, Any], output: Any = None) -> None:
    """Add to what is known of a node."""
    known = node.meta.get("quantization_annotation") or QuantizationAnnotation(_annotated=True)
    known.input_qspec_map = {**known.input_qspec_map, **inputs}
    known.output_qspec = output if output is not None else known.output_qspec
    node.meta["quantization_annotation"] = known


def _fuses(node: fx.Node) -> bool:
    """Whether this is an activation that TFLite's kernels compute with their result: from 0, or from 0 to 6."""
    if node.target in _RELU:
        return True
    bounds = (*node.args[1:3], *node.kwargs.values())
    return node.target is _aten.relu6.default or (node.target in _CLAMP and bounds in ((0, 6), (0.0, 6.0), (0.0,), (0,)))
