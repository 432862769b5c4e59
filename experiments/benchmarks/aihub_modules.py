"""Networks of Qualcomm AI Hub that neither torchvision nor transformers has: written from their papers and public code, with random weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DecoderStep", "DeepLab", "EncoderWithCache", "MobileNetV1", "UNet", "decoder_inputs"]


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1, act: type[nn.Module] | None = nn.ReLU
) -> nn.Sequential:
    parts: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*parts, *([act()] if act else []))


class MobileNetV1(nn.Module):
    """YAMNet's classifier of spectrograms [Howard2017].

    [Howard2017] Howard et al.: MobileNets. arXiv:1704.04861.
    """

    def __init__(self, classes: int = 521) -> None:
        super().__init__()
        widths = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
        strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
        layers = [_conv(1, 32, 3, 2, 1)]
        for before, after, stride in zip(widths, widths[1:], strides, strict=False):
            layers += [_conv(before, before, 3, stride, 1, groups=before), _conv(before, after, 1)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(1024, classes)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.classifier(self.features(x).mean((2, 3))))


class UNet(nn.Module):
    """As milesial/Pytorch-UNet has it, with transposed convolutions [Ronneberger2015].

    [Ronneberger2015] Ronneberger, Fischer, Brox: U-Net. MICCAI.
    """

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        widths = (64, 128, 256, 512, 1024)
        self.down = nn.ModuleList(_twice(a, b) for a, b in zip((3, *widths), widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in reversed(widths[:-1]))
        self.after = nn.ModuleList(_twice(2 * w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(64, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for i, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if i else x)
            kept.append(x)
        for up, block, skipped in zip(self.up, self.after, reversed(kept[:-1]), strict=True):
            x = block(torch.cat([skipped, up(x)], dim=1))
        return self.head(x)


def _twice(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_conv(inputs, outputs, 3, 1, 1), _conv(outputs, outputs, 3, 1, 1))


class _Inverted(nn.Module):
    """MobileNetV2's block, which jfzhang95/pytorch-deeplab-xception pads before its first convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        first = [_conv(inputs, hidden, 1, act=nn.ReLU6)] if expand > 1 else []
        middle = _conv(hidden, hidden, 3, stride, 0, dilation, hidden, nn.ReLU6)
        self.body = nn.Sequential(*first, middle, _conv(hidden, outputs, 1, act=None))
        self.padding, self.residual = dilation, stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(functional.pad(x, (self.padding,) * 4))
        return x + y if self.residual else y


class DeepLab(nn.Module):
    """DeepLabV3+ on MobileNetV2, output stride 16, as jfzhang95/pytorch-deeplab-xception has it [Chen2018].

    [Chen2018] Chen et al.: Encoder-decoder with atrous separable convolution for semantic image segmentation. ECCV.
    """

    def __init__(self, classes: int = 21) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, 32, 3, 2, 1, act=nn.ReLU6)]
        inputs, reached, rate = 32, 2, 1
        for expand, outputs, count, step in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):
            stride, dilation = (1, rate) if reached == 16 else (step, 1)
            rate, reached = (rate * step, reached) if reached == 16 else (rate, reached * step)
            for i in range(count):
                layers.append(_Inverted(inputs, outputs, stride if i == 0 else 1, dilation, expand))
                inputs = outputs
        self.low, self.high = nn.Sequential(*layers[:4]), nn.Sequential(*layers[4:])
        self.pyramid = nn.ModuleList([_conv(320, 256, 1), *(_conv(320, 256, 3, 1, d, d) for d in (6, 12, 18))])
        self.pooled = _conv(320, 256, 1)
        self.merge, self.reduce = _conv(1280, 256, 1), _conv(24, 48, 1)
        self.head = nn.Sequential(_conv(304, 256, 3, 1, 1), _conv(256, 256, 3, 1, 1), nn.Conv2d(256, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        low = self.low(x)
        high = self.high(low)
        pooled = _resized(self.pooled(high.mean((2, 3), keepdim=True)), high)
        merged = self.merge(torch.cat([*(branch(high) for branch in self.pyramid), pooled], dim=1))
        reduced = self.reduce(low)
        return _resized(self.head(torch.cat([_resized(merged, reduced), reduced], dim=1)), x)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)


class EncoderWithCache(nn.Module):
    """An encoder that ends in the keys and values of a decoder's cross attention, as AI Hub splits encoder-decoders."""

    def __init__(self, encoder: nn.Module, inputs: int, width: int, layers: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.keys, self.values = (nn.ModuleList(nn.Linear(inputs, width) for _ in range(layers)) for _ in range(2))

    def forward(self, **inputs: Tensor) -> list[Tensor]:
        hidden = self.encoder(**inputs)[0]
        return [layer(hidden) for pair in zip(self.keys, self.values, strict=True) for layer in pair]


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, own: bool) -> None:
        super().__init__()
        self.heads, self.norm = heads, nn.LayerNorm(width)
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key, self.value = (nn.Linear(width, width), nn.Linear(width, width)) if own else (None, None)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.key is not None and self.value is not None:
            keys, values = (torch.cat([cache, self._split(layer(x))], dim=2) for cache, layer in ((keys, self.key), (values, self.value)))
        y = functional.scaled_dot_product_attention(self._split(self.query(x)), keys, values)
        return self.norm(x + self.out(y.transpose(1, 2).reshape(x.shape))), keys, values

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


class DecoderStep(nn.Module):
    """One token through a Transformer's decoder, whose caches are inputs and outputs [Vaswani2017].

    [Vaswani2017] Vaswani et al.: Attention is all you need. NeurIPS.
    """

    def __init__(self, vocabulary: int, width: int, heads: int, inner: int, layers: int) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(512, width)
        self.own, self.cross = (nn.ModuleList(_Attention(width, heads, own) for _ in range(layers)) for own in (True, False))
        self.inner = nn.ModuleList(nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width)) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, token: Tensor, position: Tensor, *caches: Tensor) -> list[Tensor]:
        x, kept = self.embedding(token) + self.positions(position), []
        for i, (own, cross, inner, norm) in enumerate(zip(self.own, self.cross, self.inner, self.norms, strict=True)):
            own_keys, own_values, cross_keys, cross_values = caches[4 * i : 4 * i + 4]
            x, keys, values = own(x, own_keys, own_values)
            kept += [keys, values]
            x, _, _ = cross(x, cross_keys, cross_values)
            x = norm(x + inner(x))
        return [self.head(x), *kept]


def decoder_inputs(width: int, heads: int, layers: int, past: int, encoded: int) -> Sequence[Tensor]:
    """Token, position and caches of ``DecoderStep``."""
    lengths = (past, past, encoded, encoded) * layers
    index = torch.zeros((1, 1), dtype=torch.int64)
    return [index, index, *(torch.zeros((1, heads, length, width // heads)) for length in lengths)]
