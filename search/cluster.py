"""Ray as a search uses it: started here, or reached where a cluster runs, to whose workers the code is then sent."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from compressors.errors import UserError
from search.cluster_code import runtime_env

__all__ = ["connected"]


@contextmanager
def connected(address: str | None) -> Iterator[dict[str, float]]:
    """Ray, started here or reached at ``address``; yields its resources.

    Raises:
        UserError: the cluster cannot be reached.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # A trial that fails is a record, with its reason, and no trace on the terminal.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    ours = not ray.is_initialized()
    if ours:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        # Without an address Ray would first look for a cluster of its own on this machine, and without a dashboard it starts sooner.
        options |= {"address": address, "runtime_env": runtime_env()} if address else {"address": "local", "include_dashboard": False}
        try:
            ray.init(**options)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            if address is None:
                raise
            raise UserError(f"--address {address!r}: no Ray cluster can be reached ({str(error).splitlines()[0]}){_hint()}") from error
    try:
        yield ray.cluster_resources()
    finally:
        if ours:
            ray.shutdown()


def _hint() -> str:
    """Ray sends its token to a named address only where it is told to, and a driver needs Ray's own process beside it."""
    token = "" if "RAY_AUTH_MODE" in os.environ else "; a cluster that wants a token, as Ray's own default is, needs RAY_AUTH_MODE=token"
    return f"{token}; a machine outside the cluster joins it first (ray start --address HOST:6379 --num-cpus 0) or submits a job; see docs/cluster.md"
