"""What a live model really has, counted without the graph that priced it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """Elements of all parameters; ``Module.parameters`` lists a tied one once."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """Half of the FLOPs that torch counts while the model runs.

    FlopCounterMode intercepts every ATen call of a real forward pass and adds 2 * m * k * n for each matrix product (mm, addmm, bmm, baddbmm) and
    2 * batch * output pixels * output channels * (input channels / groups) * kernel area for each convolution, from the shapes of the tensors it
    sees; biases, norms, activations and additions count nothing. It has no formula for the fused attention kernel of the CPU, so attention runs as
    the two batched matrix products that it is.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(**inputs)
    flops = counter.get_total_flops()
    if flops % 2:
        raise ValueError(f"{flops} FLOPs are not twice a number of multiply-accumulates")
    return flops // 2


def count_bytes(model: nn.Module, inputs: Mapping[str, Tensor], weight_bits: Mapping[str, int]) -> int:
    """Bytes of the live model's tensors in the format that the onnxruntime target documents.

    Weights take ``weight_bits[name]`` bits, each tensor filled up to whole bytes, with a float32 scale an output channel (a row of an embedding)
    where these are at most 8. A batch norm that reads a convolution's output becomes its bias. Everything else is float32.
    """
    norms = _norms_behind_convolutions(model, inputs)
    folded = {parameter for norm in norms.values() for parameter in norm.parameters()}
    names: dict[Tensor, str] = {}
    for name, parameter in model.named_parameters():
        names.setdefault(parameter, name)
    total = 0
    for parameter, name in names.items():
        bits = weight_bits.get(name, 32)
        if parameter not in folded:
            total += -(-parameter.numel() * bits // 8) + (4 * len(parameter) if bits <= 8 else 0)
    return total + sum(4 * convolution.out_channels for convolution in norms if convolution.bias is None)


def _norms_behind_convolutions(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[nn.Conv2d, nn.BatchNorm2d]:
    """Found by running the model: the norm's input is the very tensor that the convolution returned."""
    found: dict[nn.Conv2d, nn.BatchNorm2d] = {}
    produced: list[tuple[Tensor, nn.Conv2d]] = []

    def after(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        produced.append((output, module))

    def before(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        found.update({convolution: module for output, convolution in produced if output is args[0]})

    hooks = [m.register_forward_hook(after) for m in model.modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(before) for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    try:
        with torch.no_grad():
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found
