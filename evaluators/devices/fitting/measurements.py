"""Latencies of whole networks on many devices: reads the CSV, groups its rows into settings and marks those that were disturbed."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from compressors.errors import UserError, near_miss
from evaluators.devices.fitting.aihub import COLUMNS as AIHUB
from evaluators.devices.fitting.aihub import is_aihub, read_aihub
from evaluators.devices.fitting.layers import MeasuredKernel
from evaluators.devices.fitting.setting import Measurements, Setting

__all__ = ["Measurements", "Setting", "family", "is_integer", "read_measurements", "twin_of"]

_NEEDED = ("device", "num_threads", "model", "min_ms")
_DISTURBED = 1.5
"""Average over minimum, above which something else ran at the same time: 1 % of the rows of the Tencent/ncnn benchmark."""
_SPEEDS = {"cpu": (0.003, 400.0), "gpu": (0.01, 100_000.0), "npu": (1.0, 100_000.0)}
"""1e9 multiply-accumulates a second (and thread of a cpu) that no processor falls short of, and that none reaches."""


def twin_of(network: str) -> str:
    """The network without its precision: what must be held out together."""
    return re.sub(r"[_-](int8|w8a8)$", "", network)


def family(network: str) -> str:
    """What variants of one architecture have in common: the letters that their names begin with."""
    match = re.match(r"[a-z]+", network.lower())
    return (match[0] if match else network).removesuffix("v")


def is_integer(kernels: Sequence[MeasuredKernel]) -> bool:
    """Whether a network computes in 8-bit integers."""
    return any(k.integer for k in kernels)


def read_measurements(path: Path, layers: Mapping[str, Sequence[MeasuredKernel]]) -> Measurements:
    """Read a CSV with the columns device, num_threads, model, min_ms and, where known, avg_ms, powersave, gpu_device, loop_count, cooling_down.

    The performance table of Qualcomm AI Hub is read as it is, see ``evaluators.devices.fitting.aihub``.

    Raises:
        UserError: a column is missing, a value is no number, latencies cannot be milliseconds, or a network has no layers.
    """
    rows = _rows(path)
    if is_aihub(rows[0][1]):
        table = read_aihub(path, rows, layers)
        _check_units(path, table, layers)
        return table
    keys: list[Setting] = []
    settings: dict[Setting, int] = {}
    seen: set[tuple[Setting, str]] = set()
    current: dict[tuple[object, ...], tuple[tuple[str, ...], int]] = {}
    found: list[tuple[int, str, float, float]] = []
    for line, row in rows:
        model, ms = row["model"], _number(path, line, row, "min_ms")
        if model not in layers:
            raise UserError(f"{path}, line {line}: network {model!r} has no layers; known are {', '.join(sorted(layers))}{near_miss(model, layers)}")
        if ms <= 0:
            raise UserError(f"{path}, line {line}: min_ms is {row['min_ms']!r}; expected milliseconds above 0")
        gpu = int(_number(path, line, row, "gpu_device", -1))
        threads = int(_number(path, line, row, "num_threads"))
        if threads < 1:
            raise UserError(f"{path}, line {line}: num_threads is {row['num_threads']!r}; expected 1 or more")
        cores = int(_number(path, line, row, "powersave", 0))
        base = (row["device"], "cpu" if gpu < 0 else "gpu", max(gpu, -1), threads, cores)
        how = (row.get("loop_count") or "", row.get("cooling_down") or "")
        # A network that comes again, or another way of measuring, is another run of the same setting.
        before, run = current.get(base, (how, 0))
        if before != how or (Setting(*base, run), model) in seen:
            run += 1
        current[base] = (how, run)
        setting = Setting(*base, run)
        seen.add((setting, model))
        if setting not in settings:
            settings[setting] = len(keys)
            keys.append(setting)
        found.append((settings[setting], model, ms, _number(path, line, row, "avg_ms", ms)))
    networks = tuple(sorted({model for _, model, _, _ in found}))
    column = {name: i for i, name in enumerate(networks)}
    latencies = np.full((len(keys), len(networks)), np.nan)
    disturbed = 0
    for i, model, ms, average in found:
        if average > _DISTURBED * ms:
            disturbed += 1
        else:
            latencies[i, column[model]] = ms
    result = Measurements(tuple(keys), networks, latencies, disturbed)
    _check_units(path, result, layers)
    return result


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            needed = AIHUB if is_aihub(columns) else _NEEDED
            for column in needed:
                if column not in columns:
                    raise UserError(f"{path}: no column {column!r}; needed are {', '.join(needed)}, found {', '.join(columns)}{near_miss(column, columns)}")
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise UserError(f"measurements {path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"measurements {path}: not a CSV file: {error}") from error
    if not rows:
        raise UserError(f"{path}: no measurements, only a header")
    return rows


def _number(path: Path, line: int, row: Mapping[str, str], column: str, default: float | None = None) -> float:
    text = row.get(column)
    if (text is None or not text.strip()) and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{path}, line {line}: {column} is {text!r}; expected a number")
    return value


def _check_units(path: Path, measured: Measurements, layers: Mapping[str, Sequence[MeasuredKernel]]) -> None:
    """Seconds or microseconds in a column of milliseconds give speeds that no processor has."""
    gmacs = np.array([sum(k.macs for k in layers[n]) for n in measured.networks]) * 1e-6
    speeds: dict[tuple[str, str], list[float]] = {}
    for setting, row in zip(measured.settings, measured.ms, strict=True):
        known = np.isfinite(row)
        per_core = gmacs[known] / row[known] / (setting.threads if setting.unit == "cpu" else 1)
        speeds.setdefault((setting.device, setting.unit), []).extend(per_core.tolist())
    for (device, unit), values in speeds.items():
        typical, (slowest, fastest) = float(np.median(values)) if values else 1.0, _SPEEDS[unit]
        if not slowest < typical < fastest:
            column, per = ("min_ms", " and thread") if unit == "cpu" else ("ms" if unit == "npu" else "min_ms", "")
            raise UserError(
                f"{path}: {column} of {device!r} cannot be milliseconds: its {unit} would do {typical:.3g} billion multiply-accumulates a second{per}; "
                f"are these {'seconds' if typical > 1 else 'microseconds'}?"
            )
