"""Recipes: the ordered steps with every range replaced by a value, as typed, versioned, fingerprinted data."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pydantic
import yaml

from compressors.compressor import Compressor, GraphEdit, Scores
from compressors.errors import UserError, near_miss
from compressors.graph.model_graph import ModelGraph
from compressors.ordering import refuse_conflicts

if TYPE_CHECKING:
    from compressors.input_size import InputSize

__all__ = ["RECIPE_VERSION", "Recipe", "fingerprint", "misplaced_steps", "step_class", "step_names"]

RECIPE_VERSION = 1
_BUILT_IN = {
    "input_size": "compressors.input_size:InputSize",
    "prune": "compressors.pruning:Prune",
    "prune_iteratively": "compressors.pruning:PruneIteratively",
    "sparsify": "compressors.sparsity:Sparsify",
    "low_rank": "compressors.low_rank:LowRank",
    "depthwise_separable": "compressors.depthwise_separable:DepthwiseSeparable",
    "local_attention": "compressors.local_attention:LocalAttention",
    "share_weights": "compressors.weight_sharing:ShareWeights",
    "trim_vocabulary": "compressors.vocabulary:TrimVocabulary",
    "sparse_train": "compressors.sparse_training:SparseTrain",
    "reconstruct": "compressors.reconstruction:Reconstruct",
    "distill": "compressors.distillation:Distill",
    "early_exit": "compressors.early_exit:EarlyExit",
    "equalize": "compressors.quantization.equalization:Equalize",
    "smooth": "compressors.quantization.smoothing:Smooth",
    "quantize": "compressors.quantization:Quantize",
    "qat": "compressors.quantization.training_aware:QuantizationAwareTraining",
}


def step_names() -> tuple[str, ...]:
    """Names of the known steps: ours, then those of entry points in the group ``compareto.steps``."""
    return (*_BUILT_IN, *(e.name for e in entry_points(group="compareto.steps")))


def step_class(name: str) -> type[Compressor]:
    """The class behind a step's name, or behind a dotted path ``package.module:Class``.

    Raises:
        UserError: there is no such step.
    """
    path = _BUILT_IN.get(name)
    if path is None:
        found = {e.name: e for e in entry_points(group="compareto.steps")}
        path = found[name].value if name in found else name
    if ":" not in path:
        raise UserError(f"unknown step {name!r}; accepted: {', '.join(step_names())}, or package.module:Class{near_miss(name, step_names())}")
    module, _, attribute = path.partition(":")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"step {name!r} cannot be imported: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, Compressor)):
        raise UserError(f"step {name!r} is not a Compressor")
    return cls


def fingerprint(data: Any) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of ``data`` as canonical JSON."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()[:16]


def misplaced_steps(places: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Index of each step in a wrong place around ``quantize``, ``early_exit`` and ``input_size``, with what is wrong.

    An exported graph can be neither cut nor trained, except by ``qat``; the heads of exits are neither cut nor taught with the rest of the model.

    Args:
        places: index in the recipe and name of every step; alternatives share an index, and where there may be none, an empty name has it, too.
    """
    found: list[tuple[int, str]] = []
    quantized = min((i for i, name in places if name == "quantize"), default=None)
    trained = min((i for i, name in places if name == "qat"), default=None)
    exited = min((i for i, name in places if name == "early_exit"), default=None)
    certain = {i for i, name in places if name == "quantize"} - {i for i, name in places if name != "quantize"}
    for i, name in places:
        if name == "input_size" and i > 0:
            found.append((i, "input_size stands behind steps that would see inputs of another size; accepted: input_size as the first step"))
        if name == "qat" and not any(earlier < i for earlier in certain):
            found.append((i, "qat trains what quantize has made; accepted: a quantize step before it, in every candidate"))
        elif name == "quantize" and trained is not None and i > trained:
            found.append((i, f"quantize stands after qat (recipe[{trained}]), whose training it would undo; accepted after qat: qat"))
        elif quantized is not None and i > quantized and name not in ("quantize", "qat", ""):
            why = f"{name} stands after quantize (recipe[{quantized}]), whose result can be neither cut nor trained"
            found.append((i, f"{why}; accepted after quantize: quantize, qat"))
        if exited is not None and i > exited and name not in ("quantize", ""):
            found.append((i, f"{name} stands after early_exit (recipe[{exited}]), whose exits it does not know; accepted after early_exit: quantize"))
    return found


