"""Whole networks to time: what kernels cost beside one another differs from what each costs in a chain of its like.

They are small ones of the common kinds, with random weights, in widths that are multiples of nothing and of much, as floats and as integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from compressors.context import Batch

__all__ = ["DYNAMIC", "STATIC", "Noise", "Variant", "variants"]


class _Residual(nn.Module):
    """As in ResNet: two convolutions of 3x3 beside a shortcut."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(inputs, inner, 3, stride), nn.ReLU(), nn.Conv2d(inner, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)
        )
        self.shortcut = nn.Identity() if inputs == outputs and stride == 1 else nn.Sequential(*_convolution(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


class _Bottleneck(nn.Module):
    """As in ResNet-50."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(inputs, inner, 1), nn.ReLU(), *_convolution(inner, inner, 3, stride), nn.ReLU(), *_convolution(inner, outputs, 1)
        )
        self.shortcut = nn.Identity() if inputs == outputs and stride == 1 else nn.Sequential(*_convolution(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


class _Inverted(nn.Module):
    """As in MobileNetV2: expand, filter every channel by itself, project."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(inputs, inner, 1),
            nn.ReLU6(),
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU6(),
            *_convolution(inner, outputs, 1),
        )
        self.adds = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.adds else y


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)


class _Convolutional(nn.Module):
    """A stem, blocks of one kind, a classifier."""

    def __init__(self, block: type[nn.Module], stem: int, widths: tuple[tuple[int, int, int], ...], last: int = 0, stem_stride: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_convolution(3, stem, 3, stem_stride), nn.ReLU())
        ends = [stem, *(outputs for _, outputs, _ in widths)]
        self.blocks = nn.Sequential(
            *(block(before, inner, outputs, stride) for (before, _), (inner, outputs, stride) in zip(pairwise(ends), widths, strict=True))
        )
        self.last = nn.Sequential(*_convolution(ends[-1], last, 1), nn.ReLU6()) if last else nn.Identity()
        self.head = nn.Linear(last or ends[-1], 100)

    def forward(self, image: Tensor) -> Tensor:
        x = self.last(self.blocks(self.stem(image)))
        logits: Tensor = self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


