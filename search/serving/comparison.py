"""Two artifacts served alike, under the same load by turns."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compressors.errors import UserError
from search.quantities import format_bytes
from search.raw_files import read_raw
from search.serving.deployment import serving
from search.serving.load import Load, Outcome, sent
from search.serving.served import Catalogue, Served
from search.serving.settings import ServingSettings

__all__ = ["Measured", "compare", "comparison_json", "comparison_lines", "example_inputs"]

_ROUNDS = 5
_WARM_UP = 50


@dataclass(frozen=True, slots=True)
class Measured:
    """What one artifact did.

    Attributes:
        artifact: ``NAME:VERSION``.
        requests_per_s: answered with 200, over all rounds; ``low`` and ``high`` are the slowest and the fastest round.
        p50_ms, p99_ms: from a request to its answer.
        replica_bytes: resident, of a replica's process after the load.
        model_bytes: of them, what came with the artifact and its runtime.
        statuses: how many answers had each status.
    """

    artifact: str
    requests_per_s: float
    low: float
    high: float
    p50_ms: float
    p99_ms: float
    replica_bytes: int
    model_bytes: int
    statuses: Mapping[int, int]


def compare(
    catalogue: Catalogue,
    settings: ServingSettings,
    *,
    seconds: float,
    concurrency: int,
    per_request: int = 1,
    inputs: Sequence[Any] | None = None,
) -> list[Measured]:
    """Serve both, load them by turns for ``seconds`` each.

    Args:
        catalogue: of two artifacts.
        settings: of both.
        seconds: of load, for each.
        concurrency: requests at a time.
        per_request: inputs of a request.
        inputs: texts, or images in base64; by default the first artifact's own examples.

    Raises:
        UserError: not two artifacts, a setting out of its range, or artifacts that take different inputs; see ``serving``.
    """
    if len(catalogue.served) != 2:
        raise UserError(f"--compare: got {len(catalogue.served)} artifact{'s' * (len(catalogue.served) != 1)}; accepted: two")
    for name, value, least in (("--seconds", seconds, 0.1), ("--concurrency", concurrency, 1), ("--per-request", per_request, 1)):
        if not least <= value < float("inf"):
            raise UserError(f"{name}: got {value:g}; accepted: {least} or more")
    first, second = catalogue.served
    if first.takes != second.takes:
        raise UserError(f"--compare: {first.key} takes {first.takes}, {second.key} {second.takes}; accepted: two that take the same")
    raw = list(inputs) if inputs is not None else example_inputs(first.folder)
    bodies = [json.dumps({"inputs": [raw[(i * per_request + j) % len(raw)] for j in range(per_request)]}).encode() for i in range(len(raw))]
    paths = {one.key: f"/v1/models/{one.name}/versions/{one.version}/predict" for one in catalogue.served}
    rounds: dict[str, list[Outcome]] = {key: [] for key in paths}
    with serving(catalogue, settings):
        for path in paths.values():
            sent(settings.host, settings.port, Load(path, bodies, concurrency, 60, _WARM_UP))
        for _ in range(_ROUNDS):
            for key, path in paths.items():
                rounds[key].append(sent(settings.host, settings.port, Load(path, bodies, concurrency, seconds / _ROUNDS)))
        with urllib.request.urlopen(f"http://{settings.host}:{settings.port}/health", timeout=30) as response:
            status = {f"{one['name']}:{one['version']}": one for one in json.load(response)["models"]}
    return [_measured(one, rounds[one.key], status[one.key]) for one in catalogue.served]


def example_inputs(folder: Path) -> list[Any]:
    """Texts, or images in base64, that an artifact brings along.

    Raises:
        UserError: it has none.
    """
    found = [base64.b64encode(one).decode("ascii") if isinstance(one, bytes) else one for one in read_raw(folder)]
    if not found:
        raise UserError(f"{folder} has no texts or images of its own to send; accepted with --compare: an artifact with raw/")
    return found


def comparison_lines(found: Sequence[Measured]) -> list[str]:
    """A table, and what the second is to the first."""
    width = max(len(one.artifact) for one in found)
    lines = [f"{'':{width}}  {'requests/s':>10}  {'(rounds)':>13}  {'p50 ms':>7}  {'p99 ms':>7}  {'replica':>8}  {'of it model':>11}"]
    for one in found:
        between = f"({one.low:.0f}-{one.high:.0f})"
        memory = f"{format_bytes(one.replica_bytes):>8}  {format_bytes(one.model_bytes):>11}"
        lines.append(f"{one.artifact:{width}}  {one.requests_per_s:10.1f}  {between:>13}  {one.p50_ms:7.1f}  {one.p99_ms:7.1f}  {memory}")
    a, b = found
    ratios = (
        f"{b.requests_per_s / a.requests_per_s:.2f}x the requests/s, {b.p99_ms / a.p99_ms:.2f}x the p99, {b.replica_bytes / a.replica_bytes:.2f}x the memory"
    )
    lines += ["", f"{b.artifact} against {a.artifact}: {ratios}"]
    for one in found:
        other = {status: count for status, count in one.statuses.items() if status != 200}
        if other:
            lines.append(f"{one.artifact}: {', '.join(f'{count} answers of {status}' for status, count in sorted(other.items()))}")
    return lines


def comparison_json(found: Sequence[Measured]) -> str:
    """The same as JSON."""
    names = ("artifact", "requests_per_s", "low", "high", "p50_ms", "p99_ms", "replica_bytes", "model_bytes")
    plain = [{**{name: getattr(one, name) for name in names}, "statuses": {str(k): v for k, v in sorted(one.statuses.items())}} for one in found]
    return json.dumps({"format_version": 1, "artifacts": plain}, indent=1)


def _measured(served: Served, rounds: Sequence[Outcome], status: Mapping[str, Any]) -> Measured:
    latencies = [ms for outcome in rounds for ms in outcome.latencies_ms]
    statuses: Counter[int] = Counter()
    for outcome in rounds:
        statuses.update(outcome.statuses)
    if not latencies:
        raise UserError(f"{served.key} answered no request: {dict(statuses)}")
    each = [len(outcome.latencies_ms) / outcome.seconds for outcome in rounds]
    p50, p99 = np.percentile(latencies, [50, 99])
    resident = int(status["resident_bytes"])
    whole = len(latencies) / sum(outcome.seconds for outcome in rounds)
    return Measured(
        served.key, whole, min(each), max(each), float(p50), float(p99), resident, resident - int(status["empty_bytes"]), dict(sorted(statuses.items()))
    )
