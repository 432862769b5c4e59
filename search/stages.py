"""The Ray-free runner of a recipe's stages, over the content-addressed cache."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compressors.checkpoint import CHECKPOINT_VERSION
from compressors.compressor import GraphEdit
from compressors.context import Context
from compressors.errors import DivergedError, OutOfMemoryError
from compressors.graph import Shapes
from compressors.graph.surgery import STRUCTURE_VERSION
from compressors.recipe import Recipe
from compressors.scoring import depends_on_target, scores_of
from evaluators.metric import Estimate
from evaluators.tasks.array_task import module_predict
from search.cache import Cache
from search.preparing import Prepared, state_key
from search.record import StageRecord
from search.stored_model import read_model, structure_of, write_model

__all__ = ["Outcome", "StageRunner"]

_STAGES_VERSION = 2
_EVALUATION_VERSION = 2
_STRUCTURE, _METRICS = "structure.json", "metrics.json"


@dataclass(frozen=True)
class Outcome:
    """What a recipe came to.

    Attributes:
        metrics: exact and predicted of the model that was made, which a step that decides while it runs may leave larger than planned; and observed.
        stages: in order.
        widths: units before and after, by axis, where they changed.
        logs: training lines.
        bounds: what bounds its kernels on each device.
    """

    metrics: dict[str, Estimate]
    stages: tuple[StageRecord, ...]
    widths: dict[str, tuple[int, int]]
    logs: tuple[str, ...]
    bounds: dict[str, dict[str, Any]] = field(default_factory=dict)


class StageRunner:
    """Runs recipes on what ``prepare`` has made ready.

    Args:
        prepared: shared by all trials.
        cache: stages that were computed before are loaded from it.
        log: receives one plain line at a time.
    """

    def __init__(self, prepared: Prepared, cache: Cache, log: Callable[[str], None] | None = None) -> None:
        self.prepared = prepared
        self.cache = cache
        self._log = log
        self._scores: dict[str, Mapping[str, NDArray[np.float64]]] = {}
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._stages: list[StageRecord] = []
        self._logs: list[str] = []

    def plan(self, recipe: Recipe) -> tuple[GraphEdit, ...]:
        """The accumulated edits of a recipe. Scores are computed (or loaded) on the way.

        Raises:
            CompressionError: the recipe cannot be applied to this model.
        """
        for criterion in recipe.criteria():
            self.score(criterion)
        return recipe.plan(self.prepared.graph, self._scores)

    def score(self, criterion: str) -> Mapping[str, NDArray[np.float64]]:
        """One of the scores that recipes are planned on, from the cache where it was computed before."""
        if criterion not in self._scores:
            self._scores[criterion] = self._score(criterion)
        return self._scores[criterion]

    def price(self, recipe: Recipe) -> dict[str, Estimate]:
        """Exact and predicted metrics, without building the model."""
        edits = self.plan(recipe)
        return self.prepared.cost(edits[-1] if edits else GraphEdit.identity(self.prepared.graph))

    def run(self, recipe: Recipe, *, replicate: int = 0, budget: float = 1.0, split: str = "search") -> Outcome:
        """Compress and evaluate.

        Raises:
            TrialError: an expected failure of the recipe.
        """
        try:
            return self._run(recipe, replicate, budget, split)
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
                raise
            last = self._stages[-1].name if self._stages else "the start"
            raise OutOfMemoryError(f"memory ran out after {last}: {(str(error).splitlines() or [type(error).__name__])[0]}") from error

    def key(self, recipe: Recipe, *, replicate: int = 0, budget: float = 1.0, split: str = "search") -> str:
        """Of the stage that evaluates a recipe: stands for everything that its outcome depends on."""
        return self._evaluation_key(self._keys(recipe, replicate, budget), split)

    @property
    def stages(self) -> tuple[StageRecord, ...]:
        """Of the current or last run, as far as it came."""
        return tuple(self._stages)

    @property
    def logs(self) -> tuple[str, ...]:
        """Of the current or last run, as far as it came."""
        return tuple(self._logs)

    def _run(self, recipe: Recipe, replicate: int, budget: float, split: str) -> Outcome:
        self._stages, self._logs = [], []
        graph = self.prepared.graph
        edits = self.plan(recipe)
        keys = self._keys(recipe, replicate, budget)
        evaluation = self._evaluation_key(keys, split)
        started = time.monotonic()
        found = self.cache.get(evaluation)
        if found is None:
            model = self._build(recipe, edits, keys, budget)
            started = time.monotonic()
            values, structure = self._evaluate(model, split), structure_of(model)

            def write(folder: Path) -> None:
                _write_json(folder / _METRICS, {k: v.to_plain() for k, v in values.items()})
                _write_json(folder / _STRUCTURE, structure)

            self.cache.put(evaluation, write)
        else:
            values = {k: Estimate.from_plain(v) for k, v in json.loads((found / _METRICS).read_text()).items()}
            structure = json.loads((found / _STRUCTURE).read_text())
        self._stages.append(StageRecord("evaluate", evaluation, found is not None, time.monotonic() - started))
        final = (edits[-1] if edits else GraphEdit.identity(graph)).as_made(structure)
        widths = {a.name: (a.size, len(final.kept[a.name])) for a in graph.axes if a.name in final.kept and len(final.kept[a.name]) != a.size}
        return Outcome({**self.prepared.cost(final), **values}, tuple(self._stages), widths, tuple(self._logs), self.prepared.bounds(final))

    def model(self, recipe: Recipe, *, replicate: int = 0, budget: float = 1.0) -> nn.Module:
        """The compressed model, from cached stages where they exist."""
        self._stages, self._logs = [], []
        edits = self.plan(recipe)
        return self._build(recipe, edits, self._keys(recipe, replicate, budget), budget)

    def shapes(self, recipe: Recipe, model: nn.Module) -> Shapes:
        """Of the model that a recipe has made, one row."""
        edits = self.plan(recipe)
        return (edits[-1] if edits else GraphEdit.identity(self.prepared.graph)).as_made(structure_of(model)).shapes(self.prepared.graph)

    def _root(self) -> str:
        p = self.prepared
        layout = (_STAGES_VERSION, CHECKPOINT_VERSION, STRUCTURE_VERSION, p.graph.fingerprint)
        return state_key("model", *layout, p.model_key, p.data_key, p.versions["torch"], p.versions.get("torchao", ""), self.device.type, "float32")

    def _keys(self, recipe: Recipe, replicate: int, budget: float) -> list[str]:
        keys: list[str] = []
        parent, runtime = self._root(), ""
        for step in recipe.steps:
            # A live model is the same for every runtime: what one has trained, another only quantizes.
            runtime = self.prepared.target.name if step.name == "quantize" else runtime
            fidelity = (self.prepared.experiment.search.seed, replicate, budget) if step.stochastic else ()
            parent = state_key(parent, step.name, step.version, sorted(step.to_config().items(), key=str), runtime, fidelity)
            keys.append(parent)
        return keys

    def _evaluation_key(self, keys: list[str], split: str) -> str:
        return state_key("evaluate", _EVALUATION_VERSION, keys[-1] if keys else self._root(), split, self.prepared.data_key)

    def _context(self, key: str, budget: float) -> Context:
        p = self.prepared
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
        return Context(p.task, p.model, p.graph, p.task.example_inputs, p.target, seed, budget, self.device, self._line)

    def _line(self, line: str) -> None:
        self._logs.append(line)
        if self._log is not None:
            self._log(line)

    def _score(self, criterion: str) -> Mapping[str, NDArray[np.float64]]:
        p = self.prepared
        key = state_key("score", self._root(), criterion, *([p.target.name] if depends_on_target(criterion) else []))
        started = time.monotonic()
        with self.cache.computing(key):
            found = self.cache.get(key)
            if found is None:
                values = scores_of(p.model, p.graph, criterion, p.task, p.target)
                self.cache.put(key, lambda folder: np.savez(str(folder / "scores.npz"), allow_pickle=False, **values))
            else:
                with np.load(found / "scores.npz", allow_pickle=False) as stored:
                    values = {name: stored[name] for name in stored.files}
        self._stages.append(StageRecord(f"score {criterion}", key, found is not None, time.monotonic() - started))
        return values

    def _build(self, recipe: Recipe, edits: tuple[GraphEdit, ...], keys: list[str], budget: float) -> nn.Module:
        model, first = self._longest_prefix(recipe, keys)
        edit = edits[first - 1].as_made(structure_of(model)) if first else GraphEdit.identity(self.prepared.graph)
        for step, key in list(zip(recipe.steps, keys, strict=True))[first:]:
            started = time.monotonic()
            # What earlier steps have really made decides, not what they were planned to make.
            edit = step.plan(self.prepared.graph, self._scores, edit)
            if step.name == "quantize":
                # Its observers and the evaluation that follows are one stage: `evaluate`, whose result is what is kept.
                model = step.apply(model, edit, self._context(key, budget))
                continue
            # Trials that run side by side may share a prefix: one computes it, the others wait.
            with self.cache.computing(key):
                found = self.cache.get(key)
                if found is not None:
                    model = read_model(found, self.prepared)
                else:
                    model = step.apply(model, edit, self._context(key, budget))
                    self.cache.put(key, partial(write_model, model))
            edit = edit.as_made(structure_of(model))
            self._stages.append(StageRecord(step.name, key, found is not None, time.monotonic() - started))
        return model

    def _longest_prefix(self, recipe: Recipe, keys: list[str]) -> tuple[nn.Module, int]:
        for i in reversed([i for i, step in enumerate(recipe.steps) if step.name != "quantize"]):
            started = time.monotonic()
            found = self.cache.get(keys[i])
            if found is not None:
                model = read_model(found, self.prepared)
                before = [(s.name, k) for s, k in zip(recipe.steps[:i], keys[:i], strict=True) if s.name != "quantize"]
                self._stages += [StageRecord(name, k, cached=True, seconds=0.0) for name, k in before]
                self._stages.append(StageRecord(recipe.steps[i].name, keys[i], cached=True, seconds=time.monotonic() - started))
                return model, i + 1
        return self.prepared.model, 0

    def _evaluate(self, model: nn.Module, split: str) -> dict[str, Estimate]:
        values = self.prepared.task.metrics(module_predict(model), split)
        for name, value in values.items():
            if not np.isfinite(value.value):
                raise DivergedError(f"{name} on {split} is {value.value}")
        return values


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, sort_keys=True))
