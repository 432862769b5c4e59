"""Where ExecuTorch's XNNPACK partitioner wants quantize/dequantize: around each operator, with an activation that is fused into it.

Follows the rules of ``XNNPACKQuantizer`` and of the partitioner's configurations in ``executorch.backends.xnnpack``, for float tensors and for the weights of
named sites only. Activations are int8 with a zero point, one scale a tensor; weights int8 and symmetric. A matrix product or convolution with static
ranges also needs its output quantized, else it runs in floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import fx
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, SharedQuantizationSpec

from compressors.targets.executorch_forms import forms
from compressors.targets.executorch_rewriting import keep_pooled_dimensions
from compressors.targets.site_annotator import SiteAnnotator, is_float, ranges_at_run_time
from compressors.targets.site_spec import SiteMethod

__all__ = ["FUSED", "XnnpackAnnotator"]

_aten = torch.ops.aten
FUSED = (_aten.relu.default, _aten.relu_.default, _aten.relu6.default, _aten.relu6_.default, _aten.hardtanh.default, _aten.hardtanh_.default)
"""XNNPACK computes them with the operator that they follow."""
_ARITHMETIC = (_aten.add.Tensor, _aten.add_.Tensor, _aten.mul.Tensor, _aten.mul_.Tensor)
_SAME_SCALE = (
    *(_aten.max_pool2d.default, _aten.adaptive_avg_pool2d.default, _aten.mean.dim),
    *(_aten.flatten.using_ints, _aten.view.default, _aten.reshape.default, _aten.permute.default, _aten.transpose.int),
)
"""Their output has the scale of their input."""
_MOVES = (_aten.slice.Tensor, _aten.pad.default, _aten.constant_pad_nd.default, _aten.select.int, _aten.clone.default, _aten.contiguous.default)
"""XNNPACK runs them in floats, if at all; they change no value, so that what was an integer can become one again."""

_DYNAMIC = ranges_at_run_time(torch.int8, -128, 127)


class XnnpackAnnotator(SiteAnnotator):
    """See ``SiteAnnotator``; what lies between sites is annotated, too."""

    def transform_for_annotation(self, model: fx.GraphModule) -> fx.GraphModule:
        """Give pooling the form that XNNPACK has a kernel for."""
        return keep_pooled_dimensions(model)

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        """Attach specifications to the nodes."""
        integers: dict[fx.Node, SiteMethod] = {}
        nodes: list[Any] = list(model.graph.nodes)
        for node in nodes:
            if node.target in self.weighted:
                self._annotate_site(node, integers)
            elif node.target in _ARITHMETIC:
                inputs = [n for n in node.all_input_nodes if is_float(n)]
                methods = [integers[origin] for origin in (_origin(n, integers) for n in inputs) if origin is not None]
                if len(inputs) == len(methods) == 2:
                    self._annotate(node, {n: self._activation(n, methods[0]) for n in inputs}, methods[0], integers)
            elif node.target in _SAME_SCALE and node.args[0] in integers and self._feeds_integers(node):
                source, method = node.args[0], integers[node.args[0]]
                shared = SharedQuantizationSpec((source, node))
                annotation = QuantizationAnnotation(input_qspec_map={source: self._activation(source, method)}, output_qspec=shared, _annotated=True)
                node.meta["quantization_annotation"] = annotation
                integers[node] = method
        return model

    def _annotate_site(self, node: Any, integers: dict[fx.Node, SiteMethod]) -> None:
        found = self.found(node)
        if found is None:
            return
        site, operator, weight, activation = found
        shape = weight.meta["val"].shape
        form = forms(operator, shape[1:].numel(), site.weight_bits, site.activation_bits, site.granularity, site.symmetric, self.dynamic)
        if not form.integer:
            return
        granularity = int(form.groups) if form.groups else min(site.granularity, 0)
        inputs = {weight: self.weight(replace(site, granularity=granularity, symmetric=not form.zero_points))}
        if not form.integer_activations:
            node.meta["quantization_annotation"] = QuantizationAnnotation(input_qspec_map=inputs, _annotated=True)
        elif self.dynamic:
            node.meta["quantization_annotation"] = QuantizationAnnotation(input_qspec_map={activation: _DYNAMIC, **inputs}, _annotated=True)
        else:
            self._annotate(node, {activation: self._activation(activation, site.method), **inputs}, site.method, integers)

    def _annotate(self, node: fx.Node, inputs: dict[fx.Node, QuantizationSpec], method: SiteMethod, integers: dict[fx.Node, SiteMethod]) -> None:
        """Inputs of an operator, and the output of the activation that is fused into it, or of itself."""
        following = next(iter(node.users)) if len(node.users) == 1 else node
        last = following if following.target in FUSED else node
        node.meta["quantization_annotation"] = QuantizationAnnotation(input_qspec_map=inputs, _annotated=True)
        if last is not node:
            last.meta["quantization_annotation"] = QuantizationAnnotation(_annotated=True)
        last.meta["quantization_annotation"].output_qspec = self._activation(last, method)
        integers[last] = method

    def _feeds_integers(self, node: fx.Node) -> bool:
        """Whether an operator behind it may read integers."""
        return any(user.target in (*self.weighted, *_ARITHMETIC) or (user.target in _SAME_SCALE and self._feeds_integers(user)) for user in node.users)

    def _activation(self, node: fx.Node, method: SiteMethod) -> QuantizationSpec:
        return self.activation(node, method, torch.int8, -128, 127)


def _origin(node: fx.Node, integers: Mapping[fx.Node, SiteMethod]) -> fx.Node | None:
    """The operator with an integer output whose values these are, moved at most."""
    while node not in integers:
        if node.target not in _MOVES:
            return None
        node = node.all_input_nodes[0]
    return node
