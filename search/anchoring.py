"""Anchors as people write them: ``ARTIFACT=12.3ms,2.5W``, ``ARTIFACT=bench.json``, a ``bench.json`` in its artifact's folder, ``EXPERIMENT.yaml=12.3``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pydantic

from compressors.errors import UserError
from evaluators.devices.calibration.anchors import Anchor, Candidate, written_key
from evaluators.devices.names import DeviceKey
from evaluators.devices.profile import load_profile
from search.artifact import Artifact
from search.checksums import SIGNATURE, corrupted
from search.experiment import Experiment

__all__ = ["read_anchor"]

_FORM = (
    "ARTIFACT=12.3ms, ARTIFACT=12.3ms,2.5W, ARTIFACT=bench.json (what its bench.py printed), a bench.json that lies in its artifact, or EXPERIMENT.yaml=12.3"
)
_NUMBER = r"(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_FIGURES = re.compile(rf"(?P<ms>{_NUMBER})\s*(ms)?\s*(,\s*(?P<w>{_NUMBER})\s*W)?", re.IGNORECASE)
_FILE = re.compile(rf"(?P<file>.+?\.json)\s*(,\s*(?P<w>{_NUMBER})\s*W)?", re.IGNORECASE)
_ABOVE_PEAK = 2.0
"""A fused multiply-accumulate count may be generous; a latency in seconds is a thousand times off."""


def read_anchor(text: str, device: DeviceKey) -> Anchor:
    """The anchor that ``--anchor`` names.

    Args:
        text: see the module.
        device: what it was measured on; its profile says what is possible.

    Raises:
        UserError: not of that form; a file that is not there or does not belong to the artifact; measured in another runtime, with another number of threads or
            another batch; faster than the device can be.
    """
    model, equals, figures = text.rpartition("=")
    if not equals:
        path = Path(text).expanduser()
        if path.suffix != ".json":
            raise UserError(f"--anchor {text!r} is not of a form that is accepted: {_FORM}")
        if not (path.parent / SIGNATURE).is_file():
            raise UserError(f"--anchor {text}: lies in no artifact folder, so that its model is not known; write ARTIFACT={text}")
        model, figures = str(path.parent), text
    place = Path(model).expanduser()
    try:
        return _of_experiment(place, figures, device) if place.suffix in (".yaml", ".yml") else _of_artifact(place, figures, device)
    except UserError as error:
        raise UserError(f"--anchor {text}: {error}") from error


def _of_artifact(folder: Path, figures: str, device: DeviceKey) -> Anchor:
    problems = corrupted(folder)
    if problems:
        raise UserError(f"{folder} is not as it was exported: {'; '.join(problems)}")
    artifact = Artifact.load(folder)
    runtime, kept = artifact.signature["runtime"], artifact.provenance
    if runtime != device.runtime:
        raise UserError(f"the artifact is for {runtime}, the device was named with {device.runtime}; accepted: a device with /{runtime}")
    if "exits" in artifact.signature:
        raise UserError("the artifact has early exits, whose time depends on its inputs; accepted: one that always runs whole")
    if "candidate" not in kept:
        raise UserError("the artifact does not say which candidate it is, because an older compareto exported it; export it again")
    try:
        candidate = Candidate.model_validate(kept["candidate"])
    except pydantic.ValidationError as error:
        raise UserError(f"{folder} is not an artifact of compareto export: provenance.json: candidate: {error.errors()[0]['msg']}") from error
    latency_ms, watts, source = _figures(figures, device, artifact)
    _refuse_impossible(latency_ms, artifact.promised["macs"].value, device)
    return Anchor(model=f"{kept['study']} {kept['trial']}", source=source, graph=kept["graph"], candidate=candidate, latency_ms=latency_ms, watts=watts)


def _of_experiment(path: Path, figures: str, device: DeviceKey) -> Anchor:
    """The uncompressed model; it is loaded and traced."""
    from search.loading import load_experiment

    latency_ms, watts, source = _figures(figures, device, None)
    experiment = Experiment.load(path)
    graph = load_experiment(experiment).graph
    _refuse_impossible(latency_ms, graph.macs, device)
    candidate = Candidate.of(graph.baseline())
    return Anchor(model=f"{experiment.name}, uncompressed", source=source, graph=graph.fingerprint, candidate=candidate, latency_ms=latency_ms, watts=watts)


def _figures(text: str, device: DeviceKey, artifact: Artifact | None) -> tuple[float, float | None, str]:
    """Milliseconds, watts, and where they come from."""
    written, file = _FIGURES.fullmatch(text.strip()), _FILE.fullmatch(text.strip())
    found = written or file
    if found is None:
        raise UserError(
            f"{text!r} is no latency; accepted: milliseconds such as 12.3 or 12.3ms, watts behind a comma such as 12.3ms,2.5W, or the JSON of bench.py"
        )
    watts = float(found["w"]) if found["w"] else None
    if written is not None:
        latency_ms, source = float(written["ms"]), "the command line"
    else:
        assert file is not None, "one of the two matched"
        if artifact is None:
            raise UserError("the JSON of bench.py is about an exported model; name its artifact, not an experiment")
        latency_ms, source = _printed(Path(file["file"]).expanduser(), device, artifact), file["file"]
    for name, value in (("a latency", latency_ms), ("a power", watts)):
        if value is not None and value <= 0:
            raise UserError(f"{name} of {value:g} is not positive")
    return latency_ms, watts, source


def _printed(path: Path, device: DeviceKey, artifact: Artifact) -> float:
    """The median latency of what ``bench.py`` printed, if that is of this artifact on this device."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        latency_ms = float(document["latency_ms"]["median"])
        runtime, threads, batch = str(document["runtime"]).split()[0], int(document["threads"]), int(document["batch"])
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{path} is not what bench.py printed: {type(error).__name__}: {error}") from error
    model: Any = document.get("sha256")
    expected = json.loads((artifact.folder / "checksums.json").read_text(encoding="utf-8"))["files"][artifact.model]
    if model is not None and model != expected:
        raise UserError(f"{path} is about another model ({document.get('model')}, sha256 {str(model)[:12]}) than {artifact.folder} ({expected[:12]})")
    if runtime != device.runtime:
        raise UserError(f"{path} was measured in {runtime}, the device was named with {device.runtime}")
    wanted = written_key(device).partition("/")[2].split(":")[1:]
    if device.unit == "cpu" and f"{threads}t" not in wanted:
        place = f"{device.device}/{device.runtime}:{threads}t" if threads else "bench.py --threads N"
        raise UserError(f"{path} was measured with {threads or 'as many threads as the runtime chose'}, {device} means {wanted[0][:-1]}; accepted: {place}")
    workload = int(artifact.signature["workload"].get("batch", 1))
    if batch != workload:
        raise UserError(f"{path} was measured with batches of {batch}, the workload has {workload}; run bench.py --batch {workload}")
    return latency_ms


def _refuse_impossible(latency_ms: float, macs: float, device: DeviceKey) -> None:
    unit = load_profile(device.device).units[device.unit]
    threads = device.threads or int(unit.threads.value)
    peak = max(unit.peak_of(precision, threads) for precision in unit.peak_gmacs)
    rate = macs / (latency_ms * 1e6)
    if rate > _ABOVE_PEAK * peak:
        possible = f"more than the {peak:,.0f} that {device.device} can do in theory"
        raise UserError(f"{latency_ms:g} ms would be {rate:,.0f} GMAC/s, {possible}; is it in milliseconds, and of this model?")
