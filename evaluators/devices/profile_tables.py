"""What profiles share: core types, device classes, accelerators and runtimes, from the ``_*.yaml`` files beside them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

import pydantic
import yaml

__all__ = [
    "PROFILES",
    "STRICT",
    "Accelerator",
    "CoreType",
    "DeviceClass",
    "Efficiency",
    "Heat",
    "Positive",
    "RuntimeType",
    "Sleep",
    "Source",
    "architectures",
    "class_tables",
    "core_types",
    "efficiencies",
    "read_yaml",
    "runtime_types",
]

PROFILES = Path(__file__).parent / "profiles"
STRICT = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

Positive = Annotated[float, pydantic.Field(gt=0)]
Share = Annotated[float, pydantic.Field(gt=0, le=1)]
Source = Annotated[str, pydantic.StringConstraints(min_length=10)]


class CoreType(pydantic.BaseModel):
    """A processor core.

    Attributes:
        architecture: instruction set.
        fp32, fp16, int8: multiply-accumulates a cycle, at most; None for no arithmetic of that kind.
        features: ``dot``, ``i8mm``, ``vnni``, ``avx512`` and the like.
        scalar: speed of ordinary code per cycle against a Cortex-A76.
        pj_per_cycle: energy of a busy cycle at 7 nm, picojoules.
        little: used only where threads outnumber the other cores.
    """

    model_config = STRICT

    name: str
    architecture: str
    fp32: Positive
    fp16: Positive | None = None
    int8: Positive
    features: tuple[str, ...] = ()
    scalar: Positive
    pj_per_cycle: Positive
    little: bool = False
    source: Source


class Accelerator(pydantic.BaseModel):
    """A kind of graphics or neural processor: outputs at which half of the peak is reached, cost of a launch, picojoules of a multiply-accumulate at 7 nm."""

    model_config = STRICT

    half_outputs: Positive
    launch_scale: Positive
    pj_per_mac: dict[str, Positive]
    source: Source


class Heat(pydantic.BaseModel):
    """Temperatures in degrees Celsius and how fast the device warms: it nears its final temperature with ``time_constant_s``."""

    model_config = STRICT

    ambient_c: float
    limit_c: float
    time_constant_s: Positive

    @pydantic.model_validator(mode="after")
    def _warmer(self) -> Heat:
        if self.limit_c <= self.ambient_c:
            raise ValueError(f"limit_c {self.limit_c:g} is not above ambient_c {self.ambient_c:g}")
        return self


class Sleep(pydantic.BaseModel):
    """Power while nothing is asked, watts, and the delay of waking, milliseconds."""

    model_config = STRICT

    sleep_w: Positive
    wake_ms: Positive


class DeviceClass(pydantic.BaseModel):
    """What devices of a class share; ``modes`` are clocks as shares of the highest."""

    model_config = STRICT

    thread_scaling: Share
    heat: Heat
    sleep: Sleep
    modes: dict[str, Share]
    source: Source


class _Process(pydantic.BaseModel):
    model_config = STRICT

    source: Source
    scale: dict[int, Positive]


class _Memory(pydantic.BaseModel):
    model_config = STRICT

    pj_per_byte: Positive
    source: Source


class ClassTables(pydantic.BaseModel):
    """The tables of ``_classes.yaml``."""

    model_config = STRICT

    process: _Process
    memory: dict[str, _Memory]
    accelerators: dict[str, Accelerator]
    classes: dict[str, DeviceClass]


class RuntimeType(pydantic.BaseModel):
    """A runtime on a kind of unit; see ``_runtimes.yaml`` for the units of its figures.

    ``absent``: classes of kernels that it does not have there; a unit that a model shares executes them.
    """

    model_config = STRICT

    computes: tuple[str, ...]
    fallback: dict[str, str] = {}
    launch_kcycles: Positive | None = None
    overhead_kcycles: Positive | None = None
    launch_us: Positive | None = None
    overhead_ms: Positive | None = None
    memory_mb: Positive
    weight_copies: dict[str, Positive] = {}
    absent: tuple[str, ...] = ()
    source: Source


class Efficiency(pydantic.BaseModel):
    """How near a runtime comes to the peak of a unit, by op class: fractions of peak compute, or of bandwidth for classes without arithmetic."""

    model_config = STRICT

    source: Source
    compute: dict[str, dict[str, Positive]]
    bandwidth: dict[str, Positive]


_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same language; where libyaml is there, ten times as fast."""


def read_yaml(path: Path) -> Any:
    """The plain data of a YAML or JSON file. Raises ``OSError``, ``UnicodeDecodeError`` or ``yaml.YAMLError``."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a safe one by either name


@cache
def core_types() -> dict[str, CoreType]:
    """Core types by name."""
    return {name: CoreType.model_validate(data) for name, data in read_yaml(PROFILES / "_cores.yaml").items()}


@cache
def class_tables() -> ClassTables:
    """Device classes, accelerators, processes and memories."""
    return ClassTables.model_validate(read_yaml(PROFILES / "_classes.yaml"))


@cache
def runtime_types() -> dict[str, RuntimeType]:
    """Runtimes by ``RUNTIME.UNIT``."""
    data = read_yaml(PROFILES / "_runtimes.yaml")
    return {name: RuntimeType.model_validate(value) for name, value in data.items() if name != "architectures"}


@cache
def architectures() -> dict[str, tuple[str, ...]]:
    """Runtimes that run on processors of an architecture."""
    return {name: tuple(runtimes) for name, runtimes in read_yaml(PROFILES / "_runtimes.yaml")["architectures"].items()}


@cache
def efficiencies() -> dict[str, Efficiency]:
    """Efficiency tables by ``RUNTIME.UNIT``."""
    return {key: Efficiency.model_validate(value) for key, value in read_yaml(PROFILES / "_efficiency.yaml").items()}
