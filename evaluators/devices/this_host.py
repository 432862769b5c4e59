"""``this-host/RUNTIME``: the cost model of the machine at hand, from a calibration done once and cached."""

from __future__ import annotations

import fcntl
import math
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pydantic
import yaml

from compressors.errors import UserError
from evaluators.cache_folder import cache_folder
from evaluators.devices.names import THIS_HOST, parse_device

if TYPE_CHECKING:
    from evaluators.devices.calibration.calibrate import Calibration
    from evaluators.devices.device_model import DeviceModel

__all__ = ["DEFAULT_THREADS", "QUICK", "calibrate_this_host", "calibration_path", "forget", "nearest_profile", "read_calibration", "this_host"]

DEFAULT_THREADS = 1
"""A study's workers share the machine, so one thread is what a candidate can count on; ``this-host:4t`` asks for more."""

QUICK = ("onnxruntime",)
"""Runtimes whose microbenchmarks need no conversion, so that a search can calibrate them when it starts."""

_models: dict[tuple[str, Path], DeviceModel] = {}


def calibration_path(threads: int, runtime: str = "onnxruntime") -> Path:
    """Where the calibration of this machine, with these versions and threads, is cached.

    Raises:
        UserError: the runtime is not installed.
    """
    from compressors.recipe import fingerprint
    from evaluators.devices.calibration.calibrate import identity

    return cache_folder() / "devices" / f"{THIS_HOST}.{runtime}.{fingerprint(identity(threads, runtime))}.yaml"


def this_host(progress: Callable[[str], None], threads: int | None = None, runtime: str = "onnxruntime") -> DeviceModel:
    """The model of this machine: from the cache, else calibrated now on kernels alone, else the nearest profile.

    The nearest profile stands in on a machine too noisy to be calibrated, and for a runtime whose models take minutes to convert; ``progress`` says so.

    Args:
        progress: receives a line at a time.
        threads: that a session uses; ``DEFAULT_THREADS`` where None.
        runtime: a target's name.

    Raises:
        UserError: more threads than the machine has cores, a runtime that is not installed, or the cache folder cannot be written.
    """
    from evaluators.devices.calibration.calibrate import NoisyMachineError, calibrate

    count, path = _checked(threads, runtime)
    key = f"{THIS_HOST}/{runtime}" + ("" if threads is None else f":{threads}t")
    if (key, path) in _models:
        return _models[key, path]
    with _locked(path):
        found = read_calibration(path)
        why = ""
        if found is None and runtime in QUICK:
            try:
                found = calibrate(count, progress, nearest_profile())
            except NoisyMachineError as error:
                why = f"{THIS_HOST} cannot be calibrated ({error})"
            else:
                _write(path, found)
                progress(
                    f"{THIS_HOST} is calibrated: residual {found.residual:.0%}, spread {found.spread:.0%}, kept in {path}; "
                    "`compareto devices calibrate` takes minutes and is more exact"
                )
        elif found is None:
            why = f"{key} is not calibrated; `compareto devices calibrate {key}` takes some minutes"
    if found is None:
        progress(f"{why}; the profile {nearest_profile()} is used instead, tier spec-only")
    _models[key, path] = model = _nearest(key, runtime) if found is None else _model(key, found, runtime)
    return model


def calibrate_this_host(progress: Callable[[str], None], threads: int | None = None, runtime: str = "onnxruntime") -> Path:
    """Calibrate on kernels and whole networks, some minutes, and keep the result; what an interrupted calibration measured is not measured again.

    Raises:
        UserError: the machine is too noisy; more threads than it has cores; a runtime that is not installed; the cache folder cannot be written.
    """
    from evaluators.devices.calibration.calibrate import NoisyMachineError, calibrate

    count, path = _checked(threads, runtime)
    with _locked(path):
        keep = path.with_suffix(".rounds.json")
        try:
            if runtime in QUICK:
                found = calibrate(count, progress, nearest_profile(), networks=True, keep=keep)
            else:
                from evaluators.devices.calibration.converted import calibrate_converted

                found = calibrate_converted(runtime, count, progress, nearest_profile(), keep)
        except NoisyMachineError as error:
            keep.unlink(missing_ok=True)
            raise UserError(f"{THIS_HOST} cannot be calibrated: {error}; stop what else runs on it and try again") from error
        _write(path, found)
    forget()
    return path


def _checked(threads: int | None, runtime: str) -> tuple[int, Path]:
    count, cores = threads or DEFAULT_THREADS, os.cpu_count() or 1
    if count > cores:
        raise UserError(f"{THIS_HOST}: {count} threads were asked for, this machine has {cores} cores")
    return count, calibration_path(count, runtime)


def forget() -> None:
    """Drop the models that this process has built, so that the next one is read from the cache."""
    _models.clear()


def _model(key: str, calibration: Calibration, runtime: str) -> DeviceModel:
    from compressors.targets import target_named
    from evaluators.devices.roofline import Interval, Roofline

    factor = math.exp(calibration.half_width)
    interval = Interval(latency=(1 / factor, factor), memory=(0.7, 1.6), energy=(0.2, 5.0))
    return Roofline(key, int(calibration.memory_bytes), calibration.rates, target_named(runtime), "host-calibrated", interval, {"energy_mj": "spec-only"})


def nearest_profile() -> str:
    """The shipped profile that resembles this machine most."""
    return "x86-server-core" if platform.machine().lower() in ("x86_64", "amd64") else "raspberry-pi-5"


def _nearest(key: str, runtime: str) -> DeviceModel:
    from evaluators.devices.registry import spec_model

    return spec_model(parse_device(f"{nearest_profile()}/{runtime}"), called=key)


def read_calibration(path: Path) -> Calibration | None:
    """The cached calibration; None where there is none, or none of this version."""
    from evaluators.devices.calibration.calibrate import Calibration

    try:
        return Calibration.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, pydantic.ValidationError):
        return None


def _write(path: Path, calibration: Calibration) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(yaml.safe_dump(calibration.model_dump(), sort_keys=False), encoding="utf-8")
    partial.replace(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process calibrates at a time; two at once would disturb each other."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except PermissionError as error:
        raise UserError(f"the cache folder {path.parent} cannot be written: {error.strerror}; set COMPARETO_CACHE to one that can") from error
