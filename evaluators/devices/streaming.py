"""How fast a unit reads what no memory on its chip holds: the weights and the cache of a language model, from ``_streaming.yaml``.

Rates that were fitted to networks for images say little about it: their weights are a few megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pydantic

from evaluators.devices.profile import load_profile
from evaluators.devices.profile_tables import PROFILES, STRICT, Positive, Share, Source, read_yaml

__all__ = ["stream_gb_s"]


class _Streaming(pydantic.BaseModel):
    """``measured``: 1e9 bytes a second by ``DEVICE.UNIT``; ``share``: of the memory's bandwidth, by unit, where nothing was measured."""

    model_config = STRICT

    source: Source
    measured: Mapping[str, Positive]
    share: Mapping[str, Share]


@cache
def _table() -> _Streaming:
    return _Streaming.model_validate(read_yaml(PROFILES / "_streaming.yaml"))


def stream_gb_s(device: str, unit: str) -> float:
    """1e9 bytes a second: as measured on the device, or on the one whose rates hold there; else a share of its memory's bandwidth."""
    profile, table = load_profile(device), _table()
    like = () if profile.like is None else ((f"{profile.like.device}.{unit}", profile.like.clock),)
    for name, clock in ((f"{device}.{unit}", 1.0), *like):
        if name in table.measured:
            return float(table.measured[name] * clock)
    share: float = table.share.get(unit, 1.0)
    return profile.units[unit].bandwidth_gb_s.value * share
