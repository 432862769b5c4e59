"""One dimension of a search space: its values and their codes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from compressors.errors import UserError

__all__ = ["RANGES", "Dimension", "Path", "is_number", "spell"]

RANGES = ("choice", "uniform", "loguniform", "int")
"""Keys that turn a mapping with nothing else in it into a range."""

Kind = Literal["choice", "uniform", "loguniform", "int"]
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Dimension:
    """One range.

    Attributes:
        name: readable and unique, such as ``prune.ratio.channels``, ``optional.low_rank`` or ``one_of``.
        path: where it stands in the recipe: keys and list positions.
        kind: ``choice``, ``uniform``, ``loguniform`` or ``int`` (both ends included).
        choices: what a ``choice`` offers; numbers in ascending order, so that their encoding is ordinal.
        low, high: the ends of the other kinds.
        requires: name and value of the enclosing dimensions under which this one counts, outermost first.
    """

    name: str
    path: Path
    kind: Kind
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    requires: tuple[tuple[str, Any], ...] = ()

    def counts(self, point: Mapping[str, Any]) -> bool:
        """Whether it counts at a point, of which at least what precedes it is known."""
        return all(name in point and point[name] == value for name, value in self.requires)

    @property
    def corners(self) -> tuple[Any, ...]:
        """The values that must be valid for all of them to be: every choice, or both ends."""
        return self.choices if self.kind == "choice" else tuple(dict.fromkeys((self._number(self.low), self._number(self.high))))

    @property
    def ordinal(self) -> bool:
        """Whether neighbouring codes are neighbouring values."""
        return self.kind != "choice" or all(is_number(choice) for choice in self.choices)

    @property
    def count(self) -> int | None:
        """How many values it has, None where they are not countable."""
        if self.kind == "choice":
            return len(self.choices)
        if self.kind == "int":
            return int(self.high) - int(self.low) + 1
        return 1 if self.low == self.high else None

    def encode(self, value: Any) -> float:
        """``value`` as a position in [0, 1]."""
        if self.kind == "choice":
            return (self._index(value) + 0.5) / len(self.choices)
        if self.kind == "int":
            return (float(value) - self.low + 0.5) / (self.high - self.low + 1)
        if self.low == self.high:
            return 0.5
        if self.kind == "loguniform":
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (float(value) - self.low) / (self.high - self.low)

    def decode(self, code: float) -> Any:
        """The value at a position in [0, 1]; each choice and integer owns an equal part."""
        code = min(max(float(code), 0.0), 1.0)
        if self.kind == "choice":
            return self.choices[min(int(code * len(self.choices)), len(self.choices) - 1)]
        if self.kind == "int":
            return int(min(self.low + int(code * (self.high - self.low + 1)), self.high))
        if self.kind == "loguniform":
            return self._number(math.exp(math.log(self.low) + code * (math.log(self.high) - math.log(self.low))))
        return self._number(self.low + code * (self.high - self.low))

    def canonical(self, value: Any) -> Any:
        """``value`` in the form that recipes and records hold.

        Raises:
            UserError: it is not in the range.
        """
        if self.kind == "choice":
            return self.choices[self._index(value)]
        if not is_number(value) or not self.low - 1e-9 <= value <= self.high + 1e-9 or (self.kind == "int" and value != int(value)):
            raise UserError(f"{self.name}: {value!r} is not in the range; accepted: {self.kind} from {self._number(self.low)} to {self._number(self.high)}")
        return self._number(value)

    def _index(self, value: Any) -> int:
        for i, choice in enumerate(self.choices):
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return i
        raise UserError(f"{self.name}: {value!r} is not a choice; accepted: {', '.join(map(repr, self.choices))}")

    def _number(self, value: float) -> float | int:
        if self.kind == "int":
            return int(value)
        # Six digits: what people read in a recipe is then exactly what was run.
        return min(max(float(f"{value:.6g}"), self.low), self.high)


def spell(path: Path) -> str:
    """A place in the recipe as people write it: ``recipe[0].prune.ratio``."""
    return "recipe" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def is_number(value: Any) -> bool:
    """Whether ``value`` is an int or a float; a bool is neither here."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
