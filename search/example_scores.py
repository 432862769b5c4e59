"""What each example contributed to a metric, as a few bytes of text: so that two models are compared on the same examples."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError

__all__ = ["pack", "unpack"]


def pack(values: NDArray[Any]) -> dict[str, str]:
    """``[examples]`` as base64: zeros and ones as bits, everything else as 32-bit floats, little-endian."""
    values = np.asarray(values)
    if np.isin(values, (0, 1)).all():
        return {"bits": base64.b64encode(np.packbits(values.astype(np.bool_)).tobytes()).decode(), "count": str(len(values))}
    return {"floats": base64.b64encode(values.astype("<f4").tobytes()).decode()}


def unpack(packed: Mapping[str, str], source: str = "examples") -> NDArray[np.float64]:
    """``[examples]``; empty where nothing was kept.

    Raises:
        UserError: ``source`` is not what ``pack`` wrote.
    """
    try:
        if "bits" in packed:
            bits = np.frombuffer(base64.b64decode(packed["bits"], validate=True), dtype=np.uint8)
            return np.unpackbits(bits, count=int(packed["count"])).astype(np.float64)
        return np.frombuffer(base64.b64decode(packed.get("floats", ""), validate=True), dtype="<f4").astype(np.float64)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{source} are not examples that were kept ({error})") from error
