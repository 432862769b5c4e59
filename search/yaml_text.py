"""YAML as experiments use it: safe, a key at most once, ``1e-3`` a number; and ``key=value`` overrides of what was read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from compressors.errors import UserError

__all__ = ["override", "read_yaml"]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without its silent choices."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (str, int, float)):
                if key in seen:
                    raise UserError(f"line {key_node.start_mark.line + 1}: key {key!r} was already given on line {seen[key]}")
                seen[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)


# PyYAML follows YAML 1.1, where 1e-3 (no dot) is a string.
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789."))


def read_yaml(path: Path) -> Any:
    """The content of a file.

    Raises:
        UserError: it cannot be read, is not YAML, or gives a key twice.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - derives from SafeLoader
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def override(data: Any, overrides: Sequence[str]) -> None:
    """Set values of ``data`` in place: ``search.trials=4``, ``recipe[0].prune.ratio=0.5``; values are YAML.

    Raises:
        UserError: an override without ``=``, or whose place is not in ``data``.
    """
    for text in overrides:
        place, equals, value = text.partition("=")
        parts = [int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", place)]
        if not equals or not parts:
            raise UserError(f"cannot set {text!r}; accepted: key=value, such as search.trials=4 or recipe[0].prune.ratio=0.5")
        try:
            parsed = yaml.load(value, Loader=_Loader)  # noqa: S506 - derives from SafeLoader
        except yaml.YAMLError as error:
            raise UserError(f"cannot set {text!r}: {value!r} is not YAML") from error
        node = data
        for depth, part in enumerate(parts):
            last = depth == len(parts) - 1
            if isinstance(node, dict):
                if last:
                    node[part] = parsed
                else:
                    if node.get(part) is None:
                        node[part] = {}
                    node = node[part]
            elif isinstance(node, list) and isinstance(part, int) and part < len(node):
                if last:
                    node[part] = parsed
                else:
                    node = node[part]
            else:
                raise UserError(f"cannot set {text!r}: there is no {part!r} in {node!r}")
