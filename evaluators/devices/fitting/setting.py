"""Measured latencies of whole networks: which networks, on which devices, in which way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Measurements", "Setting"]


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """One way in which a device was measured.

    Attributes:
        device: as the file calls it.
        unit: ``cpu``, ``gpu`` or ``npu``.
        gpu: index of the accelerator, -1 for a cpu.
        threads: of the cpu.
        cores: which of them: 0 all, 1 little, 2 big.
        run: 0, or more where the file has the same setting again, in its order.
        runtime: what ran the network.
    """

    device: str
    unit: str
    gpu: int
    threads: int
    cores: int
    run: int
    runtime: str = "ncnn"


@dataclass(frozen=True)
class Measurements:
    """Minimum latencies.

    Attributes:
        settings: in the order of the file.
        networks: sorted.
        ms: ``[settings, networks]``, NaN where there is none or it was disturbed.
        disturbed: rows that were left out.
    """

    settings: tuple[Setting, ...]
    networks: tuple[str, ...]
    ms: NDArray[np.float64]
    disturbed: int

    def select(self, settings: Iterable[int]) -> Measurements:
        """Some of the settings."""
        chosen = list(settings)
        return Measurements(tuple(self.settings[i] for i in chosen), self.networks, self.ms[chosen], self.disturbed)

    def of_unit(self, unit: str) -> Measurements:
        """Those of ``cpu``, ``gpu`` or ``npu``."""
        return self.select(i for i, s in enumerate(self.settings) if s.unit == unit)
