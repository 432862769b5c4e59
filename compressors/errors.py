"""Every exception that compareto raises on purpose.

    ComparetoError
    ├── UserError              a mistake in what the user wrote or passed; the command exits 2 with the message alone
    │   ├── TraceError         the model cannot be traced
    │   └── StorageError       a disk or object store is full, read-only or gone; never a fact about a recipe
    └── TrialError           an expected way for one recipe to fail; becomes a record, never a crash
        ├── CompressionError   the recipe cannot be applied to this model   (status ``infeasible``)
        ├── DivergedError      training produced NaN or infinity            (status ``diverged``)
        ├── OutOfMemoryError     the recipe needs more memory than there is   (status ``out-of-memory``)
        └── UnexportableError  the target cannot express the result         (status ``unexportable``)

Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "ComparetoError",
    "CompressionError",
    "DivergedError",
    "OutOfMemoryError",
    "StorageError",
    "TraceError",
    "TrialError",
    "UnexportableError",
    "UserError",
    "near_miss",
]


class ComparetoError(Exception):
    """Base of every error that compareto raises on purpose."""


class UserError(ComparetoError):
    """A mistake in what the user wrote; its message names the place, the value and what is accepted."""


class TraceError(UserError):
    """``torch.export`` cannot trace the model."""


class StorageError(UserError):
    """The cache or a study cannot be written or read: full, read-only or gone. It ends the search, which is resumed once there is space."""


class TrialError(ComparetoError):
    """An expected failure of one recipe. ``status`` is what its record says."""

    status: ClassVar[str] = "error"


class CompressionError(TrialError):
    """The recipe cannot be applied to this model."""

    status = "infeasible"


class DivergedError(TrialError):
    """Training or evaluation produced a value that is not finite."""

    status = "diverged"


class OutOfMemoryError(TrialError):
    """The trial needs more memory than its worker has."""

    status = "out-of-memory"


class UnexportableError(TrialError):
    """The target's format cannot express the compressed model."""

    status = "unexportable"


def near_miss(word: str, accepted: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the accepted word nearest to ``word``, else an empty string."""
    matches = difflib.get_close_matches(word, list(accepted), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]!r}?" if matches else ""
