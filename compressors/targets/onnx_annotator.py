"""Where ONNX Runtime wants quantize/dequantize: the PT2E annotator whose placements its fusions accept.

Activations are unsigned, one scale a tensor; weights of integer kernels signed and symmetric (ONNX Runtime's documentation, "Quantize ONNX models").
Both inputs of a residual addition and the inputs of pooling are quantized too, so that the tensors between integer kernels stay integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import fx
from torchao.quantization.pt2e import PlaceholderObserver
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

from compressors.quantization.quantizer import activation_spec, effective_granularity, weight_spec
from compressors.targets.site_spec import SiteMethod, SiteSpec

__all__ = ["OnnxRuntimeAnnotator"]

_aten = torch.ops.aten
_WEIGHTED = {
    _aten.conv2d.default: (0, 1),
    _aten.conv1d.default: (0, 1),
    _aten.linear.default: (0, 1),
    _aten.embedding.default: (1, 0),
}
"""Position of activation and weight among the arguments."""
_ADD = (_aten.add.Tensor, _aten.add_.Tensor)
_POOL = (_aten.adaptive_avg_pool2d.default, _aten.avg_pool2d.default, _aten.mean.dim)

_REDUCED = 63
"""Without VNNI, x86 adds pairs of products in 16 bits: 255 * 63 * 2 fits, 255 * 127 * 2 saturates ("reduce range" in ONNX Runtime's documentation)."""

_DYNAMIC = QuantizationSpec(
    dtype=torch.uint8,
    quant_min=0,
    quant_max=255,
    qscheme=torch.per_tensor_affine,
    is_dynamic=True,
    observer_or_fake_quant_ctr=PlaceholderObserver.with_args(eps=2**-100),
)


class OnnxRuntimeAnnotator(Quantizer):  # type: ignore[misc]  # torchao ships no types
    """Annotates convolutions, linear layers and embeddings by the name of their weight.

    Args:
        sites: by the weight's name in the graph module; a tied weight under each of its names.
        dynamic: whether ranges of activations are taken at run time, by linear layers only.
    """

    def __init__(self, sites: Mapping[str, SiteSpec], *, dynamic: bool = False) -> None:
        super().__init__()
        self.sites = sites
        self.dynamic = dynamic
        self._weights: dict[tuple[str, bool], QuantizationSpec] = {}
        self._activations: dict[fx.Node, QuantizationSpec] = {}

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        """Attach specifications to the nodes."""
        integer: dict[fx.Node, SiteMethod] = {}
        for node in model.graph.nodes:
            if node.target not in _WEIGHTED:
                continue
            activation_at, weight_at = _WEIGHTED[node.target]
            weight, activation = node.args[weight_at], node.args[activation_at]
            site = self.sites.get(str(weight.target)) if weight.op == "get_attr" else None
            if site is None:
                continue
            groups = effective_granularity(site.granularity, weight.meta["val"].shape) > 0
            runs_integer = self._runs_integer(node, site, groups)
            inputs = {weight: self._weight(site, integer_kernel=runs_integer and not groups)}
            if runs_integer:
                inputs[activation] = _DYNAMIC if self.dynamic else self._activation(activation, site.method)
                integer[node] = site.method
            node.meta["quantization_annotation"] = QuantizationAnnotation(input_qspec_map=inputs, _annotated=True)
        for node in model.graph.nodes:
            if node.target in (*_ADD, *_POOL):
                behind = next((integer[origin] for a in node.all_input_nodes if (origin := _origin(a, integer)) is not None), None)
                if behind is not None:
                    inputs = {a: self._activation(a, behind) for a in node.all_input_nodes if _is_float(a) and a.op != "get_attr"}
                    node.meta["quantization_annotation"] = QuantizationAnnotation(input_qspec_map=inputs, _annotated=True)
        return model

    def _runs_integer(self, node: fx.Node, site: SiteSpec, groups: bool) -> bool:
        if site.activation_bits != 8 or node.target is _aten.embedding.default:
            return False
        return node.target is _aten.linear.default if self.dynamic else not groups

    def _weight(self, site: SiteSpec, *, integer_kernel: bool) -> QuantizationSpec:
        key = (site.name, integer_kernel)
        if key not in self._weights:
            top = _REDUCED if integer_kernel and site.weight_bits == 8 else None
            self._weights[key] = weight_spec(replace(site, symmetric=site.symmetric or integer_kernel), top=top)
        return self._weights[key]

    def _activation(self, node: fx.Node, method: SiteMethod) -> QuantizationSpec:
        """One object for every reader of a tensor: PT2E compares them by identity."""
        if node not in self._activations:
            self._activations[node] = activation_spec(f"{node.name}:output", method, torch.uint8, 0, 255)
        return self._activations[node]

    def validate(self, model: fx.GraphModule) -> None:
        """Nothing to validate: placement is decided by weight names."""


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _origin(node: fx.Node, integer: Mapping[fx.Node, SiteMethod]) -> fx.Node | None:
    """The convolution that runs in integers and makes this tensor, an activation or a batch norm in between."""
    for _ in range(8):
        if node in integer:
            return node if node.target is not _aten.linear.default else None
        if not node.all_input_nodes or node.op != "call_function":
            return None
        node = node.all_input_nodes[0]
    return None
