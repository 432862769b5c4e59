"""A synthetic compression problem of 11 dimensions: two known costs, one noisy quality, and a dense reference front.

Six groups of layers are pruned, weights and activations are quantized, and a distillation of three settings, which costs do not see, mends part of the damage.
Its coefficients were drawn once, from ``SEED``, before any algorithm was tuned on it. Costs are binary logarithms of a share of the uncompressed network's.

python experiments/benchmarks/search/compression_problem.py    # computes the reference front again
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.pareto import hypervolume, non_dominated

__all__ = ["NOISE", "REFERENCE", "SPACE", "costs", "observed", "quality", "reference_front", "share"]

Array = NDArray[np.float64]

SEED = 20261121
NOISE = 0.004
GROUPS = 6
BITS = (2, 3, 4, 6, 8, 16)
ACTIVATIONS = (8, 16)
BASELINE, CHANCE = 0.93, 0.1
SPACE: dict[str, Any] = {
    **{f"prune_{i}": {"uniform": [0.0, 0.9]} for i in range(GROUPS)},
    "weight_bits": {"choice": list(BITS)},
    "activation_bits": {"choice": list(ACTIVATIONS)},
    "temperature": {"uniform": [1.0, 8.0]},
    "teacher_weight": {"uniform": [0.0, 1.0]},
    "learning_rate": {"loguniform": [1e-4, 1e-2]},
}
REFERENCE = np.array([0.0, 0.0, -CHANCE])
"""Costs and negated quality beyond which a point does not count: nothing saved, or nothing known."""
FRONT = Path(__file__).with_name("compression_front.json")

_rng = np.random.default_rng(SEED)
_PARAMETERS = _rng.dirichlet(np.full(GROUPS, 2.0))
_MACS = _rng.dirichlet(np.full(GROUPS, 2.0))
_SENSITIVITY = _rng.uniform(0.3, 3.0, GROUPS)
_POWER = _rng.uniform(1.5, 4.0, GROUPS)
_PAIRS = np.triu(_rng.uniform(0.0, 1.2, (GROUPS, GROUPS)) * (_rng.random((GROUPS, GROUPS)) < 0.4), 1)
_BIT_DAMAGE = {2: 1.6, 3: 0.55, 4: 0.2, 6: 0.04, 8: 0.01, 16: 0.0}
_SPEED = {(8, 8): 0.45, (6, 8): 0.45, (4, 8): 0.42, (3, 8): 0.42, (2, 8): 0.4, (16, 8): 0.8, (16, 16): 1.0}


def _columns(candidates: Sequence[dict[str, Any]]) -> tuple[Array, Array, Array, Array]:
    def column(name: str) -> Array:
        return np.array([c[name] for c in candidates], dtype=np.float64)

    prune = np.stack([column(f"prune_{i}") for i in range(GROUPS)], axis=1).reshape(len(candidates), GROUPS)
    recovery = np.stack([(column("temperature") - 1) / 7, column("teacher_weight"), np.log(column("learning_rate") / 1e-4) / np.log(100)], axis=1)
    return prune, column("weight_bits"), column("activation_bits"), recovery


def _costs(prune: Array, bits: Array, activations: Array) -> Array:
    kept = 1 - prune
    both = kept * np.column_stack([np.ones(len(kept)), kept[:, :-1]])  # a layer's inputs are the outputs of the one before
    size = both @ _PARAMETERS * bits / 16 + 0.004
    speed = np.array([_SPEED.get((int(b), int(a)), 0.9) for b, a in zip(bits, activations, strict=True)])
    latency = 0.93 * (both @ _MACS) * speed + 0.05 * kept.mean(axis=1) * activations / 16 + 0.02
    return np.log2(np.column_stack([size / 1.004, latency]))


def _damage(prune: Array, bits: Array, activations: Array) -> Array:
    damage = (prune**_POWER) @ _SENSITIVITY + np.einsum("ni,ij,nj->n", prune**2, _PAIRS, prune**2)
    quantized = np.array([_BIT_DAMAGE[int(b)] for b in bits]) + np.where(activations < 16, 0.03, 0.0)
    result: Array = damage + quantized * (1 + 0.8 * prune.mean(axis=1)) + 0.3 * damage * quantized
    return result


def _mended(prune: Array, bits: Array, recovery: Array) -> Array:
    """Share of the damage that distillation mends, at most 0.6: the best settings depend on how much was pruned and on the bits."""
    share = prune.mean(axis=1)
    best = np.column_stack([0.25 + 0.5 * share, np.where(bits <= 4, 0.8, 0.6), 0.75 - 0.5 * share])
    miss = ((recovery - best) / np.array([0.35, 0.4, 0.25])) ** 2
    # Too high a rate of learning does harm of its own.
    result: Array = 0.6 * np.exp(-0.5 * miss.sum(axis=1)) - 0.5 * np.maximum(recovery[:, 2] - best[:, 2] - 0.3, 0)
    return result


def _quality(damage: Array) -> Array:
    result: Array = CHANCE + (BASELINE - CHANCE) / (1 + (damage / 1.1) ** 2.2)
    return result


def costs(candidates: Sequence[dict[str, Any]]) -> dict[str, Array]:
    """Binary logarithms of size and latency, shares of the uncompressed network's, each ``[candidates]``."""
    prune, bits, activations, _ = _columns(candidates)
    found = _costs(prune, bits, activations)
    return {"size": found[:, 0], "latency": found[:, 1]}


