"""Power modes: what a lower clock does to speed and to energy."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.rates import Rates

__all__ = ["at_clock", "voltage"]

T = TypeVar("T", float, NDArray[np.float64])


def voltage(share: T) -> T:
    """Voltage at a share of the highest clock, of that at the highest: it falls with the clock, to half of it. An estimate; tables of phones span 0.55 to 1."""
    return 0.5 + 0.5 * share


def at_clock(rates: Rates, share: float) -> Rates:
    """The rates of a unit that runs at a share of its highest clock.

    Everything that the processor does takes longer by the same factor; memory keeps its speed. The energy of a multiply-accumulate falls with the square of
    the voltage.
    """
    return rates.model_copy(
        update={
            "compute": {p: {c: r.model_copy(update={"gmacs": r.gmacs * share}) for c, r in table.items()} for p, table in rates.compute.items()},
            "bandwidth_gb_s": {c: value * share for c, value in rates.bandwidth_gb_s.items()},
            "launch_us": {c: value / share for c, value in rates.launch_us.items()},
            "overhead_ms": rates.overhead_ms / share,
            "pj_per_mac": {p: value * voltage(share) ** 2 for p, value in rates.pj_per_mac.items()},
        }
    )
