"""A job: one recipe to run, as plain data that travels to workers and lies in a study's folder while it is under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compressors.errors import UserError

__all__ = ["LATER", "Job", "new_job", "read_job"]

Job = dict[str, Any]
"""Keys: see the arguments of ``new_job``."""
LATER: Job = {}
"""No job now: ask again when one has ended."""

_NEEDED = ("id", "recipe", "values", "baseline", "split")
_MORE: dict[str, Any] = {"replicate": 0, "rungs": [1.0], "part": None}


def new_job(
    trial: str,
    recipe: list[dict[str, Any]],
    *,
    values: Mapping[str, Any] | None = None,
    baseline: str | None = None,
    split: str = "search",
    replicate: int = 0,
    rungs: Sequence[float] = (1.0,),
    part: str | None = None,
) -> Job:
    """A job.

    Args:
        trial: id of its record.
        recipe: plain steps.
        values: the point of the search space.
        baseline: the baseline's name, or None for a proposed trial.
        split: to evaluate on.
        replicate: another one has other seeds.
        rungs: parts of the training budget at which it is looked at, rising; the last is 1.
        part: the record, as JSON, of what has been run of it already.
    """
    return {
        "id": trial,
        "recipe": recipe,
        "values": dict(values or {}),
        "baseline": baseline,
        "split": split,
        "replicate": replicate,
        "rungs": list(rungs),
        "part": part,
    }


def read_job(data: Any) -> Job:
    """A job from plain data.

    Raises:
        UserError: it is none.
    """
    if not isinstance(data, dict) or any(key not in data for key in _NEEDED):
        raise UserError(f"a job needs {', '.join(_NEEDED)}")
    return {**{key: data[key] for key in _NEEDED}, **{key: data.get(key, default) for key, default in _MORE.items()}}