@dataclass(frozen=True, slots=True)
class Recipe:
    """Ordered steps. An empty recipe is the uncompressed model."""

    steps: tuple[Compressor, ...] = ()

    @classmethod
    def from_plain(cls, steps: Sequence[Mapping[str, Any]]) -> Self:
        """From a plain list of one-key mappings, ``[{"prune": {...}}, ...]``.

        Raises:
            UserError: every problem of the list, each with its place and what is accepted.
        """
        built: list[Compressor] = []
        problems: list[str] = []
        places: list[tuple[int, str]] = []
        for i, step in enumerate(steps):
            if not isinstance(step, Mapping) or len(step) != 1:
                problems.append(f"recipe[{i}]: expected a mapping with one step name, got {step!r}")
                continue
            ((name, config),) = step.items()
            places.append((i, str(name)))
            try:
                built.append(step_class(name).from_config(config or {}))
            except UserError as error:
                problems.append(f"recipe[{i}]: {error}")
            except pydantic.ValidationError as error:
                problems += [f"recipe[{i}].{name}.{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in error.errors()]
        problems += [f"recipe[{i}]: {message}" for i, message in misplaced_steps(places)]
        if problems:
            raise UserError("\n".join(problems))
        return cls(tuple(built))

    def to_plain(self) -> list[dict[str, Any]]:
        """The plain list, defaults included."""
        return [{step.name: step.to_config()} for step in self.steps]

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that identify steps, configurations and step versions."""
        return fingerprint({"version": RECIPE_VERSION, "steps": [[s.name, s.version, s.to_config()] for s in self.steps]})

    @property
    def trained(self) -> str:
        """As ``fingerprint``, of what is trained alone: without the fields that only decide how the finished model is run."""
        return fingerprint({"version": RECIPE_VERSION, "trained": [[s.name, s.version, s.split_config()[0]] for s in self.steps]})

    def save(self, path: Path) -> None:
        """Write a recipe file (YAML)."""
        path.write_text(yaml.safe_dump({"recipe_version": RECIPE_VERSION, "recipe": self.to_plain()}, sort_keys=False))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a recipe file (YAML or JSON).

        Raises:
            UserError: unreadable, of another version, or invalid.
        """
        try:
            data = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise UserError(f"cannot read recipe {path}: {error}") from error
        if not isinstance(data, Mapping) or not isinstance(data.get("recipe"), list):
            raise UserError(f"{path} is not a recipe file: it needs a list under the key 'recipe'")
        if data.get("recipe_version") != RECIPE_VERSION:
            raise UserError(f"{path} has recipe_version {data.get('recipe_version')!r}; accepted: {RECIPE_VERSION}")
        return cls.from_plain(data["recipe"])

    @property
    def input_size(self) -> InputSize | None:
        """The step that makes inputs smaller; None where they stay as they are."""
        from compressors.input_size import InputSize

        return next((step for step in self.steps if isinstance(step, InputSize)), None)

    def criteria(self) -> tuple[str, ...]:
        """Scores that planning needs, in order, without duplicates."""
        return tuple(dict.fromkeys(c for step in self.steps for c in step.criteria()))

    def plan(self, graph: ModelGraph, scores: Scores) -> tuple[GraphEdit, ...]:
        """The accumulated edit after each step; the last one (or the identity) is the candidate's shapes."""
        edits: list[GraphEdit] = []
        edit = GraphEdit.identity(graph)
        for step in self.steps:
            planned = step.plan(graph, scores, edit)
            refuse_conflicts(graph, edit, planned, step.name)
            edit = planned
            edits.append(edit)
        return tuple(edits)
