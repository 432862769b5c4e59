"""What an exported point of a front was found to be, beside what it promises."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self, get_args

from compressors.errors import UserError
from evaluators.devices.names import THIS_HOST, parse_device
from evaluators.devices.this_host import DEFAULT_THREADS
from evaluators.metric import Metric
from search.experiment import Experiment
from search.study_files import VERIFIED

__all__ = ["VERDICTS", "Verdict", "Verification", "host_threads", "keeps", "measurable", "read_verifications"]

Verdict = Literal["kept", "regressed", "unexportable", "unverified"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

_POINTS = 0.005
_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Verification:
    """One point, exported and measured in its runtime.

    Attributes:
        verdict: ``kept``; ``regressed``: a figure is worse than promised; ``unexportable``: there is no artifact that computes what the model does;
            ``unverified``: it could not be measured here, so nothing is known.
        runtime: that ran it.
        key: stands for everything that the verdict depends on.
        found: figures by metric name, quality on ``report``; what is not in it was not measured.
        reasons: of a verdict that is not ``kept``, a line each.
    """

    verdict: Verdict
    runtime: str
    key: str = ""
    found: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    @property
    def demoted(self) -> bool:
        """Whether the point does not count any more."""
        return self.verdict in ("regressed", "unexportable")

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, source: str = "verification") -> Self:
        """The reverse of ``to_json``.

        Raises:
            UserError: ``source`` is not a verification.
        """
        try:
            data = json.loads(text)
            VERDICTS.index(data["verdict"])
            found = {str(name): float(value) for name, value in data["found"].items()}
            return cls(data["verdict"], str(data["runtime"]), str(data["key"]), found, tuple(map(str, data["reasons"])))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{source} is not a valid verification ({error}); delete it and resume the study to verify the point again") from error


def read_verifications(folder: Path) -> dict[str, Verification]:
    """By id, those of a study's folder.

    Raises:
        UserError: a file is not valid; names it.
    """
    found = {}
    for path in sorted((folder / VERIFIED).glob("*.json")):
        try:
            found[path.stem] = Verification.from_json(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {path}: {error}") from error
    return found


def keeps(metric: Metric, promised: float, found: float) -> bool:
    """Whether a figure is as good as promised, or better: accuracy within half a point, everything else within 2 %."""
    worse = metric.minimised(found) - metric.minimised(promised)
    return worse <= (_POINTS + 1e-9 if metric.is_accuracy else _SHARE * abs(promised))


def host_threads(experiment: Experiment) -> dict[str, int]:
    """The devices of an experiment that are this machine in the runtime of its target, each with its number of threads."""
    parsed = {key: parse_device(key) for key in experiment.devices if key.startswith(THIS_HOST)}
    return {key: device.threads or DEFAULT_THREADS for key, device in parsed.items() if device.runtime == experiment.target}


def measurable(experiment: Experiment) -> tuple[str, ...]:
    """Names of the metrics that a verification finds; what is predicted for other devices stays unverified."""
    return (*(metric.name for metric in experiment.names.quality), "size_bytes", *(f"latency_ms@{key}" for key in host_threads(experiment)))
