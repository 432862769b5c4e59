"""Where few models can be timed: factors for classes of kernels, and how their speed depends on sizes, both from the same times.

Sizes of half speed, what a launch, a byte and an inference cost are chosen from short lists, one after the other, as long as a choice explains the times
better by more than it could by chance; the factors are fitted anew for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.calibration.correction import Correction, explained, grouped_ms, tabulated, with_factors
from evaluators.devices.kernel_table import KernelTable
from evaluators.devices.rates import Rates
from evaluators.devices.roofline import Roofline

__all__ = ["correct_shapes", "shaped"]

Floats = NDArray[np.float64]
_SWEEPS = 2
_LEAST_GAIN = 4.0
"""In twice the logarithm of the likelihood, for a choice to be changed."""
_SIZES = {"half_depth": (0, 8, 32, 128), "half_width": (0, 4, 16, 64), "half_rows": (0, 1, 4, 16, 64), "half_outputs": (0, 256, 2048, 8192)}
_CHOICES: Mapping[str, tuple[float, ...]] = {
    "launch": (0.3, 1, 3),
    "bandwidth": (0.3, 1, 3),
    "overhead": (1, 3, 6),
    "hidden": (0, 1),
    **{f"{arithmetic}.{size}": values for arithmetic in ("fp32", "int8") for size, values in _SIZES.items()},
}
"""``launch``, ``bandwidth`` and ``overhead`` multiply; ``hidden`` is whether memory traffic happens behind the arithmetic; sizes are those of ``Rate``."""


def shaped(rates: Rates, choice: Mapping[str, float]) -> Rates:
    """``rates`` with what is chosen of ``_CHOICES``."""
    changes: dict[str, Any] = {
        "launch_us": {name: value * choice.get("launch", 1.0) for name, value in rates.launch_us.items()},
        "bandwidth_gb_s": {name: value * choice.get("bandwidth", 1.0) for name, value in rates.bandwidth_gb_s.items()},
        "weight_gb_s": rates.weight_gb_s * choice.get("bandwidth", 1.0),
        "overhead_ms": rates.overhead_ms * choice.get("overhead", 1.0),
        "hidden_traffic": bool(choice.get("hidden", rates.hidden_traffic)),
        "compute": {},
    }
    for precision, table in rates.compute.items():
        arithmetic = "int8" if precision.startswith("int8") else "fp32"
        sizes = {size: float(choice[f"{arithmetic}.{size}"]) for size in _SIZES if f"{arithmetic}.{size}" in choice}
        changes["compute"][precision] = {op_class: rate.model_copy(update=sizes) for op_class, rate in table.items()}
    return rates.model_copy(update=changes)


def correct_shapes(
    model: Callable[[Rates], Roofline],
    rates: Rates,
    networks: Sequence[tuple[str, KernelTable]],
    milliseconds: Floats,
    spread: float,
    residual: Floats,
    judged: NDArray[np.bool_],
) -> Correction:
    """As ``correct``, with choices; see the module.

    Args:
        model: the cost model of given rates.
        rates: to be changed.
        networks: name and kernels of each network in each form, one candidate each.
        milliseconds: ``[networks]``.
        spread: standard deviation of the logarithm of a factor.
        residual: ``[networks]`` how well their times are expected to be explained.
        judged: ``[networks]`` those whose residuals are wanted; each is left out of factors and choices alike.
    """
    search = _Search(model, rates, networks, milliseconds, spread, residual)
    names, held_out = np.array([name for name, _ in networks]), np.zeros(len(networks))
    for name in np.unique(names[judged]):
        others = names != name
        choice = search.best(others)
        held_out[~others] = search.residuals(choice, others)[~others]
    everything = np.ones(len(names), dtype=np.bool_)
    choice = search.best(everything)
    groups, _, _ = search.parts(choice)
    return Correction(with_factors(shaped(rates, choice), groups, search.fitted(choice, everything)[1]), held_out[judged])


class _Search:
    def __init__(
        self,
        model: Callable[[Rates], Roofline],
        rates: Rates,
        networks: Sequence[tuple[str, KernelTable]],
        milliseconds: Floats,
        spread: float,
        residual: Floats,
    ) -> None:
        self._model, self._rates, self._networks = model, rates, networks
        self._ms, self._spread, self._residual = milliseconds, spread, residual
        self._parts: dict[tuple[tuple[str, float], ...], tuple[list[str], Floats, float]] = {}

    def parts(self, choice: Mapping[str, float]) -> tuple[list[str], Floats, float]:
        """Groups of kernels, their milliseconds ``[networks, groups]``, and the fixed cost."""
        key = tuple(sorted(choice.items()))
        if key not in self._parts:
            rates = shaped(self._rates, choice)
            model = self._model(rates)
            groups, matrix = tabulated([grouped_ms(model, table) for _, table in self._networks])
            self._parts[key] = groups, matrix, rates.overhead_ms
        return self._parts[key]

    def fitted(self, choice: Mapping[str, float], rows: NDArray[np.bool_]) -> tuple[float, Floats]:
        """How badly the rows are explained, and the logarithms of the factors."""
        groups, matrix, fixed = self.parts(choice)
        logs, _ = explained(matrix[rows], fixed, self._ms[rows], self._spread**2 * np.eye(len(groups)), self._residual[rows])
        errors = np.log((matrix[rows] @ np.exp(logs) + fixed) / self._ms[rows]) / self._residual[rows]
        return float(errors @ errors + logs @ logs / self._spread**2), logs

    def best(self, rows: NDArray[np.bool_]) -> dict[str, float]:
        """The choice that explains the rows; what is not in it stays as it was."""
        choice: dict[str, float] = {}
        least = self.fitted(choice, rows)[0]
        for _ in range(_SWEEPS):
            for name, values in _CHOICES.items():
                for value in values:
                    other = {**choice, name: float(value)}
                    misfit = self.fitted(other, rows)[0]
                    if misfit < least - _LEAST_GAIN:
                        choice, least = other, misfit
        return choice

    def residuals(self, choice: Mapping[str, float], rows: NDArray[np.bool_]) -> Floats:
        """Logarithm of predicted over measured of all networks, by factors of ``rows``."""
        _, matrix, fixed = self.parts(choice)
        return np.asarray(np.log((matrix @ np.exp(self.fitted(choice, rows)[1]) + fixed) / self._ms))
