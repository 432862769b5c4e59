"""What a trial takes of a machine, and how many trials the machines of a cluster have room for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from compressors.errors import UserError
from search.quantities import counted
from search.settings import SearchSpec

__all__ = ["Node", "TrialResources", "require_room", "trial_resources"]

_SETTINGS = {"CPU": "search.cpus_per_trial", "GPU": "search.gpus_per_trial", "memory": "search.memory_per_trial"}
_UNITS = {"CPU": "CPU core", "GPU": "GPU"}


@dataclass(frozen=True, slots=True)
class Node:
    """A machine.

    Attributes:
        resources: all it has, by Ray's names (``CPU``, ``GPU``, ``memory`` in bytes, custom ones).
        id: Ray's.
        gpu_memory: bytes of its smallest GPU; 0 where that is not known.
    """

    address: str
    resources: Mapping[str, float]
    id: str = ""
    gpu_memory: int = 0


@dataclass(frozen=True, slots=True)
class TrialResources:
    """What one trial reserves; fractions share a core or a GPU.

    Attributes:
        memory: bytes; 0 reserves none.
        custom: by the names that nodes were started with.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0
    custom: Mapping[str, float] = field(default_factory=dict)

    @property
    def threads(self) -> int:
        """Of torch: at least one."""
        return max(1, int(self.cpus))

    def reserved(self) -> dict[str, float]:
        """By Ray's names, without what is not asked for."""
        return {name: amount for name, amount in {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory, **self.custom}.items() if amount}

    def __str__(self) -> str:
        return ", ".join(_amount(name, amount) for name, amount in self.reserved().items())

    def room(self, nodes: Sequence[Node]) -> int:
        """How many trials at a time the nodes have room for."""
        return sum(self._fits(node) for node in nodes)

    def _fits(self, node: Node) -> int:
        return min((self._count(name, amount, node.resources.get(name, 0)) for name, amount in self.reserved().items()), default=0)

    @staticmethod
    def _count(name: str, amount: float, total: float) -> int:
        # Ray counts in ten-thousandths, and no trial has parts of two GPUs.
        if name == "GPU" and amount < 1:
            return int(total) * (10_000 // round(amount * 10_000))
        return round(total * 10_000) // round(amount * 10_000)


def require_room(asked: TrialResources, nodes: Sequence[Node], *, still: bool = False) -> None:
    """Refuse what no node has; Ray would wait for ever.

    Args:
        asked: of one trial.
        nodes: that are alive.
        still: whether trials have already run.

    Raises:
        UserError: names the resource, what was asked and what the largest node has.
    """
    if asked.room(nodes):
        return
    kept = "; nothing that has ended is lost: add such a node and go on with --resume" if still else ""
    for name, amount in asked.reserved().items():
        most = max((node.resources.get(name, 0.0) for node in nodes), default=0.0)
        if most < amount:
            setting = _SETTINGS.get(name, f"search.resources_per_trial.{name}")
            raise UserError(f"{setting}: a trial asks for {_amount(name, amount)}, and the largest of {_count(nodes)} has {_amount(name, most)}{kept}")
    raise UserError(f"search: a trial asks for {asked}, each of which some node has, but no node has all of them{kept}")


def trial_resources(spec: SearchSpec, nodes: Sequence[Node], memory: int = 0, gpu_memory: int = 0) -> TrialResources:
    """Of an experiment on these nodes.

    Cores that are not given are divided over the workers, on the nodes as they are. ``memory`` that was predicted and that no node has is lowered to what
    the largest one has, which then runs one trial at a time: a prediction refuses nothing.

    Args:
        spec: what the experiment asks for.
        nodes: that are alive.
        memory: bytes of one trial, predicted; used where the experiment says ``auto``.
        gpu_memory: the same, of what it has on a GPU: trials that share one take at least the part of it that this is.

    Raises:
        UserError: no node can run a trial.
    """
    gpus = spec.gpus_per_trial
    if gpus is None:
        gpus = 1.0 if any(node.resources.get("GPU") for node in nodes) else 0.0
    if spec.memory_per_trial == "auto":
        least = min((node.gpu_memory for node in nodes if node.gpu_memory), default=0)
        if 0 < gpus < 1 and least:
            gpus = min(1.0, max(gpus, math.ceil(100 * gpu_memory / least) / 100))
        able = [node for node in nodes if node.resources.get("GPU", 0) >= gpus]
        memory = min(memory, int(max((node.resources.get("memory", 0.0) for node in able), default=0.0)))
    else:
        memory = spec.memory_bytes or 0
    made = [TrialResources(cpus, gpus, memory, spec.resources_per_trial) for cpus in ([spec.cpus_per_trial] if spec.cpus_per_trial else _cores(nodes))]
    require_room(made[0], nodes)
    least = min(made[0].room(nodes), spec.workers or made[0].room(nodes))
    return next(resources for resources in reversed(made) if resources.room(nodes) >= least)


def _cores(nodes: Sequence[Node]) -> list[float]:
    return [float(cores) for cores in range(1, 1 + max((int(node.resources.get("CPU", 0)) for node in nodes), default=1))] or [1.0]


def _amount(name: str, amount: float) -> str:
    if name == "memory":
        return f"{amount / 1e9:.3g} GB of memory"
    return f"{amount:g} {_UNITS.get(name, name)}{'s' if name in _UNITS and amount != 1 else ''}"


def _count(nodes: Sequence[Node]) -> str:
    return counted(len(nodes), "node")
