"""Checking ``include`` and ``exclude`` patterns against a traced model."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from compressors.errors import near_miss
from compressors.graph.model_graph import ModelGraph

__all__ = ["unmatched_patterns"]


def unmatched_patterns(graph: ModelGraph, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Patterns that match no axis and no site, each with a suggestion (``"; did you mean 'x'?"`` or an empty string)."""
    names = graph.module_names
    return [
        (pattern, near_miss(pattern, names)) for pattern in dict.fromkeys((*include, *exclude)) if not any(fnmatch.fnmatchcase(name, pattern) for name in names)
    ]
