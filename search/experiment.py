"""An experiment: a recipe with ranges in it, and everything that its search needs to know. YAML in, typed and completely validated."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import pydantic
import yaml

from compressors.errors import UserError, near_miss
from compressors.recipe import fingerprint
from compressors.training_spec import TrainingSpec
from evaluators.devices import resolve_device
from evaluators.metric import Metric
from evaluators.model_spec import ModelSpec
from evaluators.tasks import DataSpec, Workload, quality_metrics
from search.expressions import Constraint, parse_constraint
from search.metric_names import MetricNames
from search.recipe_check import recipe_problems
from search.settings import SearchSpec
from search.space import Space
from search.validation import problems_of
from search.yaml_text import override, read_yaml

__all__ = ["Experiment"]

_GENERATING = "causal-lm"
_OF_CLASSES = ("classification", "token-classification", "causal-lm", "seq2seq")


class Experiment(pydantic.BaseModel):
    """A validated experiment. Read one with :meth:`load` or :meth:`from_plain`, which report every problem at once.

    Attributes:
        name: what a study of it is called by default; the file's name without its suffix.
        folder: where its relative paths start.
        devices: full keys, ``DEVICE[.UNIT]/RUNTIME``, in the order given.
        target: the runtime whose numerics the study has.
        objectives: canonical metric names; directions live on the metrics. One that is predicted and names no device, where several are listed, means each
            of them: ``fronts`` has the objectives of each device.
        constraints: texts of comparisons; ``parsed_constraints`` are their parsed form.
        recipe: plain steps with ranges in them; ``space`` is their parsed form.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    model: ModelSpec
    data: DataSpec
    fit: TrainingSpec | None = None
    workload: Workload = pydantic.Field(default_factory=Workload)
    devices: tuple[str, ...] = ()
    target: str = "onnxruntime"
    objectives: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    recipe: list[Any]
    search: SearchSpec = pydantic.Field(default_factory=SearchSpec)
    name: str = "experiment"
    folder: Path = pydantic.Field(default_factory=Path.cwd)

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
        """Read an experiment file; ``quickstart`` is the one that comes with the package.

        Args:
            path: a YAML file, or ``quickstart``.
            overrides: ``key=value`` each, such as ``search.trials=4``.

        Raises:
            UserError: every problem of the file, one a line.
        """
        file = Path(str(files("search") / "quickstart" / "quickstart.yaml")) if str(path) == "quickstart" else Path(path).expanduser()
        if not file.is_file():
            there = [*map(str, file.parent.glob("*.yaml")), "quickstart"]
            raise UserError(f"no experiment file {str(path)!r}; accepted: a YAML file, or quickstart{near_miss(str(path), there)}")
        return cls._read(file, overrides, check_recipe=True)

    @classmethod
    def frozen(cls, path: Path) -> Experiment:
        """The experiment that a study has kept. Its recipe was checked when the study began and is taken as it is, which needs no torch.

        Raises:
            UserError: the file cannot be read, or is no experiment.
        """
        return cls._read(path, (), check_recipe=False)

    @classmethod
    def _read(cls, file: Path, overrides: Sequence[str], *, check_recipe: bool) -> Experiment:
        data = read_yaml(file)
        if not isinstance(data, dict):
            raise UserError(f"{file} is not an experiment: expected a mapping with {', '.join(cls.model_fields)}")
        override(data, overrides)
        try:
            return cls.from_plain(data, folder=file.parent.resolve(), name=file.stem, check_recipe=check_recipe)
        except UserError as error:
            raise UserError(f"{file}:\n{error}") from None

    @classmethod
    def from_plain(cls, data: Mapping[str, Any], *, folder: Path | None = None, name: str = "experiment", check_recipe: bool = True) -> Experiment:
        """Validate plain data; ``folder`` and ``name`` are used where ``data`` does not say. ``check_recipe``: as for one that nobody has checked yet.

        Raises:
            UserError: every problem, one a line, each with the key's path, the value and what is accepted.
        """
        data = {"folder": folder or Path.cwd(), "name": name, **copy.deepcopy(dict(data))}
        parts, problems = cls._parts(data)
        parts, further = _resolved(parts)
        problems += further
        if check_recipe and isinstance(parts.get("recipe"), list):
            problems += recipe_problems(parts["recipe"]) or ([] if parts["recipe"] else ["recipe: [] has no step; accepted: at least one"])
        if problems:
            raise UserError("\n".join(problems))
        return cls.model_construct(**{**{k: f.get_default(call_default_factory=True) for k, f in cls.model_fields.items() if not f.is_required()}, **parts})

    @classmethod
    def _parts(cls, data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Each section on its own, so that one that is wrong does not hide the others' problems."""
        fields = cls.model_fields
        problems = [f"{k}: unknown key {k!r}; accepted: {', '.join(fields)}{near_miss(str(k), fields)}" for k in data if k not in fields]
        problems += [f"{k}: missing; every experiment needs it" for k, f in fields.items() if f.is_required() and k not in data]
        parts: dict[str, Any] = {}
        for key in (k for k in fields if k in data):
            adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(fields[key].annotation)
            value = [data[key]] if key in ("devices", "objectives", "constraints") and isinstance(data[key], str) else data[key]
            try:
                parts[key] = adapter.validate_python(value)
            except pydantic.ValidationError as error:
                for place, message in problems_of(error, value, fields[key].annotation):
                    problems.append(f"{key}{''.join(f'[{p}]' if isinstance(p, int) else f'.{p}' for p in place)}: {message}")
            except UserError as error:
                problems.append(f"{key}: {error}")
        return parts, problems

    @cached_property
    def space(self) -> Space:
        """The search space of the recipe."""
        return Space.from_plain(self.recipe)

    @cached_property
    def names(self) -> MetricNames:
        """The metrics that expressions may name."""
        return MetricNames(quality_metrics(self.model, self.data), self.devices, generates=self.model.task == _GENERATING)

    @cached_property
    def objective_metrics(self) -> tuple[tuple[str, Metric], ...]:
        """Canonical name and metric of each objective, on each device that it means."""
        return self.names.on(self.objectives)

    @cached_property
    def fronts(self) -> dict[str, tuple[tuple[str, Metric], ...]]:
        """What each front trades: by device where an objective means each of them; else there is one, under an empty name."""
        if not any(name in self.names.predicted for name in self.objectives):
            return {"": self.objective_metrics}
        return {device: self.names.on(self.objectives, device) for device in self.devices}

    def on(self, device: str) -> Experiment:
        """This experiment about one device, which is listed or is then: predicted objectives are moved to it; latency where there are none."""
        moved = [f"{name.partition('@')[0]}@{device}" if name.partition("@")[0] in self.names.predicted else name for name in self.objectives]
        if not any("@" in name for name in moved):
            moved.append(f"latency_ms@{device}")
        changed = {"devices": tuple(dict.fromkeys((*self.devices, device))), "objectives": tuple(dict.fromkeys(moved))}
        return Experiment.model_construct(**{**{name: getattr(self, name) for name in type(self).model_fields}, **changed})

    @cached_property
    def parsed_constraints(self) -> tuple[Constraint, ...]:
        """The constraints, ready to be evaluated."""
        return tuple(parse_constraint(text, self.names) for text in self.constraints)

    def to_plain(self) -> dict[str, Any]:
        """As plain data with everything resolved and defaults written out; ``from_plain`` reads it back."""
        return self.model_dump(mode="json", exclude_none=True)

    def to_yaml(self) -> str:
        """``to_plain`` as text: what a study freezes."""
        return yaml.safe_dump(self.to_plain(), sort_keys=False, width=160)

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that identify the experiment wherever it lies."""
        return fingerprint({k: v for k, v in self.to_plain().items() if k != "folder"})

    def missing_assets(self) -> tuple[Path, ...]:
        """Files and folders under ``assets/`` that the experiment names and that are not there."""
        plain = self.model_dump(mode="json", include={"model", "data"})
        found = (self.folder / text for text in _texts(plain) if Path(text).parts[:1] == ("assets",))
        return tuple(path for path in dict.fromkeys(found) if not path.exists() and not any(path.parent.glob(path.name)))


def _resolved(parts: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Devices, target, objectives and constraints in canonical form, as far as what they depend on is known."""
    parts, problems = dict(parts), []
    target = parts.get("target")
    devices: list[str] = []
    for i, text in enumerate(parts.get("devices", ())):
        try:
            key = resolve_device(text, target)
        except UserError as error:
            problems.append(f"devices[{i}]: {error}")
            continue
        if key in devices:
            problems.append(f"devices[{i}]: {text!r} is listed twice")
        devices.append(key)
        if i == 0 and target is None:
            target = key.partition("/")[2].partition(":")[0]
    if target is not None:
        parts["target"] = target
        problems += _target_problems(target)
    if "model" in parts and "workload" in parts and parts["model"].task != _GENERATING:
        given = [key for key in ("prompt_tokens", "new_tokens") if getattr(parts["workload"], key) is not None]
        problems += [f"workload.{key}: the model does not generate; only those of model.task {_GENERATING!r} have a prompt" for key in given]
    problems += _smoothing_problems(parts.get("fit"), parts.get("model"))
    known = not problems and "model" in parts and "data" in parts
    if not known:
        return parts, problems
    names = MetricNames(quality_metrics(parts["model"], parts["data"]), tuple(devices), generates=parts["model"].task == _GENERATING)
    parts["devices"] = names.devices
    objectives: list[str] = []
    for i, text in enumerate(parts.get("objectives", ())):
        try:
            name = names.objective(text)
        except UserError as error:
            problems.append(f"objectives[{i}]: {error}")
            continue
        if {n for n, _ in names.on([name])} & {n for n, _ in names.on(objectives)}:
            problems.append(f"objectives[{i}]: {text!r} is listed twice")
        objectives.append(name)
    if "objectives" in parts:
        parts["objectives"] = tuple(objectives)
        if not objectives and not problems:
            problems.append("objectives: [] has no objective; accepted: at least one of " + ", ".join(names.all))
    for i, text in enumerate(parts.get("constraints", ())):
        try:
            parse_constraint(text, names)
        except UserError as error:
            problems.append(f"constraints[{i}]: {error}")
    return parts, problems


def _smoothing_problems(fit: TrainingSpec | None, model: ModelSpec | None) -> list[str]:
    # Of a task of one's own, only its loss says.
    if fit is None or model is None or not fit.label_smoothing or model.own_task is not None or model.kind in _OF_CLASSES:
        return []
    return [f"fit.label_smoothing: {fit.label_smoothing:g} is for labels that are classes; accepted for model.task {model.task!r}: 0"]


def _target_problems(target: str) -> list[str]:
    from compressors.targets import target_named

    try:
        target_named(target)
    except UserError as error:
        return [f"target: {error}"]
    return []


def _texts(node: Any) -> list[str]:
    if isinstance(node, str):
        return [node]
    children = node.values() if isinstance(node, Mapping) else node if isinstance(node, (list, tuple)) else ()
    return [text for child in children for text in _texts(child)]
