"""Uniform baselines: what a practitioner tries first. They always stand beside the front."""

from __future__ import annotations

from typing import Any

import numpy as np

from compressors.errors import TrialError
from compressors.recipe import Recipe
from search.space import Space
from search.stages import StageRunner

__all__ = ["baseline_recipes"]


def baseline_recipes(space: Space, runner: StageRunner) -> dict[str, list[dict[str, Any]]]:
    """Plain recipes by name: float32, float16, int8, int4, and uniform pruning with the experiment's own recovery; those that the model admits.

    Args:
        space: the experiment's: its pruning kinds and its recovery, at the middle of their ranges, are taken over.
        runner: tells what cannot be planned.
    """
    found: dict[str, list[dict[str, Any]]] = {
        "fp32": [],
        "fp16": [{"quantize": {"weight_bits": 16, "activation_bits": 32}}],
        "int8": [{"quantize": {"weight_bits": 8, "activation_bits": 8}}],
        "int4": [{"quantize": {"weight_bits": 4, "activation_bits": 8}}],
    }
    middle = space.plain_recipe(space.decode(np.full(len(space.dimensions), 0.5)))
    pruning = next((step[name] for step in middle for name in ("prune", "prune_iteratively") if name in step), None)
    if pruning is not None:
        recovery = [{"distill": pruning["recover"]}] if "recover" in pruning else []
        recovery += [step for step in middle if "distill" in step]
        shares = pruning.get("ratio")
        for percent in (25, 50):
            ratio = percent / 100
            uniform = dict.fromkeys(shares, ratio) if isinstance(shares, dict) else ratio
            patterns = {k: pruning[k] for k in ("include", "exclude", "round_to") if k in pruning}
            steps = [{"prune": {"criterion": "l2", "scope": "local", "ratio": uniform, **patterns}}, *recovery]
            found[f"prune-{percent}"] = steps
            found[f"prune-{percent}-int8"] = [*steps, *found["int8"]]
    admitted = {}
    for name, steps in found.items():
        try:
            runner.plan(Recipe.from_plain(steps))
        except TrialError:
            continue
        admitted[name] = steps
    return admitted
