"""Early exits of an artifact against what it promises: how many inputs reach each stage, and what an inference then takes on average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.names import parse_device
from evaluators.devices.this_host import DEFAULT_THREADS
from search.artifact import Artifact
from search.verifying.report import Check

__all__ = ["EXPECTED_TOLERANCE", "latency_check", "rate_checks"]

_RATE_TOLERANCE = 0.02
EXPECTED_TOLERANCE = 0.15
"""By which share an inference may take longer than expected."""


def rate_checks(found: NDArray[np.int64], promised: NDArray[np.int64] | None, after: list[str]) -> Iterator[Check]:
    """The share of inputs that go on after each exit.

    Args:
        found: the stage at which each example of ``report`` leaves, in the artifact's runtime.
        promised: the same in torch; None where the artifact does not say.
        after: names of the exits' blocks.
    """
    for i, name in enumerate(after):
        share = float((found > i).mean())
        if promised is None or len(promised) != len(found):
            yield Check(f"reached_{i + 2}", None, share, kept=None, note=f"share of report that goes on after {name}")
            continue
        before = float((promised > i).mean())
        same = float(((promised > i) == (found > i)).mean())
        kept = abs(share - before) <= _RATE_TOLERANCE
        yield Check(f"reached_{i + 2}", before, share, kept=kept, note=f"share of report that goes on after {name}; {same:.1%} of examples decide alike")


def latency_check(artifact: Artifact, runs: Sequence[Mapping[str, float]], threads: int) -> list[Check]:
    """Measured over real inputs against the expectation, where the artifact promises one for this machine with so many threads.

    What is judged is the ratio to the uncompressed model, which took turns with it: neither whatever else keeps this machine busy counts, nor that it is
    slower today than when it was calibrated.

    Args:
        artifact: with early exits.
        runs: of each process ``own`` and, where there was an uncompressed model, ``plain``, milliseconds.
        threads: within an operator.
    """
    key = next((k for k in artifact.promised if k.startswith("latency_ms@this-host") and _threads(k.partition("@")[2]) == threads), None)
    if key is None:
        return []
    expected = artifact.promised[key]
    own = float(np.median([run["own"] for run in runs]))
    checks = [Check("expected_latency_ms", expected.value, own, kept=None, note=f"{own / expected.value - 1:+.1%} of what measured exit rates let expect")]
    if all("plain" in run for run in runs):
        promised = expected.value / artifact.uncompressed[key].value
        found = float(np.median([run["own"] / run["plain"] for run in runs]))
        note = "to the uncompressed model, which took turns with it on the same inputs"
        checks.append(Check("expected_ratio", promised, found, kept=found <= (1 + EXPECTED_TOLERANCE) * promised, note=note))
    return checks


def _threads(device: str) -> int:
    return parse_device(device).threads or DEFAULT_THREADS
