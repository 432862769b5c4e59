"""Pydantic's errors as lines for people: the key's path, the value, what is accepted, the nearest accepted word."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

import pydantic
from pydantic_core import ErrorDetails

from compressors.errors import near_miss

__all__ = ["field_names", "problems_of"]

_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")


def problems_of(error: pydantic.ValidationError, data: Any, annotation: Any) -> list[tuple[tuple[str | int, ...], str]]:
    """Path below ``data`` and message of each error; ``annotation`` is the type that was validated."""
    located = [(_path(e, data), e) for e in error.errors()]
    paths = [path for path, _ in located]
    # A union reports why each member failed; the member that got furthest is the one that was meant.
    located = [(p, e) for p, e in located if not (e["type"].endswith("_type") and any(o[: len(p)] == p and len(o) > len(p) for o in paths))]
    accepted: dict[tuple[tuple[str | int, ...], str], list[str]] = {}
    whole: dict[tuple[tuple[str | int, ...], str], None] = {}
    for path, e in located:
        if e["type"] in _UNKNOWN:
            names = field_names(annotation, path[:-1])
            whole[path, f"unknown key {path[-1]!r}; accepted: {', '.join(names)}{near_miss(str(path[-1]), names)}"] = None
        elif e["type"] in _MISSING:
            whole[path, "missing"] = None
        elif e["type"] == "value_error":
            got = "" if isinstance(e["input"], (Mapping, list)) else f", got {e['input']!r}"
            whole[path, f"{e['msg'].removeprefix('Value error, ')}{got}"] = None
        else:
            message = re.sub(r"^(Input|Value) should be ", "", e["msg"])
            if e["type"] == "literal_error":
                message += near_miss(str(e["input"]), re.findall(r"'([^']*)'", message))
            ways = accepted.setdefault((path, repr(e["input"])), [])
            if message not in ways:
                ways.append(message)
    return [*whole, *((path, f"{value} is not accepted; accepted: {' or '.join(ways)}") for (path, value), ways in accepted.items())]


def field_names(annotation: Any, path: Sequence[str | int] = ()) -> tuple[str, ...]:
    """Keys that the type at ``path`` below ``annotation`` accepts; empty where they are free."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return field_names(get_args(annotation)[0], path)
    if origin in (Union, types.UnionType):
        return tuple(dict.fromkeys(name for member in get_args(annotation) for name in field_names(member, path)))
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        fields: Mapping[str, Any] = {name: field.annotation for name, field in annotation.model_fields.items()}
    elif hasattr(annotation, "__pydantic_fields__"):
        fields = {name: field.annotation for name, field in annotation.__pydantic_fields__.items()}
    elif origin is not None and path:
        return field_names(get_args(annotation)[-1 if issubclass(origin, Mapping) else 0], path[1:])
    else:
        return ()
    if not path:
        return tuple(fields)
    return field_names(fields[str(path[0])], path[1:]) if path[0] in fields else ()


def _path(error: ErrorDetails, data: Any) -> tuple[str | int, ...]:
    """The error's place as keys of ``data``, without the names of union members that pydantic puts between them."""
    path: list[str | int] = []
    part: Any
    for i, part in enumerate(error["loc"]):
        if (isinstance(data, Mapping) and part in data) or (isinstance(data, (list, tuple)) and isinstance(part, int) and part < len(data)):
            data = data[part]
            path.append(part)
        elif i == len(error["loc"]) - 1 and error["type"] in _UNKNOWN + _MISSING:
            path.append(part)
    return tuple(path)
