"""Whether the nodes of a cluster can run a search: asked before the first trial, and kept an eye on while it runs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from compressors.errors import UserError
from search import cluster_probe
from search.cluster_code import differences, identity
from search.cluster_probe import gpu_memory
from search.resources import Node, TrialResources, require_room

__all__ = ["NodeWatch", "UnfitNodeError", "alive_nodes", "check_nodes", "require_same_code", "with_gpu_memory"]

_TIMEOUT_S = 120.0
_GRACE_S = 60.0
_EVERY_S = 2.0
_AGAIN = "nothing that has ended is lost: take the node out, or give it the same packages, and go on with --resume"


class UnfitNodeError(RuntimeError):
    """A worker's node has other code than the driver."""


def alive_nodes() -> list[Node]:
    """Of the cluster that Ray is connected to."""
    return [Node(node["NodeManagerAddress"], node["Resources"], node["NodeID"]) for node in ray.nodes() if node["Alive"]]


def with_gpu_memory(nodes: Sequence[Node]) -> list[Node]:
    """The nodes of this machine, with the memory of their GPUs."""
    return [dataclasses.replace(node, gpu_memory=gpu_memory()) if node.resources.get("GPU") else node for node in nodes]


def require_same_code(expected: Mapping[str, str]) -> None:
    """In a worker, before it does anything.

    Raises:
        UnfitNodeError: names the node, the packages and both versions.
    """
    problems = _problems(cluster_probe.looked_up(), expected)
    if problems:
        raise UnfitNodeError(f"node {ray.util.get_node_ip_address()}: {'; '.join(problems)}")


def check_nodes(nodes: Sequence[Node]) -> list[Node]:
    """Ask every node whether it can import the code, and which versions it has; gives them back with the memory of their GPUs.

    Raises:
        UserError: names every node that differs from here, the packages and both versions.
    """
    probe = _probe()
    asked = {probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(): node for node in nodes}
    here, problems, passed = identity(), [], []
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_TIMEOUT_S)
    for reference in answered:
        try:
            there = ray.get(reference)
            found = _problems(there, here)
            passed.append(dataclasses.replace(asked[reference], gpu_memory=int(there.get("gpu_memory", 0))))
        except (ray.exceptions.RayError, ImportError, AttributeError) as error:
            found = [f"its workers do not start ({_last_line(error)})"]
        problems += [f"node {asked[reference].address}: {problem}" for problem in found]
    problems += [f"node {asked[reference].address}: no answer within {_TIMEOUT_S:.0f} s" for reference in silent]
    if problems:
        several = "\n  ".join(sorted(problems))
        raise UserError(f"the cluster cannot run this search, nothing has been computed:\n  {several}\ninstall the same packages there, or take the node out")
    return passed


class NodeWatch(tune.Callback):  # type: ignore[misc]  # Ray ships no types
    """Ends a search that would otherwise wait for ever, or go on with other code.

    Args:
        asked: of one trial.
    """

    def __init__(self, asked: TrialResources) -> None:
        self._asked = asked
        self._looked = self._enough = time.monotonic()

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ARG002 - Ray's signature
        """Whether some node could still run a trial; one that is started again has a minute."""
        now = time.monotonic()
        if now - self._looked < _EVERY_S:
            return
        self._looked = now
        nodes = alive_nodes()
        if self._asked.room(nodes):
            self._enough = now
        elif now - self._enough > _GRACE_S:
            require_room(self._asked, nodes, still=True)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002 - Ray's signature
        """Whether an attempt was refused by its own worker: a node that came later has other code."""
        said = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
        _, found, reason = said.rpartition(f"{UnfitNodeError.__name__}: ")
        if found:
            raise UserError(f"{reason.splitlines()[0]}; {_AGAIN}")

    on_trial_error = on_trial_recover


def _probe() -> Any:
    """A task that needs none of our packages where it runs, so that a node without them can say so."""
    ray.cloudpickle.register_pickle_by_value(cluster_probe)
    return ray.remote(num_cpus=0, max_retries=1)(cluster_probe.looked_up)


def _problems(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    return [there["problem"]] if "problem" in there else differences(there, here)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
