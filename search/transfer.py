"""A study's experiment for another runtime than its target: what an export to it is quantized, priced and judged as."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from compressors.errors import UserError
from compressors.targets import Target
from evaluators.devices import device_named, resolve_device
from evaluators.devices.device_model import PREDICTED
from evaluators.metric import Estimate
from search.device_costs import Transferred
from search.experiment import Experiment
from search.expressions import parse_constraint
from search.figures import figure, short_name
from search.metric_names import MetricNames
from search.preparing import Prepared
from search.record import TrialRecord
from search.results import Results

__all__ = ["changes", "device_in", "transferred"]


def device_in(key: str, runtime: str) -> str | None:
    """The same device, unit and number of threads in another runtime; None where nothing is known about it there."""
    place, _, rest = key.partition("/")
    threads = rest.partition(":")[2]
    try:
        return resolve_device(f"{place}/{runtime}" + (f":{threads}" if threads else ""), runtime)
    except UserError:
        return None


def transferred(prepared: Prepared, target: Target) -> Prepared:
    """``prepared`` with another runtime: devices that have no rates for it are left out, and with them the objectives and constraints that name them."""
    old = prepared.experiment
    moved = {key: device_in(key, target.name) for key in old.devices}
    devices = tuple(dict.fromkeys(key for key in moved.values() if key is not None))
    names = dataclasses.replace(old.names, devices=devices)
    objectives = [_moved(name, moved) for name in old.objectives if devices or name not in PREDICTED]
    constraints = [_moved(old_text, moved) for old_text in old.constraints]
    kept = tuple(dict.fromkeys(name for name in objectives if name is not None)) or (old.names.quality[0].name,)
    plain = {**old.to_plain(), "target": target.name, "devices": list(devices), "objectives": list(kept)}
    plain["constraints"] = [text for text in constraints if text is not None and _readable(text, names)]
    models = {key: Transferred(device_named(key, target.name, requests_per_hour=old.workload.requests_per_hour)) for key in devices}
    return dataclasses.replace(prepared, experiment=Experiment.from_plain(plain), target=target, devices=models)


def _moved(text: str, devices: Mapping[str, str | None]) -> str | None:
    for old in sorted(devices, key=len, reverse=True):
        if f"@{old}" in text:
            new = devices[old]
            return None if new is None else text.replace(f"@{old}", f"@{new}")
    return text


def _readable(text: str, names: MetricNames) -> bool:
    try:
        parse_constraint(text, names)
    except UserError:
        return False
    return True


def changes(results: Results, record: TrialRecord, promised: Mapping[str, Estimate], now: Experiment) -> Iterator[str]:
    """What became of a trial's figures, a line each: quality, bytes, and the costs of each device."""
    then = results.experiment
    for name, before in {**record.metrics, **record.report}.items():
        metric = then.names.resolve(name)[1]
        short, _, device = name.partition("@")
        known = metric.knowledge
        if not device:
            after = promised.get(name)
            if after is None or (known == "exact" and after.value == before.value):
                continue
            split = ", on report" if known == "observed" and name in record.report else ""
            yield f"{name}: {figure(metric, before.value)} -> {figure(metric, after.value)}{split}"
            continue
        key = device_in(device, now.target)
        if key is None or f"{short}@{key}" not in promised:
            if short == "latency_ms":
                yield f"{device}: left out, nothing is known about {now.target} there"
            continue
        after = promised[f"{short}@{key}"]
        yield f"{short_name(name)}: {figure(metric, before.value)} on {device} -> {figure(metric, after.value)} on {key} ({after.tier})"
