"""Quantizers where torch simulates them: on weights, and on the activations that enter their operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation

from compressors.targets.site_annotator import EPSILON, SiteAnnotator, ranges_at_run_time

__all__ = ["TorchAnnotator", "rounded_tensor"]

_aten = torch.ops.aten
_decomposed = torch.ops.quantized_decomposed
_WIDTHS = {8: torch.int8, 16: torch.int16}
_BYTE = (-128, 127)
_DYNAMIC = ranges_at_run_time(torch.int8, *_BYTE)


class TorchAnnotator(SiteAnnotator):
    """See ``SiteAnnotator``; ranges at run time are of the whole tensor, in 8 bits."""

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        """Attach specifications to the nodes."""
        nodes: list[Any] = list(model.graph.nodes)
        for node in nodes:
            found = self.found(node)
            if found is None:
                continue
            site, operator, weight, activation = found
            inputs = {weight: self.weight(site)}
            if site.activation_bits in _WIDTHS and operator != "embedding":
                if not self.dynamic:
                    top = 2 ** (site.activation_bits - 1)
                    inputs[activation] = self.activation(activation, site.method, _WIDTHS[site.activation_bits], -top, top - 1)
                elif operator == "linear":
                    inputs[activation] = _DYNAMIC
            node.meta["quantization_annotation"] = QuantizationAnnotation(input_qspec_map=inputs, _annotated=True)
        return model


def rounded_tensor(x: torch.Tensor) -> torch.Tensor:
    """What a linear layer reads whose activation has a range of its own in each call."""
    scale, zero = _decomposed.choose_qparams.tensor(x, *_BYTE, EPSILON, torch.int8)
    integers = _decomposed.quantize_per_tensor.tensor(x, scale, zero, *_BYTE, torch.int8)
    rounded: torch.Tensor = _decomposed.dequantize_per_tensor.tensor(integers, scale, zero, *_BYTE, torch.int8)
    return rounded
