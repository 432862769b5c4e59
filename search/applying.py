"""``apply``: one recipe applied to an experiment's model, without a search."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from compressors.checkpoint import save
from compressors.errors import UserError
from compressors.recipe import Recipe, fingerprint
from evaluators.metric import Estimate, Metric
from evaluators.models import load_model, model_fingerprint
from evaluators.tasks.making import tokenizer_of
from search.cache import Cache
from search.check import graph_problems
from search.experiment import Experiment
from search.lock import LOCK_NAME, RecipeLock
from search.preparing import Prepared, prepare
from search.size_traces import size_problems
from search.space import Space
from search.stages import StageRunner

__all__ = ["Applied", "apply_recipe", "lock_of"]


@dataclass(frozen=True, slots=True)
class Applied:
    """What ``apply`` found, by metric; quality on ``report``.

    Attributes:
        metrics: what each name means.
        baseline: of the uncompressed model.
        compressed: of the recipe's model.
        drift: versions that are not those of the lock.
    """

    metrics: dict[str, Metric]
    baseline: dict[str, Estimate]
    compressed: dict[str, Estimate]
    drift: tuple[str, ...]


def lock_of(prepared: Prepared, recipe: Recipe, replicate: int = 0) -> RecipeLock:
    """What the recipe's model depends on here and now."""
    experiment = prepared.experiment
    return RecipeLock(
        recipe.fingerprint,
        prepared.model_key,
        prepared.data_key,
        experiment.data.preprocessing.model_dump(mode="json", exclude_none=True),
        experiment.target,
        experiment.search.seed,
        replicate,
        _source(prepared),
        dict(prepared.versions),
    )


def _source(prepared: Prepared) -> str:
    experiment = prepared.experiment
    if experiment.fit is None:
        return ""
    unfitted = load_model(experiment.model, experiment.folder, prepared.task)
    return fingerprint([model_fingerprint(unfitted), experiment.fit.model_dump(mode="json"), experiment.search.seed])


def apply_recipe(recipe_path: Path, experiment_path: str | Path, out: Path, overrides: Sequence[str], log: Callable[[str], None]) -> Applied:
    """Compress, evaluate, and write the checkpoint, ``recipe.yaml``, ``recipe.lock`` and ``metrics.json`` into ``out``.

    A ``recipe.lock`` beside the recipe gives seed and replicate, and must agree with the experiment's model, data and target.

    Raises:
        UserError: a bad recipe, experiment or folder, or a lock that says that another model would come out.
        TrialError: the recipe fails on this model.
    """
    recipe = Recipe.load(recipe_path)
    lock_path = recipe_path.with_name(LOCK_NAME)
    lock = RecipeLock.load(lock_path) if lock_path.is_file() else None
    experiment = Experiment.load(experiment_path, [*([f"search.seed={lock.seed}"] if lock else []), *overrides])
    _make_folder(out)
    cache = Cache()
    prepared = prepare(experiment, cache, log)
    asked = Space.from_plain(recipe.to_plain())
    problems = graph_problems(asked, prepared.graph, prepared.task) or list(size_problems(asked, prepared.model, prepared.task, prepared.graph, cache))
    if problems:
        raise UserError("\n".join([f"{recipe_path}:", *problems]))
    now = lock_of(prepared, recipe, lock.replicate if lock else 0)
    if lock is not None and lock.conflicts(now):
        raise UserError("\n".join([f"{lock_path} does not fit; remove it to apply the recipe all the same", *lock.conflicts(now)]))
    runner = StageRunner(prepared, cache, log)
    measured = {split: runner.run(recipe, replicate=now.replicate, split=split).metrics for split in ("search", "report")}
    baseline = runner.run(Recipe(), split="report").metrics
    tokenizer = tokenizer_of(experiment.data, experiment.model, experiment.folder) if "tokenizer" in prepared.task.description else None
    why = save(runner.model(recipe, replicate=now.replicate), out, tokenizer)
    if experiment.model.pretrained is not None:
        log(f"{out} is loaded by compareto.load{f' only: {why}' if why else ', and by plain from_pretrained'}")
    recipe.save(out / "recipe.yaml")
    now.save(out / LOCK_NAME)
    plain = {**measured, "baseline_report": baseline}
    (out / "metrics.json").write_text(json.dumps({s: {k: v.to_plain() for k, v in m.items()} for s, m in plain.items()}, indent=1, sort_keys=True))
    return Applied({name: experiment.names.resolve(name)[1] for name in baseline}, baseline, measured["report"], tuple(lock.drift(now)) if lock else ())


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise UserError(f"--out: {out} is not empty; accepted: a new or an empty folder")
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"--out: cannot write {out}: {error.strerror}") from error
