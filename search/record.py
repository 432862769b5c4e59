"""Trial records: immutable facts about one recipe."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

from compressors.errors import UserError
from evaluators.metric import Estimate

__all__ = ["STATUSES", "StageRecord", "Status", "TrialRecord"]

Status = Literal["ok", "stopped", "infeasible", "diverged", "out-of-memory", "unexportable", "interrupted", "error"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class StageRecord:
    """One stage of a trial: its cache key, whether it was loaded instead of computed, and the seconds it took here.

    ``peak_memory_bytes`` is what it took at most when it was computed, of stages that train: on a GPU what torch allocated, else the whole process in RAM.
    """

    name: str
    key: str
    cached: bool
    seconds: float
    peak_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """The terminal record of a trial.

    Attributes:
        id: ``0007`` for trials, ``baseline-int8`` and the like for baselines.
        recipe: the plain list of steps.
        status: see ``STATUSES``; only ``ok`` is ever ranked.
        reason: what a person can act on; empty for ``ok``.
        metrics: estimates on the ``search`` split, and costs, by name (``latency_ms@DEVICE`` for costs).
        report: estimates on the ``report`` split; empty until published.
        values: the point of the search space, by dimension.
        baseline: the baseline's name, or None for a proposed trial.
        rung: the fraction of the training budget that was run; below 1 the metrics are those of a part of the training, and never ranked.
        curve: observed metrics at the parts of the training budget before that, by fraction and name.
        stages: what was computed and what was loaded.
        attempts: how often it was started.
        replicate: 0 is what is exported.
        seconds: wall clock of the last attempt.
        widths: units before and after, by axis, for axes that changed.
        logs: the training lines.
        versions: of everything the result depends on.
        bounds: by device, what its kernels are bound by: ``bound_by`` (shares of the time), ``kernels`` (the slowest few), of a language model the same of a
            token under ``decode``; ``units`` where a device has several.
        candidate: widths and bits of the model that was made, one row of ``Shapes``: what prices it on any device.
        examples: of an evaluation on ``report``: the main metric's contribution of each example, packed by ``search.example_scores``.
        origin: the study that ran it, of a trial that was taken over from there; else empty.
    """

    id: str
    recipe: list[dict[str, Any]]
    status: Status
    reason: str = ""
    metrics: dict[str, Estimate] = field(default_factory=dict)
    report: dict[str, Estimate] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    baseline: str | None = None
    rung: float = 1.0
    curve: dict[str, dict[str, float]] = field(default_factory=dict)
    stages: tuple[StageRecord, ...] = ()
    attempts: int = 1
    replicate: int = 0
    seconds: float = 0.0
    widths: dict[str, tuple[int, int]] = field(default_factory=dict)
    logs: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    bounds: dict[str, dict[str, Any]] = field(default_factory=dict)
    candidate: dict[str, Any] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    origin: str = ""

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, source: str = "record") -> Self:
        """The reverse of ``to_json``.

        Raises:
            UserError: ``source`` is not a record.
        """
        try:
            data = json.loads(text)
            data["metrics"] = {k: Estimate.from_plain(v) for k, v in data["metrics"].items()}
            data["report"] = {k: Estimate.from_plain(v) for k, v in data["report"].items()}
            data["stages"] = tuple(StageRecord(**s) for s in data["stages"])
            data["widths"] = {k: (int(a), int(b)) for k, (a, b) in data["widths"].items()}
            data["logs"] = tuple(data["logs"])
            STATUSES.index(data["status"])
            return cls(**data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{source} is not a valid trial record ({error}); delete it to run that trial again") from error
