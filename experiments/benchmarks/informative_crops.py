"""What is a crop to the informative region worth where the subject may be anywhere? A digit at a random place in an image of noise nine times as large.

    python experiments/benchmarks/informative_crops.py [--seeds 3] [--sizes 8 10 12 16 20]

Prints a line a crop size: accuracy on unseen images with the crop that the taught scorer chooses, with one in the middle, and of the whole image; the share of
crops that hold the whole digit; multiply-accumulates relative to the whole image, the scorer's included. Means over networks trained from other seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from recoveries import markdown  # noqa: E402 - found beside this file

from compressors.context import Batch  # noqa: E402
from compressors.graph import trace  # noqa: E402
from compressors.pipeline import compress  # noqa: E402
from compressors.sizing import SCORER  # noqa: E402

DIGIT, IMAGE, NOISE, EPOCHS = 8, 24, 0.35, 12


class Places:
    """Digits in noise: pixels ``[examples, 1, 24, 24]``, labels, and the upper left corner of each digit ``[examples, 2]``; those of ``search`` are others."""

    higher_is_better = True

    def __init__(self, seed: int) -> None:
        self.sets = {"train": _made(2000, seed, "train"), "calibration": _made(100, seed + 1000, "train"), "search": _made(600, seed + 2000, "search")}

    def batches(self, split: str, *, seed: int | None = None, batch_size: int | None = None) -> Iterator[Batch]:
        pixels, labels, _ = self.sets[split]
        order = torch.arange(len(labels)) if seed is None else torch.from_numpy(np.random.default_rng(seed).permutation(len(labels)))
        for rows in order.split(batch_size or 64):
            yield Batch({"image": pixels[rows]}, labels[rows])

    def steps(self, split: str, *, batch_size: int | None = None) -> int:
        return -(-len(self.sets[split][1]) // (batch_size or 64))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(logits, batch.labels)

    def score(self, model: nn.Module, split: str) -> tuple[str, float]:
        pixels, labels, _ = self.sets[split]
        return "accuracy", _accuracy(model, pixels, labels)


class Network(nn.Module):
    """Three convolutions and the largest value of each channel, so that it takes images of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.Conv2d(32, 32, 3, padding=1)
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.c(self.b(self.a(image).relu()).relu()).relu().amax((2, 3)))


def _made(count: int, seed: int, split: str) -> tuple[Tensor, Tensor, Tensor]:
    digits, generator = load_digits(), np.random.default_rng(seed)
    unseen = np.arange(len(digits.images)) % 4 == 0
    which = generator.choice(np.flatnonzero(unseen if split == "search" else ~unseen), count)
    pixels = generator.normal(0, NOISE, (count, 1, IMAGE, IMAGE)).astype(np.float32)
    places = generator.integers(0, IMAGE - DIGIT + 1, (count, 2))
    for image, digit, (top, left) in zip(pixels, which, places, strict=True):
        image[0, top : top + DIGIT, left : left + DIGIT] += digits.images[digit] / 16
    return torch.from_numpy(pixels), torch.from_numpy(digits.target[which]), torch.from_numpy(places)


@torch.no_grad()
def _accuracy(model: nn.Module, pixels: Tensor, labels: Tensor) -> float:
    return float((model.eval()(image=pixels).argmax(1) == labels).float().mean())


def _trained(data: Places, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = Network()
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    for epoch in range(EPOCHS):
        for batch in data.batches("train", seed=epoch):
            optimizer.zero_grad()
            data.loss(model(**batch.inputs), batch).backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def _holding(scorer: Any, pixels: Tensor, places: Tensor, size: int) -> float:
    """Share of the crops that hold the whole digit."""
    starts = scorer.starts[scorer.scores(scorer.thumbnail(pixels)).argmax(1)]
    corner = torch.stack([starts // IMAGE, starts % IMAGE], 1)
    return float(((corner <= places) & (corner + size >= places + DIGIT)).all(1).float().mean())


def measured(seed: int, sizes: list[int]) -> dict[int, list[float]]:
    """By crop size: accuracy of the informative crop, of the middle one, of the whole image; share of crops with the whole digit; share of the arithmetic."""
    data = Places(seed)
    model = _trained(data, seed)
    pixels, labels, places = data.sets["search"]
    whole, macs = _accuracy(model, pixels, labels), trace(model, {"image": pixels[:1]}).macs
    found = {}
    for size in sizes:
        print(f"seed {seed}, {size} pixels", file=sys.stderr, flush=True)
        cropped = compress(model, [{"input_size": {"image": size, "how": "informative"}}], {"image": pixels[:1]}, data, seed=seed)
        edge = (IMAGE - size) // 2
        middle = _accuracy(model, pixels[:, :, edge : edge + size, edge : edge + size], labels)
        share = trace(cropped, {"image": pixels[:1]}, check_cuts=False).macs / macs
        found[size] = [_accuracy(cropped, pixels, labels), middle, whole, _holding(cropped.get_submodule(SCORER), pixels, places, size), share]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 10, 12, 16, 20])
    args = parser.parse_args()
    runs = [measured(seed, args.sizes) for seed in range(args.seeds)]
    means = {size: np.mean([run[size] for run in runs], axis=0) for size in args.sizes}
    spread = {size: np.ptp([run[size][0] for run in runs]) for size in args.sizes}
    heads = ("crop, pixels", "informative", "its range", "middle", "whole image", "crops with the whole digit", "of the MACs")
    lines = [[str(size), f"{a:.3f}", f"{spread[size]:.3f}", *(f"{value:.3f}" for value in rest)] for size, (a, *rest) in means.items()]
    print("\n".join(markdown(heads, lines)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
