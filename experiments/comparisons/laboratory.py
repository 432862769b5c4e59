"""Recipes applied to one model and measured: quality on ``report`` over seeds, what is stored, and latency in the runtime itself, all files taking turns."""

from __future__ import annotations

import platform
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from compressors.compressor import GraphEdit
from compressors.errors import TrialError
from compressors.recipe import Recipe
from evaluators.devices import device_named
from evaluators.metric import Estimate
from experiments.benchmarks.interleaved import compare
from search.artifact_files import ArtifactSource, varied, write_artifact
from search.cache import Cache
from search.evidence import write_promised, write_raw
from search.experiment import Experiment
from search.preparing import prepare
from search.record import TrialRecord
from search.stages import StageRunner

__all__ = ["Laboratory", "Row", "Step", "side_by_side"]

Step = Mapping[str, Any]
"""Of a plain recipe: the settings of one compressor, by its name."""

_SECONDS = 1.0


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        label: what was done.
        values: figures by column; None where there is none.
        note: why it has none.
    """

    label: str
    values: Mapping[str, float | None]
    note: str = ""


@dataclass
class Laboratory:
    """One model and its data.

    Args:
        experiment: path of an experiment; its own recipe does not matter.
        settings: ``key=value`` of it.
        recovery: the training that follows what damages the model.
        seeds: trainings of each recipe.
        threads: of the runtime that is timed.
    """

    experiment: str
    settings: Sequence[str] = ()
    recovery: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 1
    threads: int = 1

    def __post_init__(self) -> None:
        cache = Cache()
        self.prepared = prepare(Experiment.load(self.experiment, list(self.settings)), cache, _said)
        self.runner = StageRunner(self.prepared, cache, _said)
        self.quality = self.prepared.task.quality[0]

    @property
    def recover(self) -> list[dict[str, Any]]:
        """The step of recovery."""
        return [{"distill": dict(self.recovery)}]

    def rows(self, recipes: Mapping[str, Sequence[Step]], *, timed: bool = True) -> list[Row]:
        """A row for each recipe; the first is what ratios and differences are of. See ``side_by_side``."""
        return side_by_side({label: (self, recipe) for label, recipe in recipes.items()}, timed=timed)

    def priced(self, recipe: Sequence[Step], device: str) -> dict[str, Estimate]:
        """What a device model says of a recipe, by metric; nothing is trained.

        Raises:
            UserError: no such device.
            TrialError: the recipe cannot be applied.
        """
        asked = Recipe.from_plain(recipe)
        edits, graph = self.runner.plan(asked), self.runner.at(asked).graph
        shapes = (edits[-1] if edits else GraphEdit.identity(graph)).shapes(graph)
        return {name: values.estimate(0) for name, values in device_named(device, self.prepared.target.name).cost(graph, shapes).items()}

    def measured(self, recipe: Recipe) -> dict[str, float | None]:
        """Figures of a recipe's model but its latency, by column.

        Raises:
            TrialError: the recipe cannot be applied.
        """
        runs = [self.runner.run(recipe, replicate=n, split="report").metrics for n in range(self.seeds if _trains(recipe) else 1)]
        each = [run[self.quality.name] for run in runs]
        mean, half = float(np.mean([e.value for e in each])), float(np.mean([(e.high - e.low) / 2 for e in each]))
        spread = statistics.stdev(e.value for e in each) if len(each) > 1 else None
        known = {name: runs[0][name].value for name in ("parameters", "macs", "size_bytes")}
        return {"quality": mean, "quality_low": mean - half, "quality_high": mean + half, "quality_sd": spread, **known}

    def artifact(self, plain: Sequence[Step], folder: Path) -> None:
        """Write what ``compareto export`` would of a trial with this recipe, into a new folder.

        Raises:
            TrialError: the recipe cannot be applied, or its model not be exported.
        """
        recipe, runner, prepared = Recipe.from_plain(plain), self.runner, self.prepared
        model, found, report = runner.model(recipe), runner.run(recipe), runner.run(recipe, split="report")
        before = {**runner.run(Recipe()).metrics, **runner.run(Recipe(), split="report").metrics}
        record = TrialRecord(folder.name, recipe.to_plain(), "ok", metrics=found.metrics, widths=found.widths, candidate=found.candidate)
        folder.mkdir(parents=True)
        write_raw(folder, prepared.experiment, prepared.task, varied(prepared.task))
        write_promised(folder, prepared.task, model)
        write_artifact(ArtifactSource(prepared, model, recipe, record, report.metrics, before, ("comparison", ""), runner.shapes(recipe, model)), folder)

    @property
    def provenance(self) -> dict[str, Any]:
        """What figures depend on."""
        return {
            "experiment": Path(self.experiment).name,
            "settings": list(self.settings),
            "seeds": self.seeds,
            "threads of the runtime": self.threads,
            "machine": f"{platform.machine()}, {_processor()}",
            "versions": {k: v for k, v in self.prepared.versions.items() if k in ("compareto", "python", "torch", "torchao", "onnxruntime", "transformers")},
            "model": self.prepared.model_key[:16],
            "data": self.prepared.data_key[:16],
        }


def side_by_side(cases: Mapping[str, tuple[Laboratory, Sequence[Step]]], *, timed: bool = True) -> list[Row]:
    """A row for each laboratory and recipe; the first is what ratios and differences are of, and what all take the inputs of, but those with ``input_size``.

    Columns: ``quality`` (mean over seeds), ``quality_low`` and ``quality_high`` (of the examples, 90 %), ``quality_sd`` (between seeds), ``parameters``,
    ``macs``, ``size_bytes``, ``latency_ms`` (median of several processes in turn), ``latency_ratio``.
    """
    found: dict[str, dict[str, float | None]] = {}
    notes: dict[str, str] = {}
    own: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, Path] = {}
        for label, (laboratory, plain) in cases.items():
            recipe = Recipe.from_plain(plain)
            _said(f"-- {label}")
            try:
                found[label] = laboratory.measured(recipe)
                if timed:
                    place = Path(folder) / str(len(files))
                    place.mkdir()
                    prepared = laboratory.runner.at(recipe)
                    if prepared.native is not None:
                        own[label] = {name: np.asarray(value) for name, value in prepared.task.example_inputs.items()}
                    files[label] = prepared.target.export(laboratory.runner.model(recipe), prepared.task.example_inputs, place)
            except TrialError as error:
                notes[label] = str(error).splitlines()[0]
                found.setdefault(label, {})
        if files:
            first = next(iter(cases.values()))[0]
            inputs = {name: np.asarray(value) for name, value in first.prepared.task.example_inputs.items()}
            times = compare(files, inputs, Path(folder), first.threads, _SECONDS, own)
            reference = times[next(iter(files))]
            for label, time in times.items():
                found[label] |= {"latency_ms": time.median, "latency_ratio": time.ratio(reference)[0]}
    return [Row(label, values, notes.get(label, "")) for label, values in found.items()]


def _trains(recipe: Recipe) -> bool:
    return any(step.stochastic for step in recipe.steps)


def _processor() -> str:
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def _said(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
