"""The code that a search sends to the workers of a cluster, and what tells whether a worker has the same.

Only the standard library is needed here: a node that lacks the rest must still be able to say so.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from platform import python_version
from typing import Any

__all__ = ["code_paths", "differences", "identity", "runtime_env", "source_fingerprint"]

_MODULES = ("compareto", "compressors", "evaluators", "search")
_PACKAGES = ("ray", "torch", "torchao", "transformers", "numpy")
_GENERATED = "__pycache__"


def code_paths() -> tuple[Path, ...]:
    """The folders and the file that compareto consists of, wherever it is installed or lies."""
    paths = []
    for name in _MODULES:
        found = find_spec(name)
        if found is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        assert found.origin is not None
        paths.append(Path(found.origin) if not found.submodule_search_locations else Path(next(iter(found.submodule_search_locations))))
    return tuple(paths)


@cache
def source_fingerprint() -> str:
    """Twelve hexadecimal digits of all that ``code_paths`` hold, profiles and templates included."""
    digest = hashlib.sha256()
    for path in code_paths():
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and _GENERATED not in p.parts)
        for file in files:
            digest.update(file.relative_to(path.parent).as_posix().encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def identity() -> dict[str, str]:
    """What must be equal on the driver and on every worker: versions by package, and ``compareto``'s source.

    Builds of one version (``2.13.0+cpu``) count as equal.
    """
    found = {"python": ".".join(python_version().split(".")[:2])}
    for package in _PACKAGES:
        try:
            found[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            found[package] = "missing"
    found["compareto"] = f"source {source_fingerprint()}"
    return found


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """What differs ``there``, one package each with both versions."""
    return [f"{package} {there.get(package, 'missing')}, here {mine}" for package, mine in here.items() if there.get(package, "missing") != mine]


def runtime_env(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What Ray is to send to every worker: compareto's packages; nothing inside a job whose ``working_dir`` they came with."""
    paths = code_paths()
    job = json.loads(environment.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}").get("runtime_env") or {}
    if "py_modules" in job or ("working_dir" in job and all(path.resolve().is_relative_to(Path.cwd().resolve()) for path in paths)):
        return {}
    return {"py_modules": [str(path) for path in paths], "excludes": [_GENERATED]}
