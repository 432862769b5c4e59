"""Everything that trials of an experiment share: the (fitted) model, its task and trace, the device models."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from compressors.compressor import GraphEdit
from compressors.errors import UserError
from compressors.graph import ModelGraph, Shapes
from compressors.graph.exits import staged
from compressors.recipe import fingerprint
from compressors.targets import Target, target_named
from evaluators.devices.device_model import DeviceModel
from evaluators.devices.expected import expected_costs
from evaluators.exit_rates import ExitRates
from evaluators.fit import fit
from evaluators.metric import Estimate
from evaluators.models import model_fingerprint
from evaluators.tasks.array_task import ArrayTask
from search.cache import Cache
from search.check import graph_problems
from search.description import bounded
from search.device_costs import in_blocks, study_device
from search.experiment import Experiment
from search.loading import load_experiment
from search.lock import installed_versions
from search.size_traces import size_problems
from search.teachers import Teacher, teachers_of

__all__ = ["Prepared", "prepare", "state_key"]


@dataclass(frozen=True)
class Prepared:
    """What a worker needs, computed once by the driver.

    Attributes:
        model: the uncompressed model in eval mode.
        model_key, data_key: fingerprints.
        devices: by full key.
        teachers: that steps name, see ``search.teachers``.
        native: what this was made from, where inputs were made smaller (``input_size``, see ``search.sized``): model, task and graph are of the smaller size,
            and so are costs and keys; None where inputs have the data's size.
    """

    experiment: Experiment
    model: nn.Module
    task: ArrayTask
    graph: ModelGraph
    target: Target
    devices: Mapping[str, DeviceModel]
    model_key: str
    data_key: str
    versions: Mapping[str, str]
    teachers: Mapping[str, Teacher] = field(default_factory=dict)
    native: Prepared | None = None

    @property
    def whole(self) -> Prepared:
        """At the data's size."""
        return self.native or self

    @property
    def model_name(self) -> str:
        """As the experiment names it."""
        return model_name(self.experiment)

    def costs(self, shapes: Shapes, rates: Sequence[ExitRates] | None = None) -> list[dict[str, Estimate]]:
        """Exact and predicted metrics of each candidate.

        Args:
            shapes: the candidates.
            rates: one for each candidate, of the same exits: costs are then those that are expected of an inference, parameters, MACs and bytes those of the
                whole model with its exits. None of models that always run whole.
        """
        graph = self.graph if not rates else staged(self.graph, rates[0].exits)[-1]
        parameters, macs = graph.count_parameters(shapes), graph.count_macs(shapes)
        size = self.target.stored_bytes(graph, shapes)
        rows: list[dict[str, Estimate]] = [
            {"parameters": Estimate.exact(int(p)), "macs": Estimate.exact(int(m)), "size_bytes": Estimate.exact(int(s))}
            for p, m, s in zip(parameters, macs, size, strict=True)
        ]
        for key, device in self.devices.items():
            found = expected_costs(device, self.graph, shapes, rates) if rates else device.cost(self.graph, shapes)
            for name, values in found.items():
                for i, row in enumerate(rows):
                    row[f"{name}@{key}"] = values.estimate(i)
        return rows

    def cost(self, edit: GraphEdit, rates: ExitRates | None = None) -> dict[str, Estimate]:
        """Exact and predicted metrics of one candidate; of one with exits whose ``rates`` are not known, those of an input that takes none of them."""
        if edit.exits is not None and rates is None:
            rates = ExitRates.all(edit.exits)
        return self.costs_alone(edit.shapes(self.graph), [rates])[0]

    def costs_alone(self, shapes: Shapes, rates: Sequence[ExitRates | None] | None = None) -> list[dict[str, Estimate]]:
        """As ``costs``, slower, and of each candidate the same to the last digit whatever others are with it: what records hold.

        ``rates``: one for each candidate, None of those without exits.
        """
        return in_blocks(shapes, rates, self.costs)

    def bounds(self, edit: GraphEdit) -> dict[str, dict[str, Any]]:
        """What bounds the kernels of one candidate, by device; see ``search.description.bounded``."""
        shapes = edit.shapes(self.graph)
        return {key: bounded(self.graph, device, shapes) for key, device in self.devices.items()}


def model_name(experiment: Experiment) -> str:
    """``google/bert-mini`` or ``models.py:digits_cnn``."""
    return experiment.model.pretrained or str(experiment.model.factory)


def state_key(*parts: object) -> str:
    """A stage's key from whatever it depends on."""
    return fingerprint([repr(p) for p in parts]) + fingerprint([repr(p) for p in reversed(parts)])


def prepare(experiment: Experiment, cache: Cache, log: Callable[[str], None]) -> Prepared:
    """Load, fit (from the cache where that was done before) and trace.

    Raises:
        UserError: see ``load_experiment``; or the recipe names what the model does not have.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load_experiment(experiment)
    problems = graph_problems(experiment.space, loaded.graph, loaded.task)
    problems = problems or list(size_problems(experiment.space, loaded.model, loaded.task, loaded.graph, cache))
    if problems:
        raise UserError("\n".join(problems))
    task = loaded.task
    assert isinstance(task, ArrayTask)
    teachers, problems = teachers_of(experiment.space, experiment.model.task, experiment.folder, loaded.model, task)
    if problems:
        raise UserError("\n".join(problems))
    model, versions = loaded.model, installed_versions()
    if experiment.fit is not None:
        model = _fitted(experiment, model, task, cache, versions, log)
    devices = {key: study_device(key, experiment.target, experiment.workload.requests_per_hour) for key in experiment.devices}
    target = target_named(experiment.target)
    return Prepared(experiment, model, task, loaded.graph, target, devices, model_fingerprint(model), task.fingerprint, versions, teachers)


def _fitted(experiment: Experiment, model: nn.Module, task: ArrayTask, cache: Cache, versions: Mapping[str, str], log: Callable[[str], None]) -> nn.Module:
    from safetensors.torch import load_model, save_model

    assert experiment.fit is not None
    key = state_key(
        "fit",
        model_fingerprint(model),
        task.fingerprint,
        experiment.fit.model_dump_json(),
        experiment.search.seed,
        versions["torch"],
    )
    # Two searches that start together fit once.
    with cache.computing(key):
        found = cache.get(key)
        if found is None:
            log("fit: training the baseline once")
            trained = fit(model, task, experiment.fit, seed=experiment.search.seed, log=log)

            def write(folder: Path) -> None:
                save_model(trained, str(folder / "model.safetensors"))
                (folder / "fit.json").write_text(json.dumps(experiment.fit.model_dump() if experiment.fit else {}))

            found = cache.put(key, write, kind="fit", model=model_name(experiment))
        else:
            log("fit: found in the cache")
    load_model(model, str(found / "model.safetensors"))
    return model.eval()
