"""What ``verify`` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evaluators.metric import Estimate

__all__ = ["Check", "Report", "Verdict"]

Verdict = Literal["kept", "no speed-up", "regressed", "corrupt"]


@dataclass(frozen=True, slots=True)
class Check:
    """One figure.

    Attributes:
        name: of the metric, or ``outputs``, ``file_bytes``, ``latency_ms``, ``load_ms (uncompressed)`` and the like.
        promised: None where nothing was.
        found: None where it could not be measured; ``note`` says why.
        kept: None where it is shown, not judged.
        note: for people.
        low, high: what ``found`` may as well have been: the 90 % interval of a quality, the range over processes of a time; None where there is neither.
        difference: of ``found`` to the same model in torch, on the same examples, with its 90 % interval; where the artifact has those of torch.
    """

    name: str
    promised: float | None
    found: float | None
    kept: bool | None
    note: str = ""
    low: float | None = None
    high: float | None = None
    difference: Estimate | None = None

    @property
    def reason(self) -> str:
        """What is wrong, by how much."""
        if self.found is None or self.promised is None:
            return f"{self.name}: {self.note}"
        return f"{self.name}: promised {self.promised:.6g}, found {self.found:.6g} ({self.found - self.promised:+.4g})"


@dataclass(frozen=True, slots=True)
class Report:
    """What was found.

    Attributes:
        verdict: of the whole artifact.
        checks: each figure.
        reasons: what is wrong, or why it is no faster; empty for ``kept``.
        notes: what else one may want to know, such as operators that TensorRT does not accept.
    """

    verdict: Verdict
    checks: tuple[Check, ...]
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the artifact is what it says: ``kept``, or ``no speed-up``, which is only a fact about this machine."""
        return self.verdict in ("kept", "no speed-up")
