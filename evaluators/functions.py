"""Functions that an experiment names: in a file next to it, or in a module."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from compressors.errors import UserError, near_miss
from evaluators.hub import first_line

__all__ = ["load_function"]


def load_function(place: str, folder: Path, key: str) -> Callable[..., Any]:
    """``file.py:function`` or ``package.module:function``. A file is loaded by its path under a private name.

    Args:
        place: where it is.
        folder: where files are looked for.
        key: of the experiment, for messages.

    Raises:
        UserError: a file or function that is not there, or a module that raises when it is loaded.
    """
    module, function = _module(place, folder, key)
    found = getattr(module, function, None)
    if not callable(found):
        names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UserError(f"{key}: {place!r} has no function {function!r}{near_miss(function, names)}")
    return found  # type: ignore[no-any-return]


def _module(text: str, folder: Path, key: str) -> tuple[ModuleType, str]:
    place, _, function = text.rpartition(":")
    if not place.endswith(".py"):
        try:
            return importlib.import_module(place), function
        except (Exception, SystemExit) as error:
            raise UserError(f"{key}: cannot import {place!r}: {type(error).__name__}: {first_line(error)}") from error
    path = folder / place
    if not path.is_file():
        raise UserError(f"{key}: no file {path}")
    source = path.read_bytes()
    name = f"_compareto_factory_{hashlib.sha256(source).hexdigest()[:12]}"
    if name not in sys.modules:
        loading = importlib.util.spec_from_file_location(name, path)
        assert loading is not None
        assert loading.loader is not None
        module = importlib.util.module_from_spec(loading)
        sys.modules[name] = module
        try:
            loading.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise UserError(f"{key}: {path.name} raises {type(error).__name__} when it is loaded: {error}") from error
    return sys.modules[name], function
