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
from torchao.quantization.pt2e import PlaceholderObserver
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer, SharedQuantizationSpec

from compressors.quantization.quantizer import activation_spec, weight_spec
from compressors.targets.executorch_forms import forms
from compressors.targets.executorch_rewriting import keep_pooled_dimensions
from compressors.targets.site_spec import SiteMethod, SiteSpec

__all__ = ["FUSED", "WEIGHTED", "XnnpackAnnotator"]

_aten = torch.ops.aten
WEIGHTED = {
    _aten.conv2d.default: ("conv", 0, 1),
    _aten.conv1d.default: ("conv", 0, 1),
    _aten.linear.default: ("linear", 0, 1),
    _aten.embedding.default: ("embedding", 1, 0),
}
"""The kind of site, and the position of activation and weight among the arguments."""

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

_DYNAMIC = QuantizationSpec(
    dtype=torch.int8,
    quant_min=-128,
    quant_max=127,
    qscheme=torch.per_tensor_affine,
    is_dynamic=True,
    observer_or_fake_quant_ctr=PlaceholderObserver.with_args(eps=2**-100),
)


class XnnpackAnnotator(Quantizer):  # type: ignore[misc]  # torchao ships no types
    """Annotates convolutions, linear layers and embeddings by the name of their weight, and what lies between them.

    Args:
        sites: by the weight's name in the graph module; a tied weight under each of its names.
        dynamic: whether ranges of activations are taken at run time, by linear layers only.
    """

    def __init__(self, sites: Mapping[str, SiteSpec], *, dynamic: bool = False) -> None:
        super().__init__()
        self.sites = sites
        self.dynamic = dynamic
        self._weights: dict[str, QuantizationSpec] = {}
        self._activations: dict[fx.Node, QuantizationSpec] = {}

    def transform_for_annotation(self, model: fx.GraphModule) -> fx.GraphModule:
        """Give pooling the form that XNNPACK has a kernel for."""
        return keep_pooled_dimensions(model)

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        """Attach specifications to the nodes."""
        integers: dict[fx.Node, SiteMethod] = {}
        nodes: list[Any] = list(model.graph.nodes)
        for node in nodes:
            if node.target in WEIGHTED:
                self._annotate_site(node, integers)
            elif node.target in _ARITHMETIC:
                inputs = [n for n in node.all_input_nodes if _is_float(n)]
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
        operator, activation_at, weight_at = WEIGHTED[node.target]
        weight, activation = node.args[weight_at], node.args[activation_at]
        site = self.sites.get(str(weight.target)) if weight.op == "get_attr" else None
        if site is None:
            return
        shape = weight.meta["val"].shape
        form = forms(operator, shape[1:].numel(), site.weight_bits, site.activation_bits, site.granularity, site.symmetric, self.dynamic)
        if not form.integer:
            return
        if site.name not in self._weights:
            # Readers of one weight share its specification: PT2E compares them by identity.
            granularity = int(form.groups) if form.groups else min(site.granularity, 0)
            self._weights[site.name] = weight_spec(replace(site, granularity=granularity, symmetric=not form.zero_points))
        inputs = {weight: self._weights[site.name]}
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
        return any(user.target in (*WEIGHTED, *_ARITHMETIC) or (user.target in _SAME_SCALE and self._feeds_integers(user)) for user in node.users)

    def _activation(self, node: fx.Node, method: SiteMethod) -> QuantizationSpec:
        """One object for every reader of a tensor, and for the operator that makes it."""
        if node not in self._activations:
            self._activations[node] = activation_spec(f"{node.name}:output", method, torch.int8, -128, 127)
        return self._activations[node]

    def validate(self, model: fx.GraphModule) -> None:
        """Nothing to validate: placement is decided by weight names."""


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point() and node.op != "get_attr"


def _origin(node: fx.Node, integers: Mapping[fx.Node, SiteMethod]) -> fx.Node | None:
    """The operator with an integer output whose values these are, moved at most."""
    while node not in integers:
        if node.target not in _MOVES:
            return None
        node = node.all_input_nodes[0]
    return node
