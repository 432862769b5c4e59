"""Models to time: each exported once and kept, so that an interrupted calibration does not export it again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from torch import nn

from compressors.compressor import GraphEdit
from compressors.context import Context
from compressors.errors import TrialError
from compressors.graph import trace
from compressors.pipeline import applied
from compressors.recipe import Recipe, fingerprint
from compressors.targets import Target
from evaluators.devices.calibration.networks import Noise, Variant
from evaluators.devices.kernel_table import KernelTable, kernel_table

__all__ = ["prepared_runs"]


def prepared_runs(
    known: Iterable[Variant], target: Target, threads: int, folder: Path, progress: Callable[[str], None]
) -> tuple[list[tuple[str, KernelTable]], list[Callable[[], object]]]:
    """Name and kernels of each variant, and one inference of its exported model; what the runtime cannot express is left out.

    Args:
        known: the variants.
        target: what exports and runs them.
        threads: of a session.
        folder: where exported models are kept, and found again.
        progress: receives a line a variant.
    """
    tables: list[tuple[str, KernelTable]] = []
    runs: list[Callable[[], object]] = []
    for variant in known:
        form = "integers" if variant.steps else "floats"
        progress(f"calibrating this host: preparing {variant.network}, {form}")
        one = {name: value[:1] for name, value in variant.inputs.items()}
        graph, recipe = trace(variant.module, one, check_cuts=False), Recipe.from_plain(variant.steps)
        edit = recipe.plan(graph, {})[-1] if recipe.steps else GraphEdit.identity(graph)
        context = Context(Noise(variant.inputs), variant.module, graph, one, target)
        place = folder / fingerprint([graph.fingerprint, recipe.fingerprint])
        try:
            session = target.load(_exported(variant.module, recipe, context, place), threads)
        except TrialError as error:
            progress(f"calibrating this host: {target.name} has no {variant.network}, {form}: {error}")
            continue
        tables.append((variant.network, kernel_table(graph, target, edit.shapes(graph))))
        runs.append(partial(session, {name: value.numpy() for name, value in one.items()}))
    return tables, runs


def _exported(model: nn.Module, recipe: Recipe, context: Context, place: Path) -> Path:
    """The model's file in ``place``: that of a run before, where it was written to its end."""
    done = place / "complete"
    if not done.is_file():
        shutil.rmtree(place, ignore_errors=True)
        path = context.target.export(applied(recipe, model, {}, context), context.example_inputs, place)
        done.write_text(path.name, encoding="utf-8")
    return place / done.read_text(encoding="utf-8")
