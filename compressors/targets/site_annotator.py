"""What the PT2E annotators of all targets share: sites are found by the name of their weight, and every reader of a tensor has the same specification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import fx
from torchao.quantization.pt2e import PlaceholderObserver
from torchao.quantization.pt2e.quantizer import QuantizationSpec, Quantizer

from compressors.quantization.quantizer import activation_spec, weight_spec
from compressors.targets.site_spec import SiteMethod, SiteSpec

__all__ = ["EPSILON", "WEIGHTED", "Found", "SiteAnnotator", "is_float", "ranges_at_run_time"]

_aten = torch.ops.aten
WEIGHTED = {
    _aten.conv2d.default: ("conv", 0, 1),
    _aten.conv1d.default: ("conv", 0, 1),
    _aten.linear.default: ("linear", 0, 1),
    _aten.embedding.default: ("embedding", 1, 0),
}
"""The kind of site, and the position of activation and weight among the arguments."""

EPSILON = 2**-100
"""The least scale of a range at run time."""


class Found(NamedTuple):
    """A site that is to be quantized, where the graph uses it; ``operator`` as in ``Site``."""

    site: SiteSpec
    operator: str
    weight: fx.Node
    activation: fx.Node


class SiteAnnotator(Quantizer):  # type: ignore[misc]  # torchao ships no types
    """Annotates convolutions, linear layers and embeddings by the name of their weight.

    Args:
        sites: by the weight's name in the graph module; a tied weight under each of its names.
        dynamic: whether ranges of activations are taken at run time, by linear layers only.
    """

    weighted = frozenset(WEIGHTED)
    """Operators that have a site."""

    def __init__(self, sites: Mapping[str, SiteSpec], *, dynamic: bool = False) -> None:
        super().__init__()
        self.sites = sites
        self.dynamic = dynamic
        self._weights: dict[tuple[SiteSpec, int | None], QuantizationSpec] = {}
        self._activations: dict[tuple[fx.Node, torch.dtype], QuantizationSpec] = {}

    def found(self, node: fx.Node) -> Found | None:
        """The site that ``node`` uses; None where it has none or that stays float."""
        if node.target not in WEIGHTED:
            return None
        operator, activation_at, weight_at = WEIGHTED[node.target]
        arguments: Any = node.args
        weight = arguments[weight_at]
        site = self.sites.get(str(weight.target)) if weight.op == "get_attr" else None
        return None if site is None else Found(site, operator, weight, arguments[activation_at])

    def weight(self, site: SiteSpec, *, top: int | None = None) -> QuantizationSpec:
        """One object for every reader of the weight: PT2E compares them by identity."""
        return self._weights.setdefault((site, top), weight_spec(site, top=top))

    def activation(self, node: fx.Node, method: SiteMethod, dtype: torch.dtype, lowest: int, highest: int, *, symmetric: bool = False) -> QuantizationSpec:
        """One object for the operator that writes a tensor and for every one that reads it."""
        made = activation_spec(f"{node.name}:output", method, dtype, lowest, highest, symmetric=symmetric)
        return self._activations.setdefault((node, dtype), made)

    def validate(self, model: fx.GraphModule) -> None:
        """Nothing to validate: placement is decided by weight names."""


def ranges_at_run_time(dtype: torch.dtype, lowest: int, highest: int) -> QuantizationSpec:
    """Of an activation whose range is taken from each input."""
    observer = PlaceholderObserver.with_args(eps=EPSILON)
    ends = {"quant_min": lowest, "quant_max": highest}
    return QuantizationSpec(dtype=dtype, qscheme=torch.per_tensor_affine, is_dynamic=True, observer_or_fake_quant_ctr=observer, **ends)


def is_float(node: fx.Node) -> bool:
    """Whether it is an activation of floats, rather than a mask, an index or a parameter."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point() and node.op != "get_attr"
