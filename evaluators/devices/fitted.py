"""What was fitted to public measurements, as profiles keep it: the ``fitted:`` block of a device and the prior that all devices share, ``_pooled.yaml``.

fitted:
  cpu/ncnn:
    source: Tencent/ncnn benchmark (BSD-3)
    rows: 50                                 # measurements that were fitted to
    networks: 25
    error: {fp32: 0.11, int8: 0.13}          # mean absolute percentage error with networks held out, as a fraction
    settings:
    - {threads: 1, gmacs: {...}, gmacs_int8: {...}, gb_s: {...}, launch_us: 4.1}      # and launch_int8_us, inference_ms of a neural processor
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pydantic
import yaml
from numpy.typing import NDArray

from compressors.errors import UserError, near_miss
from evaluators.devices.fitting.familiar import Familiar
from evaluators.devices.fitting.forms import ACCELERATOR, PROCESSOR, Form
from evaluators.devices.fitting.pooled import Prior
from evaluators.devices.fitting.setting import Setting
from evaluators.devices.profile import PROFILES, Profile
from evaluators.devices.profile_tables import read_yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "FittedRuntime",
    "FittedSetting",
    "Pooled",
    "factor_of",
    "fitted_costs",
    "fitted_runtime",
    "pooled_familiar",
    "pooled_prior",
    "write_fitted",
    "write_pooled",
]

Floats = NDArray[np.float64]
_STRICT = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
_POOLED = "_pooled"
_Positive = Annotated[float, pydantic.Field(gt=0)]
_Count = Annotated[int, pydantic.Field(ge=0)]
_OF_ACCELERATORS = {"launch.int8": "launch_int8_us", "inference": "inference_ms"}


class FittedSetting(pydantic.BaseModel):
    """Rates of one way in which a device was measured.

    Attributes:
        name: which of the profile's names.
        gpu: index of the accelerator in the measurements, -1 for a cpu.
        threads, cores, run: see ``evaluators.devices.fitting.measurements.Setting``.
        gmacs, gmacs_int8: 1e9 multiply-accumulates a second by op class; saturation comes on top.
        gb_s: 1e9 bytes a second by op class; ``weights``; ``quantize`` between floats and integers.
        launch_us: fixed cost of a kernel.
        launch_int8_us: that of one for integers, of a neural processor only.
        inference_ms: fixed cost of an inference, of a neural processor only.
    """

    model_config = _STRICT

    name: _Count = 0
    gpu: int = -1
    threads: Annotated[int, pydantic.Field(ge=1)]
    cores: _Count = 0
    run: _Count = 0
    gmacs: Mapping[str, _Positive]
    gmacs_int8: Mapping[str, _Positive]
    gb_s: Mapping[str, _Positive]
    launch_us: _Positive
    launch_int8_us: _Positive | None = None
    inference_ms: _Positive | None = None

    @property
    def form(self) -> Form:
        """Which kinds of work these are the rates of."""
        return ACCELERATOR if self.inference_ms is not None or "attention" in self.gmacs else PROCESSOR

    @pydantic.model_validator(mode="after")
    def _complete(self) -> FittedSetting:
        for feature, field in _OF_ACCELERATORS.items():
            if getattr(self, field) is None and feature in self.form.features:
                raise ValueError(f"{field} is missing")
        for field, needed in _tables(self.form).items():
            table = getattr(self, field)
            for key in needed:
                if key not in table:
                    raise ValueError(f"{field}.{key} is missing; needed are {', '.join(needed)}")
            for key in table:
                if key not in needed:
                    raise ValueError(f"{field}.{key} is unknown; accepted: {', '.join(needed)}{near_miss(key, needed)}")
        return self

    @staticmethod
    def of(costs: Floats, form: Form = PROCESSOR, **where: int) -> FittedSetting:
        """From the costs, ``[features]``, to three digits."""
        cost, tables, wide = dict(zip(form.features, costs.tolist(), strict=True)), _tables(form), form.float_bytes

        def rate(amount: float, key: str) -> float:
            return float(f"{amount / cost[key]:.3g}")

        bytes_ = {"weights": rate(wide, "weights"), "quantize": rate(1 + wide, "quantize")}
        return FittedSetting(
            **where,
            gmacs={c: rate(1, f"macs.{c}") for c in tables["gmacs"]},
            gmacs_int8={c: rate(1, f"macs.{c}.int8") for c in tables["gmacs_int8"]},
            gb_s={c: bytes_.get(c) or rate(wide, f"moved.{c}") for c in tables["gb_s"]},
            launch_us=float(f"{10 * cost['launch']:.3g}"),
            launch_int8_us=float(f"{10 * cost['launch.int8']:.3g}") if "launch.int8" in cost else None,
            inference_ms=float(f"{cost['inference']:.3g}") if "inference" in cost else None,
        )

    def costs(self) -> Floats:
        """The costs, ``[features]``."""
        found = {f"macs.{c}": 1 / v for c, v in self.gmacs.items()} | {f"macs.{c}.int8": 1 / v for c, v in self.gmacs_int8.items()}
        wide = self.form.float_bytes
        found |= {f"moved.{c}": wide / v for c, v in self.gb_s.items()}
        found |= {"weights": wide / self.gb_s["weights"], "quantize": (1 + wide) / self.gb_s["quantize"], "launch": self.launch_us / 10}
        found |= {"launch.int8": (self.launch_int8_us or 0.0) / 10, "inference": self.inference_ms or 0.0}
        return np.array([found[name] for name in self.form.features])


def _tables(form: Form) -> dict[str, tuple[str, ...]]:
    """The op classes that each table of rates needs."""
    names = {kind: tuple(name.split(".")[1] for name in form.features if name.startswith(f"{kind}.")) for kind in ("macs", "moved")}
    integers = tuple(c for c in dict.fromkeys(names["macs"]) if f"macs.{c}.int8" in form.features)
    return {"gmacs": tuple(dict.fromkeys(names["macs"])), "gmacs_int8": integers, "gb_s": (*names["moved"], "weights", "quantize")}


class FittedRuntime(pydantic.BaseModel):
    """One runtime on one unit; see the module."""

    model_config = _STRICT

    source: str
    rows: _Count
    networks: _Count
    error: Mapping[str, _Positive]
    settings: Annotated[tuple[FittedSetting, ...], pydantic.Field(min_length=1)]

    def nearest(self, threads: int | None, cores: int = 0, run: int = 0, name: int = 0, gpu: int | None = None) -> FittedSetting:
        """The setting that was measured nearest to this one; None: the most threads that still gain, on all cores."""
        known = [s for s in self.settings if gpu is None or s.gpu == gpu] or list(self.settings)
        wanted = threads or max(s.threads for s in known)
        return min(known, key=lambda s: (s.name != name, s.gpu, abs(np.log2(s.threads / wanted)), (s.cores != cores, s.cores == 1), s.run != run))

    def log_costs(self, threads: int, slope: Floats, cores: int = 0, run: int = 0, name: int = 0, gpu: int | None = None) -> Floats:
        """Logarithm of the costs with this many threads: between two measured numbers of threads interpolated, beyond them by ``slope`` a doubling."""
        near = self.nearest(threads, cores, run, name, gpu)
        wanted, at = np.log2(threads), np.log2(near.threads)
        alike = [s for s in self.settings if (s.name, s.gpu, s.cores) == (near.name, near.gpu, near.cores)]
        beyond = [s for s in alike if (np.log2(s.threads) - wanted) * (wanted - at) > 0]
        if beyond:
            other = min(beyond, key=lambda s: abs(np.log2(s.threads) - wanted))
            share = (wanted - at) / (np.log2(other.threads) - at)
            return np.asarray((1 - share) * np.log(near.costs()) + share * np.log(other.costs()))
        return np.asarray(np.log(near.costs()) + (wanted - at) * slope)


class Pooled(pydantic.BaseModel):
    """The prior as it is kept: numbers of ``Prior``, symmetric matrices as their lower triangle, and the factors of the intervals by ``THREADS/PRECISION``.

    ``familiar``: multiply-accumulates of the networks that many devices have run, with the numbers of ``Familiar`` by number of threads, ``1`` or ``2+``;
    ``familiar_first`` those to measure first on a device that nobody knows.
    """

    model_config = _STRICT

    source: str
    rows: _Count
    settings: _Count
    features: tuple[str, ...]
    residual: _Positive
    mean: tuple[tuple[float, ...], ...]
    covariance: tuple[float, ...]
    spread: tuple[float, ...]
    factors: Mapping[str, _Positive]
    familiar: Mapping[str, _Positive] = {}
    familiar_mean: Mapping[str, tuple[tuple[float, ...], ...]] = {}
    familiar_covariance: Mapping[str, tuple[float, ...]] = {}
    familiar_first: Mapping[str, tuple[str, ...]] = {}

    @staticmethod
    def of(
        prior: Prior,
        form: Form,
        source: str,
        rows: int,
        settings: int,
        factors: Mapping[str, float],
        learned: Mapping[str, Familiar],
        known: Mapping[str, float],
        first: Mapping[str, tuple[str, ...]],
    ) -> Pooled:
        """Rounded to what matters."""
        return Pooled(
            source=source,
            rows=rows,
            settings=settings,
            features=form.features,
            residual=round(prior.residual, 4),
            mean=_rounded(prior.mean),
            covariance=_lower(prior.covariance),
            spread=_lower(prior.spread),
            factors={key: round(value, 3) for key, value in factors.items()},
            familiar=known if learned else {},
            familiar_mean={threads: _rounded(found.mean) for threads, found in learned.items()},
            familiar_covariance={threads: _lower(found.covariance) for threads, found in learned.items()},
            familiar_first=first,
        )

    def prior(self) -> Prior:
        """The numbers back."""
        return Prior(np.array(self.mean), _symmetric(self.covariance), self.residual, _symmetric(self.spread))


def _rounded(table: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(float(v), 4) for v in row) for row in table)


def _lower(matrix: Floats) -> tuple[float, ...]:
    return tuple(round(float(v), 6) for v in matrix[np.tril_indices(len(matrix))])


def _symmetric(lower: Sequence[float]) -> Floats:
    size = int(np.sqrt(2 * len(lower)))
    matrix = np.zeros((size, size))
    matrix[np.tril_indices(size)] = lower
    return matrix + np.tril(matrix, -1).T


def fitted_runtime(profile: Profile, key: str) -> FittedRuntime | None:
    """What was fitted of ``UNIT/RUNTIME``; None where it was not measured.

    Raises:
        UserError: a rate is missing, negative or unknown.
    """
    data = profile.fitted.get(key)
    if data is None:
        return None
    try:
        return FittedRuntime.model_validate(data)
    except pydantic.ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {str(e['msg']).removeprefix('Value error, ')}, got {_short(e['input'])}" for e in error.errors())
        raise UserError(f"profile {profile.description!r}: fitted.{key}: {problems}") from error


def _short(value: Any) -> str:
    return repr(value) if not isinstance(value, (dict, list)) else f"a {type(value).__name__} of {len(value)}"


def fitted_costs(profile: Profile, setting: Setting) -> Floats | None:
    """Logarithm of the costs of a setting, ``[features]``; from the nearest measured one where the number of threads is another; None without measurements."""
    key = f"{setting.unit}/{setting.runtime}"
    fitted = fitted_runtime(profile, key)
    if fitted is None:
        return None
    name = profile.names.index(setting.device) if setting.device in profile.names else 0
    slope = pooled_prior(key).mean[1] * (setting.unit == "cpu")
    return fitted.log_costs(setting.threads, slope, setting.cores, setting.run, name, setting.gpu)


@cache
def _pooled(folder: Path) -> dict[str, Pooled]:
    path = folder / f"{_POOLED}.yaml"
    if not path.exists():
        return {}
    data = read_yaml(path)
    return {key: Pooled.model_validate(value) for key, value in data.items()}


def pooled_prior(key: str) -> Prior:
    """What devices of ``UNIT/RUNTIME`` have in common; runtimes that were fitted together share it, as ``UNIT/RUNTIME+RUNTIME``.

    Raises:
        UserError: nothing was fitted for it.
    """
    return _pooled_of(key).prior()


def pooled_familiar(key: str) -> tuple[dict[str, Familiar], Mapping[str, float], Mapping[str, tuple[str, ...]]]:
    """By number of threads how the networks that many devices have run compare; which they are, with their multiply-accumulates; which to measure first."""
    pooled = _pooled_of(key)
    found = {t: Familiar(np.array(mean), _symmetric(pooled.familiar_covariance[t])) for t, mean in pooled.familiar_mean.items()}
    return found, pooled.familiar, pooled.familiar_first


def factor_of(key: str, threads: str, precision: str) -> float:
    """How many of its scales a 90 % interval reaches to either side; ``threads`` is ``1`` or ``2+``."""
    factors = _pooled_of(key).factors
    return factors.get(f"{threads}/{precision}") or max(factors.values())


def _pooled_of(key: str) -> Pooled:
    known = _pooled(PROFILES)
    unit, _, runtime = key.partition("/")
    for name, pooled in known.items():
        if name.partition("/")[0] == unit and runtime in name.partition("/")[2].split("+"):
            return pooled
    raise UserError(f"nothing was fitted for {key!r}; fitted are {', '.join(known) or 'none'}{near_miss(key, known)}")


def write_fitted(path: Path, fitted: Mapping[str, FittedRuntime]) -> None:
    """Replace the ``fitted:`` block of a profile; what people wrote above it stays as it is. Other runtimes in the block are kept."""
    text = path.read_text(encoding="utf-8")
    head, _, block = f"\n{text}".partition("\nfitted:")
    kept = (yaml.safe_load(f"fitted:{block}") or {}).get("fitted") or {} if block else {}
    entries = {**kept, **{key: value.model_dump(exclude_defaults=True) for key, value in fitted.items()}}
    lines = ["fitted:"]
    for key in sorted(entries):
        lines.append(f"  {key}:")
        lines += [f"    {name}: {json.dumps(value)}" for name, value in entries[key].items() if name != "settings"]
        lines += ["    settings:", *(f"    - {_flow(setting)}" for setting in entries[key]["settings"])]
    _replace(path, head.lstrip("\n").rstrip() + "\n" + "\n".join(lines) + "\n")
    _pooled.cache_clear()


def write_pooled(folder: Path, pooled: Mapping[str, Pooled]) -> None:
    """Write ``_pooled.yaml``, keeping what it has of other runtimes."""
    path = folder / f"{_POOLED}.yaml"
    kept = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    entries = {**kept, **{key: entry.model_dump(mode="json") for key, entry in pooled.items()}}
    lines = ["# Written by `compareto devices fit`: what the devices of a runtime have in common, the prior of a device with few measurements."]
    for key, entry in sorted(entries.items()):
        lines.append(f"{key}:")
        lines += [f"  {name}: {json.dumps(value)}" for name, value in entry.items()]
    _replace(path, "\n".join(lines) + "\n")
    _pooled.cache_clear()


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
