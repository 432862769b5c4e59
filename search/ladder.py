"""``export --ladder``: several points of a front in one folder, with a runner that picks one for each request.

ladder.json       the rungs, fastest first: id, folder, quality on report, latency and what else is promised
rungs/ID/         each an artifact of its own
ladder.py         the runner; bench.py beside it opens the models. Need numpy and the models' runtime
checksums.json    SHA-256 of every other file
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from compressors.errors import UserError
from compressors.sizing import Sizing
from evaluators.devices.names import THIS_HOST
from search.artifact import BENCH, new_folder
from search.bench import read_examples
from search.checksums import EXAMPLES, LADDER, write_checksums, write_json
from search.export import export_trial
from search.ladder_run import LADDER_VERSION, size_of
from search.record import TrialRecord
from search.results import Results

__all__ = ["chosen_rungs", "export_ladder"]

_WARM_C, _STEP_C = 60.0, 5.0
"""Phones and boards begin to slow down at 70 to 85 degrees (docs/devices.md): the ladder steps down before that. An estimate; ladder.json may be changed."""


def export_ladder(results: Results, count: int, out: Path, *, form: str = "onnx", device: str | None = None, log: Callable[[str], None] = print) -> Path:
    """Write a ladder of ``count`` points of the front of quality against latency.

    Args:
        results: of the study.
        count: of rungs, at least 2; where the front has fewer points, all of them.
        out: a new or empty folder.
        form: of the artifacts, see ``search.export.FORMATS``.
        device: whose latency counts; by default this machine where it is one of the study's devices, else the first of them.
        log: receives progress, a line at a time.

    Raises:
        UserError: fewer than two rungs; no device; see ``export_trial``.
        UnexportableError: see there.
    """
    if count < 2:
        raise UserError(f"--ladder {count}: accepted: at least 2 rungs")
    key = _device(results, device)
    quality, latency = results.experiment.names.resolve(results.experiment.names.quality[0].name), results.experiment.names.resolve(f"latency_ms@{key}")
    front = results.ranked_front((quality, latency))
    records = chosen_rungs(front, latency[0], count)
    if len(records) < 2:
        raise UserError(f"--ladder: the front of {quality[0]} against {latency[0]} has {len(front)} point; accepted: a study with at least 2")
    sizes_of = {record.id: _taken(record) for record in records}
    if len(set(sizes_of.values())) > 1:
        listed = ", ".join(f"{name} {label}" for name, label in sizes_of.items())
        raise UserError(f"--ladder: its models take inputs of several sizes ({listed}), and a request is prepared once; accepted: points of one input size")
    if len(records) < count:
        log(f"the front has {len(records)} points: the ladder has as many rungs")
    used = results.split("report")
    with new_folder(out) as partial:
        rungs, sizes = [], []
        for record in records:
            folder = Path("rungs") / record.id
            (partial / "rungs").mkdir(exist_ok=True)
            export_trial(results, record.id, partial / folder, form=form, log=log)
            first = {name: value[:1] for name, value in read_examples(partial / folder / EXAMPLES)[0].items()}
            sizes.append(size_of(first) * results.experiment.workload.batch)
            metrics = {n: e.value for n, e in record.metrics.items() if n in ("size_bytes", f"energy_mj@{key}", f"peak_memory_bytes@{key}")}
            figures = {"quality": results.estimate(record, quality[0], used).value, "latency_ms": record.metrics[latency[0]].value, **metrics}
            rungs.append({"id": record.id, "folder": folder.as_posix(), **figures})
        plan = {
            "ladder_version": LADDER_VERSION,
            "study": results.name,
            "device": key,
            "metric": quality[0],
            "direction": quality[1].direction,
            "split": used,
            "size": max(sizes),
            "warm_c": _WARM_C,
            "step_c": _STEP_C,
            "rungs": rungs,
        }
        write_json(partial / LADDER, plan)
        shutil.copyfile(Path(__file__).with_name("ladder_run.py"), partial / "ladder.py")
        for name in BENCH:
            shutil.copyfile(Path(__file__).with_name(name), partial / name)
        write_checksums(partial)
    return out


def _taken(record: TrialRecord) -> str:
    """The size of inputs that a record's model takes; one that crops them itself takes them whole."""
    size = record.candidate.get("input_size")
    return "the data's" if size is None or size["how"] == "informative" else Sizing.from_plain(size).label


def chosen_rungs(front: tuple[TrialRecord, ...], latency: str, count: int) -> list[TrialRecord]:
    """So many points, from the fastest to the best, in steps of about equal ratios of latency.

    Args:
        front: nothing in it is both faster and better than another.
        latency: name of the metric.
        count: of points; all where there are fewer.
    """
    points = sorted(front, key=lambda record: record.metrics[latency].value)
    if len(points) <= count:
        return points
    logs = np.log([record.metrics[latency].value for record in points])
    chosen: list[int] = []
    for wanted in np.linspace(logs[0], logs[-1], count):
        left = [i for i in range(len(points)) if i not in chosen]
        chosen.append(min(left, key=lambda i: abs(float(logs[i]) - wanted)))
    return [points[i] for i in sorted(chosen)]


def _device(results: Results, device: str | None) -> str:
    listed = results.experiment.devices
    if not listed:
        raise UserError("--ladder: the study has no devices, so that no latency is known; accepted: a study with devices")
    if device is not None:
        return results.experiment.names.resolve(f"latency_ms@{device}")[0].partition("@")[2]
    return next((key for key in listed if key.startswith(THIS_HOST)), listed[0])
