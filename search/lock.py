"""``recipe.lock``: what a compressed model depends on beside its recipe."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import yaml

from compressors.errors import UserError
from search.yaml_text import read_yaml

__all__ = ["LOCK_NAME", "RecipeLock", "installed_versions"]

LOCK_NAME = "recipe.lock"
_LOCK_VERSION = 1
_PACKAGES = ("compareto", "torch", "torchao", "transformers", "onnx", "onnxruntime", "numpy")


def installed_versions() -> dict[str, str]:
    """Versions that numerics depend on, by package, Python included."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True, slots=True)
class RecipeLock:
    """The pins of one compressed model.

    Attributes:
        recipe: fingerprint of the recipe.
        model: fingerprint of the uncompressed model, weights included.
        data: fingerprint of data, splits and preprocessing.
        preprocessing: as the experiment has it, for people.
        target: the runtime whose numerics it has.
        seed: the study's seed.
        replicate: which replicate of that seed.
        source: where the baseline was fitted, the fingerprint of the model before and of the fit; a fit on another processor, or with another
            number of threads, rounds differently, so that ``model`` then differs without being another model. Empty where nothing was fitted.
        versions: see ``installed_versions``.
    """

    recipe: str
    model: str
    data: str
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    target: str = "onnxruntime"
    seed: int = 0
    replicate: int = 0
    source: str = ""
    versions: Mapping[str, str] = field(default_factory=installed_versions)

    def save(self, path: Path) -> None:
        """Write it as YAML."""
        path.write_text(yaml.safe_dump({"lock_version": _LOCK_VERSION, **dataclasses.asdict(self)}, sort_keys=False))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it back.

        Raises:
            UserError: unreadable, of another version, or not a lock.
        """
        data = read_yaml(path)
        if not isinstance(data, dict) or "lock_version" not in data:
            raise UserError(f"{path} is not a recipe.lock: it has no lock_version")
        found = data.pop("lock_version")
        if found != _LOCK_VERSION:
            raise UserError(f"{path} has lock_version {found!r}; accepted: {_LOCK_VERSION}")
        try:
            return cls(**data)
        except TypeError as error:
            raise UserError(f"{path} is not a recipe.lock: {error}") from error

    def conflicts(self, now: RecipeLock) -> list[str]:
        """What differs ``now`` so that another model would come out: recipe, model (before its fit, where it has one), data, target or seed."""
        compared = ["recipe", "source" if self.source and now.source else "model", "data", "target", "seed", "replicate"]
        return [f"{name}: locked {getattr(self, name)!r}, now {getattr(now, name)!r}" for name in compared if getattr(self, name) != getattr(now, name)]

    def drift(self, now: RecipeLock) -> list[str]:
        """What differs ``now`` so that the result may differ in its last digits: versions, and the rounding of a fit."""
        lines = [
            f"{package}: locked {old}, now {now.versions.get(package, 'missing')}" for package, old in self.versions.items() if now.versions.get(package) != old
        ]
        if self.source and now.source and self.model != now.model:
            lines.append(f"model: the baseline was fitted again and rounded differently, locked {self.model}, now {now.model}")
        return lines
