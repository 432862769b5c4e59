"""What the keys of stages begin with, and which step of a recipe a part of the budget shortens."""

from __future__ import annotations

from compressors.checkpoint import CHECKPOINT_VERSION
from compressors.graph.surgery import STRUCTURE_VERSION
from compressors.recipe import Recipe
from search.preparing import Prepared, state_key

__all__ = ["goes_on", "last_trained", "root_key"]

_STAGES_VERSION = 2


def root_key(prepared: Prepared, device: str) -> str:
    """Of the model that a recipe starts from, on a kind of device to train on: ``cpu`` or ``cuda``."""
    p = prepared
    layout = (_STAGES_VERSION, CHECKPOINT_VERSION, STRUCTURE_VERSION, p.graph.fingerprint)
    return state_key("model", *layout, p.model_key, p.data_key, p.versions["torch"], p.versions.get("torchao", ""), device, "float32")


def last_trained(recipe: Recipe) -> int:
    """Position of the step that a part of the budget shortens; -1 where nothing is trained."""
    return max((i for i, step in enumerate(recipe.steps) if step.stochastic), default=-1)


def goes_on(recipe: Recipe) -> bool:
    """Whether the step that a part of the budget shortens can go on from there."""
    last = last_trained(recipe)
    return last >= 0 and recipe.steps[last].resumable
