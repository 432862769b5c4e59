"""Fit every device of a file of measurements, and say how well that predicts networks it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError
from evaluators.devices.fitted import FittedRuntime, FittedSetting, Pooled, write_fitted, write_pooled
from evaluators.devices.fitting.familiar import Familiar, by_threads, circumstances, fit_familiar, well_known
from evaluators.devices.fitting.features import design
from evaluators.devices.fitting.forms import form_of
from evaluators.devices.fitting.intervals import conformal_factor
from evaluators.devices.fitting.layers import MeasuredKernel
from evaluators.devices.fitting.measurements import Measurements
from evaluators.devices.fitting.pooled import Prior, covariates, fit
from evaluators.devices.fitting.processors import owners
from evaluators.devices.fitting.validate import validate
from evaluators.devices.fitting.validation import Validation, threads_group
from evaluators.devices.profile import load_profile, profile_path

__all__ = ["FittedDevices", "fit_devices"]

Floats = NDArray[np.float64]
Networks = Mapping[str, Sequence[MeasuredKernel]]


_FIRST = 8
"""How many networks are named that are best measured first on a new device."""


@dataclass(frozen=True)
class FittedDevices:
    """By device, as the measurements call it, and ``UNIT/RUNTIME`` what was fitted; and what the devices have in common."""

    devices: Mapping[str, Mapping[str, FittedRuntime]]
    pooled: Mapping[str, Pooled]

    def write(self, folder: Path | None = None) -> tuple[list[Path], list[str]]:
        """Write the profiles that list these devices, and the prior; returns the files, and the devices that no profile lists.

        Args:
            folder: receives copies; else the profiles are changed where they are.

        Raises:
            UserError: a file cannot be written.
        """
        written, left = [], []
        by_profile: dict[str, dict[str, list[FittedRuntime]]] = {}
        for device, runtimes in self.devices.items():
            if device not in owners():
                left.append(device)
                continue
            index = load_profile(owners()[device]).names.index(device)
            for key, fitted in runtimes.items():
                named = fitted.model_copy(update={"settings": tuple(s.model_copy(update={"name": index}) for s in fitted.settings)})
                by_profile.setdefault(owners()[device], {}).setdefault(key, []).append(named)
        for profile, runtimes_ in by_profile.items():
            path = profile_path(profile)
            if folder is not None:
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    copy = folder / path.name
                    copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
                    path = copy
                except OSError as error:
                    raise UserError(f"--out {folder} cannot be written: {error.strerror}") from error
            write_fitted(path, {key: _merged(parts) for key, parts in runtimes_.items()})
            written.append(path)
        shared = folder if folder is not None else profile_path("_pooled").parent
        write_pooled(shared, self.pooled)
        return [*written, shared / "_pooled.yaml"], left


def fit_devices(measured: Measurements, networks: Networks, source: str, progress: Callable[[str], None] = print) -> FittedDevices:
    """Fit all devices together, by unit.

    Raises:
        UserError: fewer than two networks.
    """
    devices: dict[str, dict[str, FittedRuntime]] = {}
    pooled: dict[str, Pooled] = {}
    for validation in validate(measured, networks, "networks"):
        part = validation.measured
        unit = part.settings[0].unit
        form = form_of(unit)
        work = design(networks, measured.networks, form)
        fitted = fit(work, part.ms, covariates(part.settings), form)
        key = f"{unit}/{'+'.join(sorted({s.runtime for s in part.settings}))}"
        rows = int(np.isfinite(part.ms).sum())
        known = {name: sum(k.macs for k in networks[name]) for name in part.networks}
        learned, first = _familiar(fitted.prior, work, part)
        pooled[key] = Pooled.of(fitted.prior, form, source, rows, len(part.settings), _factors(validation), learned, known, first)
        for device, runtime in dict.fromkeys((s.device, s.runtime) for s in part.settings):
            chosen = [i for i, s in enumerate(part.settings) if (s.device, s.runtime) == (device, runtime) and np.isfinite(part.ms[i]).any()]
            if chosen:
                devices.setdefault(device, {})[f"{unit}/{runtime}"] = FittedRuntime(
                    source=source,
                    rows=int(np.isfinite(part.ms[chosen]).sum()),
                    networks=int(np.isfinite(part.ms[chosen]).any(axis=0).sum()),
                    error=_errors(validation, chosen),
                    settings=tuple(
                        FittedSetting.of(np.exp(fitted.costs[i]), form, gpu=s.gpu, threads=s.threads, cores=s.cores, run=s.run)
                        for i in chosen
                        for s in [part.settings[i]]
                    ),
                )
        progress(f"{key}: {rows} rows of {len(part.networks)} networks in {len(part.settings)} settings of devices; residual {fitted.prior.residual:.1%}")
    return FittedDevices(devices, pooled)


def _familiar(prior: Prior, work: Floats, measured: Measurements) -> tuple[dict[str, Familiar], dict[str, tuple[str, ...]]]:
    """By number of threads how the networks compare, where enough settings have run them, and which tell most of the others."""
    about = circumstances(measured.settings)
    learned: dict[str, Familiar] = {}
    first: dict[str, tuple[str, ...]] = {}
    for threads, rows in by_threads(measured.settings).items():
        if well_known(measured.ms[rows], measured.settings[0].unit):
            learned[threads] = fit_familiar(prior, work, measured.ms[rows], about[rows])
            order = learned[threads].order(about[rows], measured.ms[rows], _FIRST)
            first[threads] = tuple(measured.networks[i] for i in order)
    return learned, first


def _errors(validation: Validation, rows: list[int]) -> dict[str, float]:
    errors = np.abs(validation.predicted[rows] / validation.measured.ms[rows] - 1)
    found = {}
    for precision, columns in (("fp32", ~validation.integer), ("int8", validation.integer)):
        values = errors[:, columns][np.isfinite(errors[:, columns])]
        if len(values):
            found[precision] = round(max(float(values.mean()), 1e-3), 3)
    return found


def _factors(validation: Validation) -> dict[str, float]:
    """Conformal factors by ``THREADS/PRECISION`` from all held-out rows."""
    found = {}
    errors = np.log(validation.predicted) - np.log(validation.measured.ms)
    scales = validation.scales
    groups = np.array([threads_group(s.threads) for s in validation.measured.settings])
    for threads in sorted(set(groups.tolist())):
        for precision, columns in (("fp32", ~validation.integer), ("int8", validation.integer)):
            rows = groups == threads
            cells = np.ix_(rows, columns)
            if np.isfinite(errors[cells]).any():
                found[f"{threads}/{precision}"] = conformal_factor(errors[cells], scales[cells])
    return found


def _merged(parts: Sequence[FittedRuntime]) -> FittedRuntime:
    """Several names of one device, such as two boards, are kept side by side."""
    first = parts[0]
    if len(parts) == 1:
        return first
    rows = sum(part.rows for part in parts)
    error = {p: round(sum(part.rows * part.error.get(p, first.error.get(p, 0.1)) for part in parts) / rows, 3) for p in first.error}
    settings = tuple(s for part in parts for s in part.settings)
    return FittedRuntime(source=first.source, rows=rows, networks=max(part.networks for part in parts), error=error, settings=settings)
