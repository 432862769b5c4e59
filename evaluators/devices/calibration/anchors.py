"""Anchors: latencies and powers that somebody measured on a device elsewhere, kept by device in a file that can be given to others.

anchors_version: 1
device: pixel-7/litert:2t
anchors:
- model: quickstart-20261121 0007      # for people
  source: bench.json                   # where the figures come from
  graph: 0b7d…                         # fingerprint of the traced model, at the sizes of its workload
  candidate: {widths: […], …}          # one row of Shapes
  latency_ms: 12.3
  watts: 2.5
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import pydantic
import yaml

from compressors.errors import UserError
from compressors.graph import ModelGraph, Shapes
from evaluators.cache_folder import cache_folder
from evaluators.devices.names import DeviceKey
from evaluators.devices.profile import load_profile

__all__ = ["Anchor", "Candidate", "add_anchors", "anchors_path", "forget_anchors", "kept_anchors", "read_anchors", "written_key"]

_VERSION = 1
_STRICT = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
_Positive = Annotated[float, pydantic.Field(gt=0)]


class Candidate(pydantic.BaseModel):
    """One row of ``Shapes`` as plain numbers; see there."""

    model_config = _STRICT

    widths: tuple[int, ...]
    weight_bits: tuple[int, ...]
    activation_bits: tuple[int, ...]
    granularity: tuple[int, ...]
    symmetric: tuple[bool, ...]
    dynamic: bool

    @classmethod
    def of(cls, shapes: Shapes) -> Self:
        """The first row."""
        rows = {name: tuple(getattr(shapes, name)[0].tolist()) for name in cls.model_fields if name != "dynamic"}
        return cls(**rows, dynamic=bool(shapes.dynamic[0]))

    def shapes(self) -> Shapes:
        """As a batch of one."""
        widths, weights, activations, granularity = (
            np.array([row], dtype=np.int64) for row in (self.widths, self.weight_bits, self.activation_bits, self.granularity)
        )
        return Shapes(widths, weights, activations, granularity, np.array([self.symmetric], dtype=np.bool_), np.array([self.dynamic]))

    def fits(self, graph: ModelGraph) -> bool:
        """Whether it has a number for each of the graph's axes and sites."""
        sites = (self.weight_bits, self.activation_bits, self.granularity, self.symmetric)
        return len(self.widths) == len(graph.axes) and all(len(row) == len(graph.sites) for row in sites)


class Anchor(pydantic.BaseModel):
    """One measurement; see the module.

    Attributes:
        latency_ms: of one inference.
        watts: mean power of the whole device meanwhile; None where it was not measured.
    """

    model_config = _STRICT

    model: str
    source: str
    graph: str
    candidate: Candidate
    latency_ms: _Positive
    watts: _Positive | None = None


class _AnchorFile(pydantic.BaseModel):
    model_config = _STRICT

    anchors_version: int
    device: str
    anchors: tuple[Anchor, ...]


def written_key(key: DeviceKey) -> str:
    """The key with its number of threads, so that the device's default and the same number written out are one."""
    unit = load_profile(key.device).units.get(key.unit)
    threads = key.threads or (int(unit.threads.value) if unit is not None and unit.cores else None)
    return f"{key.device}.{key.unit}/{key.runtime}" + (f":{threads}t" if threads else "") + (f":{key.mode}" if key.mode else "")


def anchors_path(key: DeviceKey) -> Path:
    """The file of a device's anchors; it may not exist."""
    return _root() / f"{written_key(key).replace('/', '_').replace(':', '_')}.yaml"


def _root() -> Path:
    return cache_folder() / "devices" / "anchors"


def read_anchors(key: DeviceKey) -> tuple[Anchor, ...]:
    """Those in force for a device; empty where there are none.

    Raises:
        UserError: the file is damaged, of another version or of another device.
    """
    path = anchors_path(key)
    if not path.exists():
        return ()
    found = _read(path)
    if found.device != written_key(key):
        raise UserError(f"anchors {path}: they are of {found.device!r}, not of {written_key(key)!r}")
    return found.anchors


def _read(path: Path) -> _AnchorFile:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        version = data.get("anchors_version") if isinstance(data, dict) else None
        if version != _VERSION:
            raise UserError(f"anchors {path}: anchors_version is {version!r}; accepted: {_VERSION}")
        return _AnchorFile.model_validate(data)
    except OSError as error:
        raise UserError(f"anchors {path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"anchors {path}: is not YAML: {' '.join(str(error).split())}") from error
    except pydantic.ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in error.errors())
        raise UserError(f"anchors {path}: {problems}") from error


def kept_anchors(device: str) -> dict[str, tuple[Anchor, ...]]:
    """By key, those of every unit, runtime, number of threads and power mode of a device.

    Raises:
        UserError: see ``read_anchors``.
    """
    folder = _root()
    found = {}
    for path in sorted(folder.glob(f"{device}.*.yaml")) if folder.is_dir() else []:
        anchors = _read(path)
        found[anchors.device] = anchors.anchors
    return {key: anchors for key, anchors in found.items() if key.partition(".")[0] == device}


def add_anchors(key: DeviceKey, new: tuple[Anchor, ...]) -> tuple[Anchor, ...]:
    """Keep ``new`` beside those that there are; what was measured again replaces what was measured before. Returns all of them.

    Raises:
        UserError: the file is damaged, or cannot be written.
    """
    known = {(anchor.graph, anchor.candidate): anchor for anchor in (*read_anchors(key), *new)}
    kept, path = tuple(known.values()), anchors_path(key)
    plain = _AnchorFile(anchors_version=_VERSION, device=written_key(key), anchors=kept).model_dump(mode="json", exclude_none=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=160), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise UserError(f"the cache folder {path.parent} cannot be written: {error.strerror}; set COMPARETO_CACHE to one that can") from error
    return kept


def forget_anchors(key: DeviceKey) -> bool:
    """Remove a device's anchors, damaged ones, too; whether there were any."""
    path = anchors_path(key)
    there = path.exists()
    path.unlink(missing_ok=True)
    return there
