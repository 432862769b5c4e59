"""The ``search:`` section of an experiment: algorithm, budget, seed and the resources of a trial."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import pydantic

__all__ = ["SearchSpec"]

_DEFAULT_TRIALS = 48
_Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]


class SearchSpec(pydantic.BaseModel):
    """How to search.

    Attributes:
        algorithm: ``auto`` chooses for the budget.
        trials: budget in recipes that are trained; baselines and infeasible proposals do not count.
        hours: budget in hours of wall clock, from the first proposal on; no trial starts later, those under way end.
        cost: budget in equivalents of one fully trained trial; see ``search.budget.cost_of``.
        seed: every other seed derives from it.
        workers: trials at a time; None fills the machine or cluster.
        cpus_per_trial: cores, which is also the number of threads; None divides the cores over the workers.
        gpus_per_trial: GPUs, fractions allowed; None is one where there are any.
        verify: whether the points of the front are exported and measured again at the end, in the target's runtime.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    algorithm: Literal["auto", "nsga2", "tpe", "random"] = "auto"
    trials: Annotated[int, pydantic.Field(gt=0)] | None = None
    hours: _Positive | None = None
    cost: _Positive | None = None
    seed: Annotated[int, pydantic.Field(ge=0, lt=2**32)] = 0
    workers: Annotated[int, pydantic.Field(gt=0)] | None = None
    cpus_per_trial: Annotated[int, pydantic.Field(gt=0)] | None = None
    gpus_per_trial: Annotated[float, pydantic.Field(ge=0)] | None = None
    verify: bool = True

    @pydantic.model_validator(mode="after")
    def _one_budget(self) -> Self:
        given = [name for name in ("trials", "hours", "cost") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"the budget is given as {' and '.join(given)}; accepted: one of trials, hours and cost")
        if not given:
            object.__setattr__(self, "trials", _DEFAULT_TRIALS)
        return self
