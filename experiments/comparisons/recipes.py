"""The smaller model of comparisons that are about something else."""

from __future__ import annotations

from experiments.comparisons.laboratory import Laboratory, Step

__all__ = ["integers", "smaller"]


def integers(laboratory: Laboratory, bits: int) -> Step:
    """A ``quantize`` step. Transformers find the ranges of activations at run time, as usual; 4-bit weights need groups there."""
    if any(axis.kind == "channels" for axis in laboratory.prepared.graph.prunable):
        return {"quantize": {"weight_bits": bits, "activation_bits": 8}}
    groups = {"granularity": 32} if bits == 4 else {}
    return {"quantize": {"weight_bits": bits, "activation_bits": 8, "mode": "dynamic", **groups}}


def smaller(laboratory: Laboratory) -> list[Step]:
    """30 % of the units pruned, then 8 bits."""
    return [{"prune": {"ratio": 0.3}}, integers(laboratory, 8)]
