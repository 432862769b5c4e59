"""The Ray-free runner of a recipe's stages, over the content-addressed cache."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compressors.compressor import GraphEdit
from compressors.context import Context
from compressors.errors import DivergedError, OutOfMemoryError
from compressors.graph import Shapes
from compressors.graph.exit_heads import exits_in
from compressors.graph.exits import Exits
from compressors.recipe import Recipe
from compressors.scoring import depends_on_target, scores_of
from compressors.teacher_outputs import OutputStore
from compressors.teacher_spec import TeacherSpec
from evaluators.devices.calibration.anchors import Candidate
from evaluators.exit_rates import ExitRates, StageRecorder
from evaluators.metric import Estimate
from evaluators.tasks.array_task import module_predict
from search.cache import Cache
from search.example_scores import pack
from search.failure_memory import FailureMemory, memory_ran_out
from search.peak_memory import PeakMemory
from search.preparing import Prepared, state_key
from search.record import StageRecord
from search.sized import Sized
from search.stage_keys import goes_on, last_trained, root_key
from search.stored_model import read_model, structure_of, write_model
from search.stored_outputs import StoredOutputs
from search.teachers import Teacher, load_teacher, teacher_name

__all__ = ["Outcome", "StageRunner", "goes_on", "last_trained"]

_EVALUATION_VERSION = 4
_STRUCTURE, _METRICS, _EXAMPLES, _TRAINING, _EXITS, _MEMORY = (
    "structure.json",
    "metrics.json",
    "examples.json",
    "training.safetensors",
    "exits.json",
    "memory.json",
)


@dataclass(frozen=True)
class Outcome:
    """What a recipe came to.

    Attributes:
        metrics: exact and predicted of the model that was made, which a step that decides while it runs may leave larger than planned; and observed.
        stages: in order.
        widths: units before and after, by axis, where they changed.
        logs: training lines.
        bounds: what bounds its kernels on each device.
        candidate: widths and bits of the model that was made; ``exits`` where it has early ones: where, and how many inputs reach each stage; ``input_size``
            where its inputs are smaller than the data's.
        examples: on ``report``, the main metric's contribution of each example, packed.
    """

    metrics: dict[str, Estimate]
    stages: tuple[StageRecord, ...]
    widths: dict[str, tuple[int, int]]
    logs: tuple[str, ...]
    bounds: dict[str, dict[str, Any]] = field(default_factory=dict)
    candidate: dict[str, Any] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)


class StageRunner:
    """Runs recipes on what ``prepare`` has made ready.

    Args:
        prepared: shared by all trials.
        cache: stages that were computed before are loaded from it.
        log: receives one plain line at a time.

    Attributes:
        outputs: where the outputs of teachers are kept; None runs them beside the student.
    """

    def __init__(self, prepared: Prepared, cache: Cache, log: Callable[[str], None] | None = None) -> None:
        self.prepared = prepared
        self.cache = cache
        self._log = log
        self._scores: dict[str, Mapping[str, NDArray[np.float64]]] = {}
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._stages: list[StageRecord] = []
        self._logs: list[str] = []
        self._failures = FailureMemory(cache, prepared.versions, prepared.model_name)
        self._teachers = dict(prepared.teachers)
        self._baseline_score: float | None = None
        self._sized = Sized(prepared, cache)
        self.outputs: OutputStore | None = StoredOutputs(prepared, cache, self.device.type, lambda spec: self._teacher(spec).fingerprint, self._line)

    def at(self, recipe: Recipe) -> Prepared:
        """What a recipe runs on and is priced by: ``prepared``, or the same for smaller inputs.

        Raises:
            CompressionError: inputs of that size cannot be.
        """
        return self._sized.of(recipe)

    def plan(self, recipe: Recipe) -> tuple[GraphEdit, ...]:
        """The accumulated edits of a recipe, of the graph of ``at``. Scores are computed (or loaded) on the way, those of the model at the data's size.

        Raises:
            CompressionError: the recipe cannot be applied to this model.
        """
        graph = self.at(recipe).graph
        for criterion in recipe.criteria():
            self.score(criterion)
        return recipe.plan(graph, self._scores)

    def score(self, criterion: str) -> Mapping[str, NDArray[np.float64]]:
        """One of the scores that recipes are planned on, from the cache where it was computed before."""
        if criterion not in self._scores:
            self._scores[criterion] = self._score(criterion)
        return self._scores[criterion]

    def price(self, recipe: Recipe) -> dict[str, Estimate]:
        """Exact and predicted metrics, without building the model."""
        edits, prepared = self.plan(recipe), self.at(recipe)
        return prepared.cost(edits[-1] if edits else GraphEdit.identity(prepared.graph))

    def run(self, recipe: Recipe, *, replicate: int = 0, budget: float = 1.0, after: float = 0.0, split: str = "search") -> Outcome:
        """Compress and evaluate.

        Args:
            recipe: what to do.
            replicate: another one has other seeds.
            budget: fraction of the schedule of the last step that trains, in (0, 1]; the beginning of what the whole would do.
            after: a smaller budget at which it was run before; where its result is in the cache, training goes on from there.
            split: to evaluate on.

        Raises:
            TrialError: an expected failure of the recipe.
        """
        try:
            return self._run(recipe, replicate, budget, after, split)
        except (MemoryError, RuntimeError) as error:
            if not memory_ran_out(error):
                raise
            last = self._stages[-1].name if self._stages else "the start"
            raise OutOfMemoryError(f"memory ran out after {last}: {(str(error).splitlines() or [type(error).__name__])[0]}") from error

    def key(self, recipe: Recipe, *, replicate: int = 0, budget: float = 1.0, split: str = "search") -> str:
        """Of the stage that evaluates a recipe: stands for everything that its outcome depends on."""
        return self._evaluation_key(recipe, self._keys(recipe, replicate, budget), split)

    @property
    def stages(self) -> tuple[StageRecord, ...]:
        """Of the current or last run, as far as it came."""
        return tuple(self._stages)

    @property
    def logs(self) -> tuple[str, ...]:
        """Of the current or last run, as far as it came."""
        return tuple(self._logs)

    def _run(self, recipe: Recipe, replicate: int, budget: float, after: float, split: str) -> Outcome:
        self._stages, self._logs = [], []
        prepared = self.at(recipe)
        graph = prepared.graph
        edits = self.plan(recipe)
        keys = self._keys(recipe, replicate, budget)
        evaluation = self._evaluation_key(recipe, keys, split)
        values, structure, examples, rates = self._evaluated(recipe, edits, keys, evaluation, replicate, budget, after, split)
        final = (edits[-1] if edits else GraphEdit.identity(graph)).as_made(structure)
        widths = {a.name: (a.size, len(final.kept[a.name])) for a in graph.axes if a.name in final.kept and len(final.kept[a.name]) != a.size}
        metrics, candidate = {**prepared.cost(final, rates), **values}, Candidate.of(final.shapes(graph)).model_dump(mode="json")
        if rates is not None:
            candidate["exits"] = rates.to_plain()
        if prepared.task.sizing is not None:
            candidate["input_size"] = prepared.task.sizing.to_plain()
        return Outcome(metrics, tuple(self._stages), widths, tuple(self._logs), prepared.bounds(final), candidate, examples)

    def _evaluated(
        self, recipe: Recipe, edits: tuple[GraphEdit, ...], keys: list[str], evaluation: str, replicate: int, budget: float, after: float, split: str
    ) -> tuple[dict[str, Estimate], dict[str, Any] | None, dict[str, str], ExitRates | None]:
        """Quality, the structure that was made, on ``report`` the quality of each example, and how many left at each exit, of the stage ``evaluation``."""
        started = time.monotonic()
        # Another search may be about the same recipe: one evaluates it, the other waits.
        with self.cache.computing(evaluation):
            found = self.cache.get(evaluation)
            if found is None:
                for name, key in (*zip((step.name for step in recipe.steps), keys, strict=True), ("evaluate", evaluation)):
                    self._fail_again(name, key)
                model = self._build(recipe, edits, keys, replicate, budget, after)
                started = time.monotonic()
                with self._failures.remembering("evaluate", evaluation):
                    (values, examples, rates), structure = self._evaluate(model, self.at(recipe), split), structure_of(model)

                def write(folder: Path) -> None:
                    _write_json(folder / _METRICS, {k: v.to_plain() for k, v in values.items()})
                    _write_json(folder / _STRUCTURE, structure)
                    _write_json(folder / _EXAMPLES, examples)
                    if rates is not None:
                        _write_json(folder / _EXITS, rates.to_plain())

                self._put(evaluation, write, "evaluate")
            else:
                values = {k: Estimate.from_plain(v) for k, v in json.loads((found / _METRICS).read_text()).items()}
                structure = json.loads((found / _STRUCTURE).read_text())
                examples = json.loads((found / _EXAMPLES).read_text())
                rates = ExitRates.from_plain(json.loads((found / _EXITS).read_text())) if (found / _EXITS).is_file() else None
        self._stages.append(StageRecord("evaluate", evaluation, found is not None, time.monotonic() - started))
        return values, structure, examples, rates

    def _fail_again(self, stage: str, key: str) -> None:
        """Raise the failure of a stage that is known to fail."""
        started = time.monotonic()
        known = self._failures.recall(key)
        if known is not None:
            self._stages.append(StageRecord(stage, key, cached=True, seconds=time.monotonic() - started))
            raise known

    def _put(self, key: str, write: Callable[[Path], object], stage: str) -> None:
        self.cache.put(key, write, kind=stage, model=self.prepared.model_name)

    def model(self, recipe: Recipe, *, replicate: int = 0, budget: float = 1.0) -> nn.Module:
        """The compressed model, from cached stages where they exist."""
        self._stages, self._logs = [], []
        edits = self.plan(recipe)
        return self._build(recipe, edits, self._keys(recipe, replicate, budget), replicate, budget)

    def shapes(self, recipe: Recipe, model: nn.Module) -> Shapes:
        """Of the model that a recipe has made, one row."""
        edits, graph = self.plan(recipe), self.at(recipe).graph
        return (edits[-1] if edits else GraphEdit.identity(graph)).as_made(structure_of(model)).shapes(graph)

    def _keys(self, recipe: Recipe, replicate: int, budget: float) -> list[str]:
        keys: list[str] = []
        parent, runtime = root_key(self.at(recipe), self.device.type), ""
        last = last_trained(recipe)
        for i, step in enumerate(recipe.steps):
            # A live model is the same for every runtime: what one has trained, another only quantizes.
            runtime = self.prepared.target.name if step.name == "quantize" else runtime
            fidelity = (self.prepared.experiment.search.seed, replicate, budget if i == last else 1.0) if step.stochastic else ()
            parent = state_key(
                parent,
                step.name,
                step.version,
                sorted(step.split_config()[0].items(), key=str),
                runtime,
                fidelity,
                *(self._teacher(spec).fingerprint for spec in step.teachers()),
            )
            keys.append(parent)
        return keys

    def _evaluation_key(self, recipe: Recipe, keys: list[str], split: str) -> str:
        # What only decides how the finished model is run is no part of what made it.
        late = [(step.name, sorted(config.items())) for step in recipe.steps if (config := step.split_config()[1])]
        p = self.at(recipe)
        return state_key("evaluate", _EVALUATION_VERSION, keys[-1] if keys else root_key(p, self.device.type), split, p.data_key, *late)

    def _context(self, p: Prepared, key: str, budget: float) -> Context:
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
        context = Context(p.task, p.whole.model, p.graph, p.task.example_inputs, p.target, seed, budget, self.device, self._line)
        if p.native is not None:
            context = replace(context, sizing=p.task.sizing, native_inputs=p.native.task.example_inputs, original=p.model)
        return replace(context, teachers=lambda spec: self._teacher(spec).model, outputs=self.outputs, baseline=self._baseline)

    def _baseline(self) -> float:
        if self._baseline_score is None:
            self._baseline_score = self.prepared.task.score(self.prepared.model, "search")[1]
        return self._baseline_score

    def _teacher(self, spec: TeacherSpec) -> Teacher:
        name, experiment = teacher_name(spec), self.prepared.experiment
        if name not in self._teachers:
            # Of a recipe that is not the experiment's.
            self._teachers[name] = load_teacher(spec, experiment.model.task, experiment.folder, self.prepared.task)
        return self._teachers[name]

    def _line(self, line: str) -> None:
        self._logs.append(line)
        if self._log is not None:
            self._log(line)

    def _score(self, criterion: str) -> Mapping[str, NDArray[np.float64]]:
        p = self.prepared
        key = state_key("score", root_key(p, self.device.type), criterion, *([p.target.name] if depends_on_target(criterion) else []))
        started = time.monotonic()
        with self.cache.computing(key):
            found = self.cache.get(key)
            if found is None:
                self._fail_again(f"score {criterion}", key)
                with self._failures.remembering(f"score {criterion}", key):
                    values = scores_of(p.model, p.graph, criterion, p.task, p.target)
                self._put(key, lambda folder: np.savez(str(folder / "scores.npz"), allow_pickle=False, **values), f"score {criterion}")
            else:
                with np.load(found / "scores.npz", allow_pickle=False) as stored:
                    values = {name: stored[name] for name in stored.files}
        self._stages.append(StageRecord(f"score {criterion}", key, found is not None, time.monotonic() - started))
        return values

    def _build(self, recipe: Recipe, edits: tuple[GraphEdit, ...], keys: list[str], replicate: int, budget: float, after: float = 0.0) -> nn.Module:
        p = self.at(recipe)
        model, first = self._longest_prefix(recipe, keys)
        edit = edits[first - 1].as_made(structure_of(model)) if first else GraphEdit.identity(p.graph)
        # A part of a schedule is the beginning of the whole: seeds are those of the full budget.
        seeds, last = self._keys(recipe, replicate, 1.0), last_trained(recipe)
        part = self._keys(recipe, replicate, after)[last] if after and last >= 0 else None
        for i, step, key in list(zip(range(len(keys)), recipe.steps, keys, strict=True))[first:]:
            started = time.monotonic()
            context = self._context(p, seeds[i], budget if i == last else 1.0)
            with self._failures.remembering(step.name, key):
                # What earlier steps have really made decides, not what they were planned to make.
                edit = step.plan(p.graph, self._scores, edit)
                if step.name == "quantize":
                    # Its observers and the evaluation that follows are one stage: `evaluate`, whose result is what is kept.
                    model = step.apply(model, edit, context)
                    continue
            # Trials that run side by side may share a prefix: one computes it, the others wait.
            with self.cache.computing(key):
                found = self.cache.get(key)
                if found is not None:
                    model = read_model(found, p)
                else:
                    # Whoever has just been waited for may have failed.
                    self._fail_again(step.name, key)
                    begun = self.cache.get(part) if part is not None and i == last else None
                    if begun is not None:
                        model, context = read_model(begun, p), replace(context, begun=load_file(begun / _TRAINING))
                    kept: list[dict[str, Tensor]] = []
                    if i == last and budget < 1 and step.resumable:
                        context = replace(context, keep=kept.append)
                    memory = PeakMemory(self.device)
                    with self._failures.remembering(step.name, key):
                        model = step.apply(model, edit, context)
                    peak = memory.bytes() if step.stochastic else None
                    self._put(key, partial(_write, model, kept, peak), step.name)
            edit = edit.as_made(structure_of(model))
            self._stages.append(StageRecord(step.name, key, found is not None, time.monotonic() - started, self._peak(key)))
        for step in recipe.steps:
            model = step.settle(model)
        return model

    def _longest_prefix(self, recipe: Recipe, keys: list[str]) -> tuple[nn.Module, int]:
        for i in reversed([i for i, step in enumerate(recipe.steps) if step.name != "quantize"]):
            started = time.monotonic()
            found = self.cache.get(keys[i])
            if found is not None:
                model = read_model(found, self.at(recipe))
                before = [(s.name, k) for s, k in zip(recipe.steps[:i], keys[:i], strict=True) if s.name != "quantize"]
                self._stages += [StageRecord(name, k, cached=True, seconds=0.0, peak_memory_bytes=self._peak(k)) for name, k in before]
                seconds = time.monotonic() - started
                self._stages.append(StageRecord(recipe.steps[i].name, keys[i], cached=True, seconds=seconds, peak_memory_bytes=self._peak(keys[i])))
                return model, i + 1
        return self.at(recipe).model, 0

    def _peak(self, key: str) -> int | None:
        """Memory that a training stage took when it was computed."""
        found = self.cache.get(key)
        path = None if found is None else found / _MEMORY
        return int(json.loads(path.read_text())) if path is not None and path.is_file() else None

    def _evaluate(self, model: nn.Module, prepared: Prepared, split: str) -> tuple[dict[str, Estimate], dict[str, str], ExitRates | None]:
        task = prepared.task
        predict = StageRecorder(module_predict(model))
        examples = task.per_example(predict, split)
        values = task.summarise(examples)
        for name, value in values.items():
            if not np.isfinite(value.value):
                raise DivergedError(f"{name} on {split} is {value.value}")
        exits = exits_in(model)
        found = Exits.from_plain(exits)
        rates = None if exits is None or found is None or predict.stages is None else ExitRates.of(found, exits["threshold"], predict.stages)
        return values, pack(examples[task.quality[0].name]) if split == "report" else {}, rates


def _write(model: nn.Module, kept: Sequence[Mapping[str, Tensor]], peak: int | None, folder: Path) -> None:
    write_model(model, folder)
    if peak is not None:
        _write_json(folder / _MEMORY, peak)
    for state in kept:
        save_file(dict(state), folder / _TRAINING)


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, sort_keys=True))