def quality(candidates: Sequence[dict[str, Any]]) -> Array:
    """Accuracy without noise, ``[candidates]``."""
    prune, bits, activations, recovery = _columns(candidates)
    return _quality(_damage(prune, bits, activations) * (1 - _mended(prune, bits, recovery)))


def observed(candidate: dict[str, Any], seed: int) -> float:
    """Accuracy as one training measures it; the noise depends on the candidate and the seed alone."""
    digest = np.random.default_rng([seed, *np.frombuffer(json.dumps(candidate, sort_keys=True).encode(), dtype=np.uint8).tolist()])
    return float(quality([candidate])[0] + NOISE * digest.standard_normal())


@cache
def reference_front() -> tuple[float, Array]:
    """The dense front's hypervolume, and of its points, ``[points, 3]``, those that a greedy oracle takes, in its order."""
    stored = json.loads(FRONT.read_text())
    return float(stored["hypervolume"]), np.array(stored["oracle"])


def share(candidates: Sequence[dict[str, Any]]) -> float:
    """Hypervolume of candidates, by their quality without noise, as a share of the reference front's."""
    if not candidates:
        return 0.0
    points = np.column_stack([*costs(candidates).values(), -quality(candidates)])
    return hypervolume(points, REFERENCE) / reference_front()[0]


def _dense(generations: int = 30, children: int = 5_000, kept: int = 2_000) -> Array:
    """Points that evolve by mutation, with distillation at its best everywhere, which is known in closed form."""
    rng = np.random.default_rng(SEED + 1)
    x = np.column_stack([rng.uniform(0, 0.9, (12_000, GROUPS)) ** rng.uniform(0.5, 3, (12_000, 1)), rng.random((12_000, 2))])
    x[:, :GROUPS] = np.minimum(x[:, :GROUPS], 0.9)
    front, points = x[:0], np.zeros((0, 3))
    for _ in range(generations):
        prune = x[:, :GROUPS]
        bits = np.array(BITS)[np.minimum((x[:, -2] * len(BITS)).astype(int), len(BITS) - 1)].astype(float)
        activations = np.array(ACTIVATIONS)[np.minimum((x[:, -1] * 2).astype(int), 1)].astype(float)
        values = np.column_stack([_costs(prune, bits, activations), -_quality(_damage(prune, bits, activations) * 0.4)])
        everything, genes = np.vstack([points, values]), np.vstack([front, x])
        best = np.flatnonzero(non_dominated(everything))
        if len(best) > kept:
            best = rng.permutation(best)[:kept]
        points, front = everything[best], genes[best]
        x = np.repeat(front, -(-children // len(front)), axis=0)
        moved = rng.random(x.shape) < 0.35
        x = np.clip(x + moved * rng.standard_normal(x.shape) * rng.choice([0.2, 0.05, 0.01], (len(x), 1)), 0, 1)
        x[:, :GROUPS] = np.minimum(x[:, :GROUPS], 0.9)
    return points


def _oracle(points: Array, count: int) -> Array:
    """The ``count`` points that a greedy oracle takes, by hypervolume gained; gains only shrink, so a stale one is an upper bound."""
    gains = np.array([hypervolume(p[None], REFERENCE) for p in points])
    taken: list[int] = []
    total = 0.0
    while len(taken) < count:
        fresh: set[int] = set()
        while (best := int(np.argmax(gains))) not in fresh:
            gains[best] = hypervolume(points[[*taken, best]], REFERENCE) - total
            fresh.add(best)
        taken.append(best)
        total += float(gains[best])
        gains[best] = -np.inf
    return points[taken]


def main() -> int:
    """Compute the reference front and write it beside this file."""
    points = _dense()
    oracle = _oracle(points, 120)
    FRONT.write_text(json.dumps({"hypervolume": hypervolume(points, REFERENCE), "points": len(points), "oracle": np.round(oracle, 6).tolist()}) + "\n")
    print(f"{len(points)} points, hypervolume {hypervolume(points, REFERENCE):.5f}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
