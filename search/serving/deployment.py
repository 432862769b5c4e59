"""Replicas on Ray Serve, the gateway in front of them in this process. The only file of this package that imports Ray.

HTTP does not go through Ray Serve's proxy: that, and its tunnel to an ASGI application in a replica, took more processor time for a request than a model
of twenty million parameters (docs/serving.md). A batch of requests is one call to a replica.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

from compressors.errors import UserError
from search.serving.batching import Batcher
from search.serving.figures import Figures
from search.serving.gateway import gateway
from search.serving.http import listened_to
from search.serving.request_error import RequestError
from search.serving.served import Catalogue, Served
from search.serving.settings import ServingSettings
from search.serving.validation import Question

__all__ = ["serving"]


@contextmanager
def serving(catalogue: Catalogue, settings: ServingSettings) -> Iterator[None]:
    """Artifacts behind HTTP as long as the context is open, in a Ray of its own on this machine.

    Raises:
        UserError: the port is taken, or an artifact cannot be loaded.
    """
    listening = _listening(settings)
    # Read by Ray's processes when they start: nothing is printed for each request.
    os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
    # A call to a replica goes to its own port rather than through Ray's object store: a fifth more answers a second (docs/decisions.md).
    os.environ.setdefault("RAY_SERVE_USE_GRPC_BY_DEFAULT", "1")
    from ray import serve
    from ray.exceptions import RayError

    from search.cluster import connected

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    quietly = {"log_level": "ERROR", "enable_access_log": False}
    with closing(listening), connected(None):
        try:
            serve.start(proxy_location="Disabled", logging_config=quietly)
            handles = {one.key: serve.run(_model(one, settings), name=one.key, route_prefix=None, logging_config=quietly) for one in catalogue.served}
        except (RuntimeError, RayError) as error:
            raise UserError(f"the artifacts cannot be served: {_reason(error)}") from error
        figures = Figures()
        try:
            with listened_to(gateway(catalogue, settings, _Batching(catalogue, settings, figures, handles), figures), listening, settings.timeout_s):
                yield
        finally:
            # Replicas answer what they have begun; Ray's own shutdown, which follows, ends the rest.
            for key in handles:
                serve.delete(key)


def _model(served: Served, settings: ServingSettings) -> Any:
    from ray import serve

    threads = settings.threads or max(1, (os.cpu_count() or 1) // settings.replicas)
    return serve.deployment(
        _Model,
        name=served.key,
        num_replicas=settings.replicas,
        max_ongoing_requests=4,
        # No cores are reserved: two artifacts of two replicas run on a machine of two cores, too.
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=5,
        health_check_period_s=5,
    ).bind(str(served.folder), threads, settings.provider)


class _Model:
    """A replica: see ``search.serving.replica``. One thread runs the artifact, so that the process still answers whether it is well."""

    def __init__(self, folder: str, threads: int, provider: str) -> None:
        from search.serving.replica import Replica

        self._replica = Replica(folder, threads, provider)
        self._thread = ThreadPoolExecutor(1)

    async def answer(self, questions: Sequence[Question]) -> tuple[list[Any], dict[str, Any]]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._replica.answer, questions), self._replica.status()

    async def status(self) -> dict[str, Any]:
        return self._replica.status()


class _Batching:
    """A ``Backend``: questions to one artifact are gathered, and a batch is one call to a replica.

    Args:
        catalogue, settings: what is served, and how.
        figures: counts batches.
        handles: of Ray Serve, by ``NAME:VERSION``.
    """

    def __init__(self, catalogue: Catalogue, settings: ServingSettings, figures: Figures, handles: Mapping[str, Any]) -> None:
        self._figures, self._handles = figures, handles
        self._batchers = {
            one.key: Batcher(partial(self._run, one), settings.max_batch, settings.max_wait_ms / 1000, settings.replicas) for one in catalogue.served
        }

    async def _run(self, served: Served, questions: Sequence[Question]) -> Sequence[Any]:
        answers, status = await self._handles[served.key].answer.remote(questions)
        self._figures.ran(served.name, served.version, sum(question.count for question in questions), status)
        return list(answers)

    async def ask(self, served: Served, question: Question) -> dict[str, Any] | RequestError:
        from ray.exceptions import RayError

        try:
            return await self._batchers[served.key].ask(question)  # type: ignore[no-any-return]  # Ray has no types
        except RayError as error:
            # A replica that died is started again by Ray.
            return RequestError(503, f"{served.key} is not available: {_reason(error)}", headers={"Retry-After": "5"})

    async def status(self, served: Served) -> dict[str, Any]:
        return await asyncio.wait_for(self._handles[served.key].status.remote(), 5)


def _listening(settings: ServingSettings) -> socket.socket:
    """Taken before anything is started, so that a port that is in use is said at once."""
    found = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    try:
        # What an earlier server left closing does not count.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((settings.host, settings.port))
    except OSError as error:
        found.close()
        raise UserError(f"--host {settings.host} --port {settings.port}: cannot be listened to: {error.strerror or error}") from error
    return found


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
