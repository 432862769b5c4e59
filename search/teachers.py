"""Teachers other than the uncompressed model: loaded and checked once, by whoever prepares an experiment, and shared by its trials."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from compressors.compressor import Compressor
from compressors.distillation import Distill, require_fit
from compressors.errors import CompressionError, UserError
from compressors.recipe import fingerprint, step_class
from compressors.teacher_spec import TeacherSpec
from evaluators.model_spec import ModelSpec
from evaluators.models import build_model, model_fingerprint
from search.dimension import spell
from search.space import Space

if TYPE_CHECKING:
    from evaluators.model_spec import TaskName
    from evaluators.tasks.task import Task

__all__ = ["Teacher", "load_teacher", "teacher_name", "teachers_of"]

_Call = tuple[tuple[object, ...], dict[str, object]]


@dataclass(frozen=True, slots=True)
class Teacher:
    """A model in eval mode, and what tells it from any other: class, structure and weights."""

    model: nn.Module
    fingerprint: str


def teacher_name(spec: TeacherSpec) -> str:
    """By which teachers are kept: equal specifications have equal names."""
    return fingerprint(json.loads(spec.model_dump_json()))


def load_teacher(spec: TeacherSpec, kind: TaskName, folder: Path, task: Task, place: str = "teacher") -> Teacher:
    """Load a teacher.

    Args:
        spec: which.
        kind: ``task`` of the experiment's model.
        folder: of the experiment; paths start there.
        task: its data.
        place: the key in the experiment, for messages.

    Raises:
        UserError: see ``build_model``; or a pretrained model that would get a new head, which knows nothing.
    """
    try:
        model = build_model(ModelSpec(**spec.model_dump(), task=kind), folder, task)
    except UserError as error:
        raise UserError(f"{place}{str(error).removeprefix('model')}") from error
    known = getattr(getattr(model, "config", None), "architectures", None)
    if spec.pretrained and known is not None and type(model).__name__ not in known:
        raise UserError(f"{place}.pretrained: {spec.pretrained!r} is a {', '.join(known)}; accepted: a {type(model).__name__}, whose outputs mean something")
    _take(model, list(task.example_inputs))
    return Teacher(model.requires_grad_(requires_grad=False), model_fingerprint(model))


def _take(model: nn.Module, names: list[str]) -> None:
    """Have the teacher take the student's only input where it calls its own by another name, such as ``pixel_values``."""
    parameters = inspect.signature(model.forward).parameters
    if len(names) == 1 and names[0] not in parameters and parameters:
        model.register_forward_pre_hook(_Renamed(names[0], next(iter(parameters))), with_kwargs=True)


@dataclass(frozen=True)
class _Renamed:
    """A hook that gives one keyword another name."""

    theirs: str
    ours: str

    def __call__(self, module: nn.Module, arguments: tuple[object, ...], keywords: dict[str, object]) -> _Call:  # noqa: ARG002 - torch passes it
        return arguments, {self.ours if name == self.theirs else name: value for name, value in keywords.items()}


def teachers_of(space: Space, kind: TaskName, folder: Path, model: nn.Module, task: Task) -> tuple[dict[str, Teacher], list[str]]:
    """The teachers of a recipe with ranges by name, and every problem: those that cannot be loaded, or do not fit the model, and maps that are not there."""
    found: dict[str, Teacher] = {}
    problems: dict[str, None] = {}
    for path, name, settings in space.steps():
        for filled in space.corners(path, settings):
            for key, step in _distillations(step_class(name).from_config(filled)):
                place = spell((*path, *key))
                teacher = model
                try:
                    for spec in step.teachers():
                        known = teacher_name(spec)
                        found[known] = found.get(known) or load_teacher(spec, kind, folder, task, f"{place}.teacher")
                        teacher = found[known].model
                    require_fit(step, model, teacher, _inputs(task))
                except UserError as error:
                    problems[str(error)] = None
                except CompressionError as error:
                    problems[f"{place}.{error}"] = None
    return found, list(problems)


def _distillations(step: Compressor) -> Iterator[tuple[tuple[str, ...], Distill]]:
    """The step itself, or the recovery inside it, and where that is."""
    recover = getattr(step, "recover", None)
    if isinstance(step, Distill):
        yield (), step
    if isinstance(recover, Distill):
        yield ("recover",), recover


def _inputs(task: Task) -> Mapping[str, Tensor]:
    return task.example_inputs
