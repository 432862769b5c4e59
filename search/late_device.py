"""A finished study priced on a device that was not in it: arithmetic on what the records and the traced model say, no training and no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressors.errors import UserError
from compressors.graph.model_graph import ModelGraph
from compressors.graph.shapes import Shapes
from compressors.graph.stored import read_graph
from compressors.sizing import Sizing
from evaluators.devices import resolve_device
from evaluators.devices.expected import expected_costs
from evaluators.exit_rates import ExitRates
from evaluators.metric import Estimate
from search.device_costs import in_blocks, study_device
from search.grouping import in_groups
from search.study_files import GRAPH, GRAPHS

if TYPE_CHECKING:
    from search.record import TrialRecord
    from search.results import Results

__all__ = ["priced", "rates_of", "shapes_of", "size_of"]


def priced(results: Results, device: str) -> Results:
    """The results with the costs of every trial on ``device``, and its predicted objectives moved there.

    Raises:
        UserError: no such device, or a study whose records do not say what they take to be priced.
    """
    experiment = results.experiment
    try:
        key = resolve_device(device, experiment.target)
    except UserError as error:
        listed = f"; devices of the study: {', '.join(experiment.devices)}" if experiment.devices else ""
        raise UserError(f"{error}{listed}") from None
    if key in experiment.devices:
        return dataclasses.replace(results, experiment=experiment.on(key))
    records = [r for r in results.records if r.status == "ok"]
    path = None if results.folder is None else results.folder / GRAPH
    if path is None or not path.is_file() or not all(r.candidate for r in records):
        raise UserError(
            f"study {results.name!r} cannot be priced on {key}: an older compareto wrote it, which kept neither the traced model nor each trial's widths and "
            f"bits; run the experiment again with this device (what was trained is in the cache)"
        )
    model = study_device(key, experiment.target, experiment.workload.requests_per_hour)
    graph = read_graph(path.read_bytes(), str(path))

    def price(traced: ModelGraph, block: Shapes, rates: Sequence[ExitRates] | None) -> list[dict[str, Estimate]]:
        found = expected_costs(model, traced, block, rates) if rates else model.cost(traced, block)
        return [{f"{name}@{key}": values.estimate(i) for name, values in found.items()} for i in range(len(block))]

    def price_alike(some: list[TrialRecord]) -> list[dict[str, Estimate]]:
        size = size_of(some[0])
        traced = graph if size is None else _graph_at(path.parent / GRAPHS / f"{size}.json", results.name, key)
        return in_blocks(shapes_of(some), rates_of(some), partial(price, traced))

    costs = dict(zip([r.id for r in records], in_groups(records, size_of, price_alike), strict=True))
    everything = tuple(dataclasses.replace(r, metrics={**r.metrics, **costs[r.id]}) if r.id in costs else r for r in results.records)
    limits = {**results.memory_bytes, key: model.memory_bytes}
    return dataclasses.replace(results, experiment=experiment.on(key), records=everything, memory_bytes=limits)


def size_of(record: TrialRecord) -> str | None:
    """Of a record's inputs, such as ``24x24``; None where it is the data's."""
    size = record.candidate.get("input_size")
    return None if size is None else Sizing.from_plain(size).label


def _graph_at(path: Path, study: str, key: str) -> ModelGraph:
    if not path.is_file():
        raise UserError(f"study {study!r} cannot be priced on {key}: {path} is missing, the model at the input size of some of its trials")
    return read_graph(path.read_bytes(), str(path))


def shapes_of(records: Sequence[TrialRecord]) -> Shapes:
    """One row for each record's candidate."""

    def rows(name: str, kind: Any) -> Any:
        return np.array([r.candidate[name] for r in records], dtype=kind)

    widths, weights, activations, granularity = (rows(name, np.int64) for name in ("widths", "weight_bits", "activation_bits", "granularity"))
    return Shapes(widths, weights, activations, granularity, rows("symmetric", np.bool_), rows("dynamic", np.bool_))


def rates_of(records: Sequence[TrialRecord]) -> list[ExitRates | None]:
    """For each record how many inputs reached each stage of its model; None of one without early exits."""
    return [ExitRates.from_plain(r.candidate.get("exits")) for r in records]
