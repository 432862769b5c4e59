"""Quantizers where torch simulates them: on weights, and on the activations that enter their operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx
from torchao.quantization.pt2e import PlaceholderObserver
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

from compressors.quantization.quantizer import activation_spec, weight_spec
from compressors.targets.site_spec import SiteSpec

__all__ = ["TorchAnnotator", "rounded_tensor"]

_aten = torch.ops.aten
_decomposed = torch.ops.quantized_decomposed
_WEIGHTED = {_aten.conv2d.default: (0, 1), _aten.conv1d.default: (0, 1), _aten.linear.default: (0, 1), _aten.embedding.default: (1, 0)}
_WIDTHS = {8: torch.int8, 16: torch.int16}
_BYTE = (-128, 127)
_EPSILON = 2**-100


class TorchAnnotator(Quantizer):  # type: ignore[misc]  # torchao ships no types
    """Annotates convolutions, linear layers and embeddings by the name of their weight.

    Args:
        sites: by the weight's name in the graph module; a tied weight under each of its names.
        dynamic: whether ranges of activations are taken at run time, by linear layers only: of the whole tensor, in 8 bits.
    """

    def __init__(self, sites: Mapping[str, SiteSpec], *, dynamic: bool = False) -> None:
        super().__init__()
        self.sites = sites
        self.dynamic = dynamic
        self._weights: dict[str, QuantizationSpec] = {}
        self._activations: dict[tuple[fx.Node, int], QuantizationSpec] = {}

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        """Attach specifications to the nodes."""
        nodes: list[Any] = list(model.graph.nodes)
        for node in nodes:
            if node.target not in _WEIGHTED:
                continue
            activation_at, weight_at = _WEIGHTED[node.target]
            weight, activation = node.args[weight_at], node.args[activation_at]
            site = self.sites.get(str(weight.target)) if weight.op == "get_attr" else None
            if site is None:
                continue
            # Readers of one tensor share its specification: PT2E compares them by identity.
            inputs = {weight: self._weights.setdefault(site.name, weight_spec(site))}
            if site.activation_bits in _WIDTHS and node.target is not _aten.embedding.default:
                if not self.dynamic:
                    inputs[activation] = self._activations.setdefault((activation, site.activation_bits), _static(activation, site))
                elif node.target is _aten.linear.default:
                    inputs[activation] = _DYNAMIC
            node.meta["quantization_annotation"] = QuantizationAnnotation(input_qspec_map=inputs, _annotated=True)
        return model

    def validate(self, model: fx.GraphModule) -> None:
        """Nothing to validate: placement is decided by weight names."""


def _static(activation: fx.Node, site: SiteSpec) -> QuantizationSpec:
    top = 2 ** (site.activation_bits - 1)
    return activation_spec(f"{activation.name}:output", site.method, _WIDTHS[site.activation_bits], -top, top - 1)


_DYNAMIC = QuantizationSpec(
    dtype=torch.int8,
    quant_min=_BYTE[0],
    quant_max=_BYTE[1],
    qscheme=torch.per_tensor_affine,
    is_dynamic=True,
    observer_or_fake_quant_ctr=PlaceholderObserver.with_args(eps=_EPSILON),
)


def rounded_tensor(x: torch.Tensor) -> torch.Tensor:
    """What a linear layer reads whose activation has a range of its own in each call."""
    scale, zero = _decomposed.choose_qparams.tensor(x, *_BYTE, _EPSILON, torch.int8)
    integers = _decomposed.quantize_per_tensor.tensor(x, scale, zero, *_BYTE, torch.int8)
    rounded: torch.Tensor = _decomposed.dequantize_per_tensor.tensor(integers, scale, zero, *_BYTE, torch.int8)
    return rounded
