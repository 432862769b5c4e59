"""Amounts as people write them: ``20GB``, ``30d``, ``2 nodes``."""

from __future__ import annotations

import re

from compressors.errors import UserError

__all__ = ["counted", "format_bytes", "format_seconds", "parse_bytes", "parse_seconds"]

_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_bytes(text: str, name: str) -> int:
    """``5GB`` as bytes. A bare number is refused: nobody means bytes by ``5``.

    Args:
        text: the amount.
        name: of the argument or variable that it was given as.

    Raises:
        UserError: not a size.
    """
    return int(_parse(text, name, _BYTES, "a size such as 5GB, 500MB or 2GiB"))


def parse_seconds(text: str, name: str) -> float:
    """``30d`` as seconds; otherwise as ``parse_bytes``.

    Raises:
        UserError: not a duration.
    """
    return _parse(text, name, _SECONDS, "a duration such as 30d, 12h or 45min")


def format_bytes(count: float) -> str:
    """``1.3 GB``."""
    for unit in ("TB", "GB", "MB", "kB"):
        if count >= _BYTES[unit]:
            return f"{count / _BYTES[unit]:.3g} {unit}"
    return f"{count:.0f} B"


def format_seconds(seconds: float) -> str:
    """``3 days``, ``2 hours``, ``5 minutes``."""
    for unit, word in (("d", "day"), ("h", "hour"), ("min", "minute")):
        count = int(seconds // _SECONDS[unit])
        if count:
            return counted(count, word)
    return f"{seconds:.0f} seconds"


def counted(count: int, word: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def _parse(text: str, name: str, units: dict[str, int], accepted: str) -> float:
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([A-Za-z]+)\s*", text)
    unit = None if match is None else next((u for u in units if u.lower() == match[2].lower()), None)
    if match is None or unit is None:
        raise UserError(f"{name}: {text!r} is not accepted; accepted: {accepted} (units: {', '.join(dict.fromkeys(units))})")
    return float(match[1]) * units[unit]