class _Layer(nn.Module):
    """A transformer's layer, normalised before (vision) or behind (text)."""

    def __init__(self, hidden: int, heads: int, size: int, inner: int, *, before: bool) -> None:
        super().__init__()
        self.heads, self.before = heads, before
        self.query, self.key, self.value = (nn.Linear(hidden, heads * size) for _ in range(3))
        self.out, self.up, self.down = nn.Linear(heads * size, hidden), nn.Linear(hidden, inner), nn.Linear(inner, hidden)
        self.first, self.second = nn.LayerNorm(hidden), nn.LayerNorm(hidden)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.before:
            x = x + self._attention(self.first(x), mask)
            return x + self._forward(self.second(x))
        x = self.first(x + self._attention(x, mask))
        y: Tensor = self.second(x + self._forward(x))
        return y

    def _attention(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (each(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (self.query, self.key, self.value))
        found = functional.scaled_dot_product_attention(query, key, value, mask)
        mixed: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return mixed

    def _forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(functional.gelu(self.up(x)))
        return y


class _Text(nn.Module):
    """As BERT: tokens, learned positions, masked attention."""

    def __init__(self, layers: int, hidden: int, heads: int, size: int, inner: int, tokens: int) -> None:
        super().__init__()
        self.words, self.places, self.norm = nn.Embedding(2000, hidden), nn.Embedding(tokens, hidden), nn.LayerNorm(hidden)
        self.layers = nn.ModuleList(_Layer(hidden, heads, size, inner, before=False) for _ in range(layers))
        self.pooler, self.head = nn.Linear(hidden, hidden), nn.Linear(hidden, 50)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.norm(self.words(input_ids) + self.places.weight[: input_ids.shape[1]])
        mask = attention_mask.bool()[:, None, None, :]
        for layer in self.layers:
            x = layer(x, mask)
        logits: Tensor = self.head(torch.tanh(self.pooler(x[:, 0])))
        return logits


class _Vision(nn.Module):
    """As ViT: patches and one more token."""

    def __init__(self, layers: int, hidden: int, heads: int, size: int, inner: int, side: int, patch: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, hidden, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, hidden))
        self.places = nn.Parameter(torch.randn(1, (side // patch) ** 2 + 1, hidden) * 0.02)
        self.layers = nn.ModuleList(_Layer(hidden, heads, size, inner, before=True) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(hidden), nn.Linear(hidden, 100)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1) + self.places
        # Nothing is masked; `transformers` has such a mask in its exported models, too.
        mask = torch.ones(1, 1, x.shape[1], x.shape[1], dtype=torch.bool)
        for layer in self.layers:
            x = layer(x, mask)
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits


class Noise:
    """Random inputs; ranges are calibrated on them, nothing is trained."""

    higher_is_better = True

    def __init__(self, inputs: dict[str, Tensor]) -> None:
        self._inputs = inputs

    def batches(self, split: str, *, seed: int | None = None, batch_size: int | None = None) -> Iterator[Batch]:  # noqa: ARG002 - the protocol's
        """One batch, always the same."""
        yield Batch(self._inputs, torch.zeros(len(next(iter(self._inputs.values()))), dtype=torch.long))

    def steps(self, split: str, *, batch_size: int | None = None) -> int:  # noqa: ARG002 - the protocol's
        """One."""
        return 1

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Any scalar."""
        return functional.cross_entropy(logits, batch.labels)

    def score(self, model: nn.Module, split: str) -> tuple[str, float]:  # noqa: ARG002 - the protocol's
        """Nothing is scored."""
        return "accuracy", 0.0


@dataclass(frozen=True)
class Variant:
    """A network in one form.

    Attributes:
        network: its name; forms of one network share it.
        module: in eval mode, weights random.
        inputs: eight examples by name.
        steps: the recipe that makes the form, empty for floats.
    """

    network: str
    module: nn.Module
    inputs: dict[str, Tensor]
    steps: tuple[dict[str, Any], ...]


STATIC: tuple[dict[str, Any], ...] = ({"quantize": {"mode": "static"}},)
DYNAMIC: tuple[dict[str, Any], ...] = ({"quantize": {"mode": "dynamic"}},)


def variants() -> Iterator[Variant]:
    """Every network as floats and as 8-bit integers, made anew with the same random weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, module, inputs, steps in _networks():
            for form in ((), steps):
                yield Variant(name, module.eval(), inputs, form)


def _networks() -> Iterator[tuple[str, nn.Module, dict[str, Tensor], tuple[dict[str, Any], ...]]]:
    residual = (
        ("residual-32", 16, ((16, 16, 1), (11, 16, 1), (32, 32, 2), (21, 32, 1), (64, 64, 2), (43, 64, 1)), 32, 1),
        ("residual-32-odd", 13, ((9, 13, 1), (12, 13, 1), (27, 29, 2), (17, 29, 1), (51, 61, 2), (37, 61, 1)), 32, 1),
        ("residual-64", 40, ((29, 40, 1), (72, 80, 2), (57, 80, 1), (128, 144, 2), (97, 144, 1)), 64, 2),
        ("residual-112", 64, ((64, 64, 1), (39, 64, 1), (128, 128, 2), (75, 128, 1), (256, 256, 2), (141, 256, 1), (320, 512, 2)), 112, 4),
        ("residual-112-odd", 45, ((51, 45, 1), (39, 45, 1), (101, 99, 2), (77, 99, 1), (203, 190, 2), (141, 190, 1), (301, 370, 2)), 112, 4),
    )
    for name, stem, widths, side, stride in residual:
        yield name, _Convolutional(_Residual, stem, widths, stem_stride=stride), {"image": torch.randn(8, 3, side, side)}, STATIC
    blocks = ((64, 256, 1), (45, 256, 1), (128, 512, 2), (83, 512, 1), (200, 768, 2))
    yield "bottleneck", _Convolutional(_Bottleneck, 64, blocks, stem_stride=4), {"image": torch.randn(8, 3, 128, 128)}, STATIC
    inverted = (
        ("inverted-32", 32, ((96, 16, 1), (96, 24, 2), (136, 24, 1), (144, 32, 2), (192, 32, 1), (112, 32, 1), (192, 64, 2), (384, 64, 1)), 640, 32, 1),
        ("inverted-32-odd", 27, ((61, 13, 1), (77, 19, 2), (93, 19, 1), (101, 27, 2), (150, 27, 1), (163, 50, 2), (290, 50, 1), (411, 83, 2)), 517, 32, 1),
        ("inverted-32-part", 24, ((83, 16, 1), (96, 20, 2), (131, 20, 1), (144, 32, 2), (181, 32, 1), (192, 60, 2), (350, 60, 1), (480, 96, 2)), 600, 32, 2),
        ("inverted-96", 24, ((72, 20, 1), (120, 28, 2), (104, 28, 1), (168, 44, 2), (264, 44, 1), (264, 92, 2), (344, 92, 1)), 512, 96, 2),
        ("inverted-160", 32, ((48, 16, 1), (96, 24, 2), (144, 24, 1), (144, 40, 2), (176, 40, 1), (240, 96, 2), (576, 96, 1), (576, 160, 2)), 1280, 160, 2),
        ("inverted-160-odd", 27, ((45, 13, 1), (83, 21, 2), (130, 21, 1), (121, 37, 2), (187, 37, 1), (205, 83, 2), (467, 83, 1), (501, 131, 2)), 999, 160, 2),
        ("inverted-192-part", 16, ((51, 16, 1), (96, 21, 2), (115, 21, 1), (144, 40, 2), (205, 40, 1), (331, 64, 2), (384, 64, 1), (459, 112, 1)), 800, 192, 2),
    )
    for name, stem, expansions, last, side, stride in inverted:
        yield name, _Convolutional(_Inverted, stem, expansions, last, stride), {"image": torch.randn(8, 3, side, side)}, STATIC
    # layers, hidden, heads, size of a head, inner, tokens
    texts = (
        (6, 384, 12, 32, 1536, 24),
        (2, 384, 8, 32, 901, 112),
        (3, 256, 4, 64, 1024, 64),
        (4, 512, 5, 64, 1300, 16),
        (3, 320, 7, 32, 611, 40),
        (2, 203, 5, 32, 777, 96),
    )
    for layers, hidden, heads, size, inner, tokens in texts:
        words, mask = torch.randint(0, 2000, (8, tokens)), torch.ones(8, tokens, dtype=torch.long)
        name = f"text-{hidden}-{tokens}"
        yield name, _Text(layers, hidden, heads, size, inner, tokens), {"input_ids": words, "attention_mask": mask}, DYNAMIC
    visions = (
        (9, 192, 3, 64, 768, 32, 8),
        (3, 149, 2, 64, 461, 32, 4),
        (2, 384, 6, 64, 1153, 160, 16),
        (4, 320, 4, 64, 1280, 96, 8),
        (1, 300, 3, 64, 900, 208, 16),
    )
    for layers, hidden, heads, size, inner, side, patch in visions:
        yield f"vision-{hidden}-{side}", _Vision(layers, hidden, heads, size, inner, side, patch), {"image": torch.randn(8, 3, side, side)}, DYNAMIC
    # Its weights, 36 MB, do not stay in a cache.
    wide = ((256, 256, 2), (190, 256, 1), (512, 512, 2), (512, 512, 1))
    yield "residual-64-wide", _Convolutional(_Residual, 96, wide, stem_stride=2), {"image": torch.randn(8, 3, 64, 64)}, STATIC
