"""The ``search:`` section of an experiment: algorithm, budget, seed and the resources of a trial."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import pydantic

from compressors.errors import UserError
from search.quantities import parse_bytes

__all__ = ["SearchSpec"]

_DEFAULT_TRIALS = 48
_Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]


def _share(value: float) -> float:
    """Ray's rule for what it counts in pieces."""
    if value > 1 and value != int(value):
        raise ValueError("not an amount that can be reserved; accepted: a fraction of one, or whole numbers")
    return value


_Amount = Annotated[float, pydantic.Field(gt=0), pydantic.AfterValidator(_share)]


class SearchSpec(pydantic.BaseModel):
    """How to search.

    Attributes:
        algorithm: ``auto`` models quality alone and takes costs as they are known, ``tpe`` where objectives are others than costs and one quality; or, for
            comparison, ``random``, ``grid``, and Optuna's ``nsga2``, ``tpe`` and ``gp``.
        trials: budget in recipes that are trained; baselines and infeasible proposals do not count.
        hours: budget in hours of wall clock, from the first proposal to the published front; no trial starts later than leaves time to publish, those under
            way end. Artifacts are verified after it.
        cost: budget in equivalents of one fully trained trial; see ``search.budget.cost_of``.
        rungs: fractions of the last training at which a trial is looked at, and goes on only if it could still reach the front (see ``search.promotion``);
            none, the default, trains every trial to its end. Worth it where training takes much longer than quantizing and evaluating.
        seed: every other seed derives from it.
        workers: trials at a time; None fills the machine or cluster.
        cpus_per_trial: cores, which is also the number of threads; a fraction lets trials share a core. None divides the cores over the workers.
        gpus_per_trial: GPUs, fractions allowed; None is one where there are any.
        memory_per_trial: such as ``2GB``; no machine runs more trials than its memory holds. ``auto`` predicts it, see ``search.trial_memory``.
        resources_per_trial: custom resources by the names that nodes were started with.
        replicates: how often each point of the front that was trained is trained again, with other seeds, before it is published: what its quality owes to
            chance then shows in its interval. One of each is enough, because the spread is pooled over the front; 0 leaves it out. Within ``hours``: the search
            ends earlier by what they are expected to take, at most half of the time, and those that would end too late are left out and said. On top of
            ``trials`` and ``cost``, which measure the search: equal budgets find equal fronts, published with replicates or not.
        verify: whether the points of the front are exported and measured again at the end, in the target's runtime.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    algorithm: Literal["auto", "random", "grid", "nsga2", "tpe", "gp"] = "auto"
    trials: Annotated[int, pydantic.Field(gt=0)] | None = None
    hours: _Positive | None = None
    cost: Annotated[float, pydantic.Field(ge=1, allow_inf_nan=False)] | None = None
    rungs: tuple[Annotated[float, pydantic.Field(gt=0, lt=1)], ...] = ()
    seed: Annotated[int, pydantic.Field(ge=0, lt=2**32)] = 0
    workers: Annotated[int, pydantic.Field(gt=0)] | None = None
    cpus_per_trial: _Amount | None = None
    gpus_per_trial: Annotated[float, pydantic.Field(ge=0), pydantic.AfterValidator(_share)] | None = None
    memory_per_trial: str = "auto"
    resources_per_trial: dict[str, _Amount] = pydantic.Field(default_factory=dict)
    replicates: Annotated[int, pydantic.Field(ge=0, le=20)] = 1
    verify: bool = True

    @pydantic.model_validator(mode="after")
    def _rising(self) -> Self:
        if list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError(f"rungs {list(self.rungs)} do not rise; accepted: rising fractions in (0, 1)")
        return self

    @pydantic.model_validator(mode="after")
    def _one_budget(self) -> Self:
        given = [name for name in ("trials", "hours", "cost") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"the budget is given as {' and '.join(given)}; accepted: one of trials, hours and cost")
        if not given:
            object.__setattr__(self, "trials", _DEFAULT_TRIALS)
        return self

    @pydantic.field_validator("memory_per_trial")
    @classmethod
    def _known_memory(cls, value: str) -> str:
        if value != "auto":
            try:
                parse_bytes(value, "memory_per_trial")
            except UserError as error:
                raise ValueError(f"{error}; or auto") from None
        return value

    @pydantic.field_validator("resources_per_trial")
    @classmethod
    def _custom(cls, value: dict[str, float]) -> dict[str, float]:
        named = {"CPU": "cpus_per_trial", "GPU": "gpus_per_trial", "memory": "memory_per_trial"}
        for name in value:
            for known, setting in named.items():
                if name.casefold() == known.casefold():
                    raise ValueError(f"{name!r} is no custom resource; accepted: search.{setting}")
        return value

    @property
    def memory_bytes(self) -> int | None:
        """What ``memory_per_trial`` says, None where it is ``auto``."""
        return None if self.memory_per_trial == "auto" else parse_bytes(self.memory_per_trial, "search.memory_per_trial")
