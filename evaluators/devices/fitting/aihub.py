"""Qualcomm AI Hub's performance table: latencies of whole networks on neural processors, one row for each network, precision, device and runtime.

Kept are rows of which every layer ran on the neural processor, of float networks, which it computes in half precision, and of networks whose weights and
activations are 8-bit integers. Other precisions (16-bit activations, mixed ones) are left out: ours are not those.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError
from evaluators.devices.fitting.setting import Measurements, Setting

__all__ = ["COLUMNS", "is_aihub", "read_aihub"]

COLUMNS = ("model", "precision", "component", "device", "runtime", "ms", "layers_total", "layers_npu")
_RUNTIMES = {"tflite": "litert", "onnx": "onnxruntime", "precompiled_qnn_onnx": "onnxruntime", "qnn_dlc": "qnn_dlc", "qnn_context_binary": "qnn_dlc"}
"""Ours by theirs. A network compiled ahead runs as one that is compiled at load."""
_INTEGERS = "_int8"
_PRECISIONS = {"float": "", "w8a8": _INTEGERS}
_SLOW = 2.5
"""Times what its network and its device are elsewhere: a row that no other runtime of the device confirms was measured at a low clock. One device (SA8775P) has
an eighth of its rows there, 3 to 5 times too slow; the others hardly any."""
_ENOUGH = 4
_ROUNDS = 10
_NAMED = 8
Floats = NDArray[np.float64]


def is_aihub(columns: Container[str]) -> bool:
    """Whether a CSV with these columns is such a table."""
    return all(column in columns for column in ("precision", "runtime", "ms", "layers_npu"))


def read_aihub(path: Path, rows: Sequence[tuple[int, Mapping[str, str]]], networks: Container[str]) -> Measurements:
    """The rows of networks that are in ``networks``, called ``MODEL`` or ``MODEL/COMPONENT``, with ``_int8`` (or ``_w8a8``) at the end for integers.

    Raises:
        UserError: a latency is no number above 0, or no row is of a known network.
    """
    found: dict[Setting, dict[str, float]] = {}
    for line, row in rows:
        runtime, suffix = _RUNTIMES.get(row["runtime"]), _PRECISIONS.get(row["precision"])
        if runtime is not None and suffix is not None and row["ms"].strip() and _count(row["layers_npu"]) == _count(row["layers_total"]) > 0:
            setting = Setting(row["device"], "npu", 0, 1, 0, 0, runtime)
            found.setdefault(setting, {})[f"{row['model']}/{row['component']}{suffix}"] = _milliseconds(path, line, row["ms"])
    names = sorted({name for values in found.values() for name in values})
    table = np.array([[values.get(name, np.nan) for name in names] for values in found.values()]).reshape(len(found), len(names))
    slow = _disturbed(list(found), names, table)
    known = [_known(name, names, networks) for name in names]
    columns = [i for i, name in enumerate(known) if name is not None]
    used = [i for i in range(len(found)) if np.isfinite(table[i, columns]).any()]
    if not used:
        models = list(dict.fromkeys(name.partition("/")[0] for name in names))
        more = f" and {len(models) - _NAMED} more" if len(models) > _NAMED else ""
        raise UserError(f"{path}: none of its networks that ran on a neural processor has layers; they are {', '.join(models[:_NAMED]) or 'none'}{more}")
    order = sorted(columns, key=lambda i: str(known[i]))
    cells = np.ix_(used, order)
    return Measurements(
        tuple(setting for i, setting in enumerate(found) if i in used),
        tuple(str(known[i]) for i in order),
        np.where(slow, np.nan, table)[cells],
        int(slow[cells].sum()),
    )


def _count(text: str) -> float:
    return float(text) if text.replace(".", "", 1).isdigit() else -1.0


def _milliseconds(path: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{path}, line {line}: ms is {text!r}; expected milliseconds above 0")
    return value


def _known(name: str, names: Sequence[str], networks: Container[str]) -> str | None:
    """What the layers call it; the component may be left out where a model has one only."""
    plain = name.removesuffix(_INTEGERS)
    model = plain.partition("/")[0]
    components = {other.removesuffix(_INTEGERS) for other in names if other.startswith(f"{model}/")}
    for called in (plain, model) if len(components) == 1 else (plain,):
        for suffix in (_INTEGERS, "_w8a8") if name != plain else ("",):
            if called + suffix in networks:
                return called + suffix
    return None


def _disturbed(settings: Sequence[Setting], names: Sequence[str], table: Floats) -> NDArray[np.bool_]:
    """Rows far slower than their network and device together say, in a median polish [Tukey1977] by runtime and precision.

    [Tukey1977] Tukey: Exploratory data analysis. Addison-Wesley.
    """
    rest: Floats = np.log(table)
    integer = np.array([name.endswith(_INTEGERS) for name in names], dtype=np.bool_)
    for runtime in {s.runtime for s in settings}:
        for kind in (False, True):
            cells = np.ix_([s.runtime == runtime for s in settings], integer == kind)
            part = rest[cells]
            enough = np.isfinite(part).sum(axis=0) >= _ENOUGH
            part[:, ~enough] = np.nan
            for axis in (1, 0) * _ROUNDS:
                part = part - _medians(part, axis)
            rest[cells] = part
    slow = rest > np.log(_SLOW)
    confirmed = np.zeros_like(slow)
    for i, setting in enumerate(settings):
        others = [j for j, other in enumerate(settings) if j != i and other.device == setting.device]
        confirmed[i] = slow[others].any(axis=0)
    alone: NDArray[np.bool_] = slow & ~confirmed
    return alone


def _medians(table: Floats, axis: int) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a row or column without values
        return np.nan_to_num(np.nanmedian(table, axis=axis, keepdims=True))
