"""Which artifacts are served, under which names and versions, and which of them a request goes to."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from compressors.errors import UserError, near_miss
from search.checksums import SIGNATURE, corrupted
from search.load_artifact import require_runtime
from search.serving.request_error import RequestError, cut

__all__ = ["Catalogue", "Served"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SPELLING = "[NAME[:VERSION]=]DIR[@WEIGHT]"


@dataclass(frozen=True)
class Served:
    """One artifact.

    Attributes:
        weight: its share of the requests that name no version, against those of the other versions.
        signature: of the artifact.
    """

    name: str
    version: str
    folder: Path
    weight: float
    signature: Mapping[str, Any] = field(repr=False)

    @property
    def key(self) -> str:
        """``NAME:VERSION``."""
        return f"{self.name}:{self.version}"

    @property
    def task(self) -> str:
        """Of the artifact."""
        return str(self.signature["task"])

    @property
    def takes(self) -> str:
        """``texts``, ``images`` or ``arrays``: what a request's inputs may be; arrays always may."""
        described = self.signature["preprocessing"]
        return "texts" if "tokenizer" in described else "images" if "mean" in described else "arrays"

    def described(self) -> dict[str, Any]:
        """For ``/v1/models``."""
        signature = self.signature
        return {
            "name": self.name,
            "version": self.version,
            "weight": self.weight,
            "task": self.task,
            "runtime": signature["runtime"],
            "takes": self.takes,
            "inputs": signature["inputs"],
            "labels": list(signature.get("labels", ())),
        }


class Catalogue:
    """The artifacts that are served.

    Args:
        served: at least one; names and versions differ, and each name has a version of some weight.
        seed: of the choice between versions; None is another one each time.
    """

    def __init__(self, served: Sequence[Served], seed: int | None = None) -> None:
        self.served = tuple(served)
        self._random = random.Random(seed)  # noqa: S311 - shares traffic, guards nothing
        self._names: dict[str, dict[str, Served]] = {}
        for one in served:
            versions = self._names.setdefault(one.name, {})
            if one.version in versions:
                raise UserError(f"two artifacts are {one.key}: {versions[one.version].folder} and {one.folder}; name them: {_SPELLING}")
            versions[one.version] = one
        for name, versions in self._names.items():
            if not any(one.weight for one in versions.values()):
                raise UserError(f"every version of {name} has the weight 0; accepted: one above it")

    @classmethod
    def load(cls, specifications: Sequence[str], seed: int | None = None) -> Self:
        """Artifacts as the command line names them; versions that it leaves out are numbered from 1, name by name.

        Raises:
            UserError: a folder that is no artifact or has changed, a runtime that is not installed, a bad name, version or weight, two that are the same.
        """
        served: list[Served] = []
        for text in specifications:
            name, version, folder, weight = _parsed(text)
            problems = corrupted(folder)
            if problems:
                raise UserError(f"{folder} is not as it was exported: {'; '.join(problems)}")
            if not (folder / SIGNATURE).is_file():
                raise UserError(f"{folder} is a ladder of artifacts; accepted: one of the folders in it")
            signature = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
            require_runtime(signature["runtime"])
            if not version:
                taken = {one.version for one in served if one.name == name}
                version = next(str(i) for i in range(1, len(taken) + 2) if str(i) not in taken)
            served.append(Served(name, version, folder.resolve(), weight, signature))
        return cls(served, seed)

    def route(self, name: str, version: str | None) -> Served:
        """The artifact that a request goes to: that of the version, or by the weights.

        Raises:
            RequestError: 404, there is none.
        """
        versions = self._names.get(name)
        if versions is None:
            name = cut(name)
            message = f"no model {name!r}{near_miss(name, self._names)}"
            raise RequestError(404, message, key="model", value=name, accepted=", ".join(self._names))
        if version is None:
            each = list(versions.values())
            return each[0] if len(each) == 1 else self._random.choices(each, [one.weight for one in each])[0]
        if version not in versions:
            raise RequestError(404, f"{name} has no version {cut(version)!r}", key="version", value=version, accepted=", ".join(versions))
        return versions[version]


def _parsed(text: str) -> tuple[str, str, Path, float]:
    label, found, rest = text.partition("=")
    if Path(text).is_dir() or not found:
        label, rest = "", text
    place, at, share = rest.rpartition("@")
    weight = 1.0
    if at and not Path(rest).is_dir():
        try:
            weight = float(share)
        except ValueError:
            weight = -1.0
        if not 0 <= weight < float("inf"):
            raise UserError(f"{text}: the weight {share!r} is no number; accepted: {_SPELLING}, WEIGHT from 0")
    else:
        place = rest
    folder = Path(place)
    name, _, version = label.partition(":")
    name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).lstrip("._-")
    for what, value in (("name", name), ("version", version or "1")):
        if not _NAME.fullmatch(value):
            raise UserError(f"{text}: the {what} {value!r} cannot be part of an address; accepted: letters, digits, '.', '_' and '-', at most 63")
    return name, version, folder, weight
