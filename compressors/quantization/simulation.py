"""A prepared model that computes what its converted one will, with gradients for its weights and for the scales of its quantizers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torchao.quantization.pt2e import PlaceholderObserver

from compressors.quantization.flow import Prepared
from compressors.quantization.quantizer import SiteQuantizer, WeightQuantizer, effective_granularity
from compressors.quantization.straight_through import pass_through
from compressors.targets.exported import run_captured
from compressors.targets.target import Target

__all__ = ["Simulation"]


class Simulation(nn.Module):
    """Called like a model; always in eval mode, as exported graphs are.

    Each scale is learned as the logarithm of its ratio to the one that calibration has given: a step of an optimizer then changes it by a share of itself,
    whatever its size, and it stays positive. Zero points stay as they are.

    Args:
        prepared: its quantizers are frozen. Cannot be converted any more: what was trained is in ``state``.
        target: whose numerics count.
        halves: names in the graph of the weights that have 16 bits.
    """

    def __init__(self, prepared: Prepared, target: Target, halves: Iterable[str] = ()) -> None:
        super().__init__()
        self.training = False
        self.graph_module = prepared.module
        self.growth = nn.ParameterList()
        self._prepared, self._target, self._halves = prepared, target, frozenset(halves)
        self._scales: list[tuple[list[SiteQuantizer], Tensor]] = []
        for quantizer in prepared.quantizers.values():
            quantizer.simulate = True
            self._learn(quantizer)
        self._round_what_has_no_quantizer()

    def forward(self, **inputs: Tensor) -> Tensor:
        """The logits."""
        self._set_scales()
        return run_captured(self.graph_module, self._prepared.inputs, inputs)

    def train(self, mode: bool = True) -> Simulation:  # noqa: ARG002 - the signature of nn.Module
        """Nothing: see the class."""
        return self

    def growth_of(self, key: str) -> list[nn.Parameter]:
        """The learned logarithms of the quantizers whose key this is."""
        return [growth for (quantizers, _), growth in zip(self._scales, self.growth, strict=True) if quantizers[0].key == key]

    def state(self) -> dict[str, Tensor]:
        """What was trained, as ``Prepared.state``."""
        with torch.no_grad():
            self._set_scales()
        state = self._prepared.state()
        return {name: value.half().float() if name in self._halves else value for name, value in state.items()}

    def _learn(self, quantizer: SiteQuantizer) -> None:
        """Readers of one tensor keep one scale: their integers are stored once."""
        for quantizers, initial in self._scales:
            if quantizers[0].key == quantizer.key and torch.equal(initial, quantizer.scale):
                quantizers.append(quantizer)
                return
        self._scales.append(([quantizer], quantizer.scale))
        self.growth.append(nn.Parameter(torch.zeros_like(quantizer.scale)))

    def _set_scales(self) -> None:
        for (quantizers, initial), growth in zip(self._scales, self.growth, strict=True):
            scale = initial.to(growth.device) * growth.exp()
            if scale.ndim == 2:
                scale = pass_through(scale, self._target.stored_group_scale(scale.detach()))
            for quantizer in quantizers:
                quantizer.scale = scale

    def _round_what_has_no_quantizer(self) -> None:
        """Ranges at run time, and weights of 16 bits."""
        graph = self.graph_module.graph
        for node in list(graph.nodes):
            if node.target is torch.ops.aten.linear.default and _at_run_time(self._module(node.args[0])):
                weight = self._module(node.args[1])
                assert isinstance(weight, WeightQuantizer), "whose activation is an integer has an integer weight"
                granularity = effective_granularity(weight.granularity, node.args[1].args[0].meta["val"].shape)
                node.replace_all_uses_with(self._inserted(node, _LinearAtRunTime(self._target, weight, granularity), node.args))
                graph.erase_node(node)
            elif node.op == "get_attr" and str(node.target) in self._halves:
                users = list(node.users)
                rounded = self._inserted(node, _RoundToHalf(), (node,))
                for user in users:
                    user.replace_input_with(node, rounded)
        self.graph_module.recompile()

    def _module(self, node: object) -> nn.Module | None:
        return self.graph_module.get_submodule(str(node.target)) if isinstance(node, fx.Node) and node.op == "call_module" else None

    def _inserted(self, behind: fx.Node, module: nn.Module, arguments: tuple[Any, ...]) -> fx.Node:
        name = f"compareto_rounding_{len(list(self.graph_module.children()))}"
        self.graph_module.add_submodule(name, module)
        with self.graph_module.graph.inserting_after(behind):
            return self.graph_module.graph.call_module(name, arguments)


def _at_run_time(module: nn.Module | None) -> bool:
    return isinstance(module, PlaceholderObserver) and bool(module.is_dynamic)


class _LinearAtRunTime(nn.Module):
    def __init__(self, target: Target, quantizer: WeightQuantizer, granularity: int) -> None:
        super().__init__()
        self._target, self._granularity = target, granularity
        # Not as a submodule: it is one of the graph's.
        self._quantizers = (quantizer,)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """What the converted layer computes, with the gradient of a linear layer at the rounded activation."""
        scale = self._quantizers[0].scale.detach()
        output: Tensor = _Linear.apply(x, weight, bias, scale, self._target, self._granularity)  # type: ignore[no-untyped-call]
        return output


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor, target: Target, granularity: int) -> Tensor:
        output, rounded = target.linear_at_run_time(x, weight, bias, scale, granularity)
        ctx.save_for_backward(rounded, weight)
        ctx.biased = bias is not None
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rounded, weight = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])
        return gradient @ weight, rows.t() @ rounded.reshape(-1, rounded.shape[-1]), rows.sum(0) if ctx.biased else None, None, None, None


class _RoundToHalf(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """The values that are stored."""
        return pass_through(x, x.detach().half().float())
