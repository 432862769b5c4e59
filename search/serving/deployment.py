"""The gateway and the replicas on Ray Serve. The only file of this package that imports Ray."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from compressors.errors import UserError
from search.serving.figures import Figures
from search.serving.request_error import RequestError
from search.serving.served import Catalogue, Served
from search.serving.settings import ServingSettings
from search.serving.validation import Question

__all__ = ["require_serve", "serving"]

_APPLICATION = "compareto"


def require_serve() -> None:
    """Nothing where Ray Serve can be imported.

    Raises:
        UserError: it is not installed; says what to install.
    """
    if any(find_spec(module) is None for module in ("ray", "starlette", "uvicorn", "prometheus_client")):
        raise UserError('compareto serve needs Ray Serve, which is not installed: pip install "compareto[serve]"')


@contextmanager
def serving(catalogue: Catalogue, settings: ServingSettings) -> Iterator[None]:
    """Artifacts behind HTTP as long as the context is open, in a Ray of its own on this machine.

    Raises:
        UserError: the port is taken, or an artifact cannot be loaded.
    """
    require_serve()
    _free(settings)
    # Read by Ray's processes when they start: nothing is printed for each request, and routers share the loop of what they route for.
    os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
    os.environ.setdefault("RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD", "0")
    os.environ.setdefault("RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP", "0")
    os.environ.setdefault("RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE", "1000")
    import ray
    from ray import serve

    from search.cluster import connected

    with connected(None):
        try:
            serve.start(
                proxy_location="HeadOnly",
                http_options={"host": settings.host, "port": settings.port, "request_timeout_s": settings.timeout_s + 5},
                logging_config={"log_level": "ERROR", "enable_access_log": False},
            )
            serve.run(_application(catalogue, settings), name=_APPLICATION, route_prefix="/", logging_config={"log_level": "ERROR", "enable_access_log": False})
            yield
        except (RuntimeError, ray.exceptions.RayError) as error:
            raise UserError(f"the artifacts cannot be served: {_reason(error)}") from error
        finally:
            serve.shutdown()


def _application(catalogue: Catalogue, settings: ServingSettings) -> Any:
    from ray import serve

    threads = settings.threads or max(1, (os.cpu_count() or 1) // settings.replicas)
    handles = [
        # No cores are reserved: two artifacts of two replicas run on a machine of two cores, too.
        serve.deployment(
            _Model,
            name=f"{one.key}",
            num_replicas=settings.replicas,
            max_ongoing_requests=2,
            ray_actor_options={"num_cpus": 0},
            graceful_shutdown_timeout_s=5,
            health_check_period_s=5,
        ).bind(str(one.folder), threads, settings.provider)
        for one in catalogue.served
    ]
    deployed = serve.deployment(
        _gateway(catalogue, settings),
        name="gateway",
        # One process: a rate limit that several kept would be several limits.
        num_replicas=1,
        # Beyond it, the proxy would let requests wait unseen; the gateway refuses them itself.
        max_ongoing_requests=100_000,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=5,
    )
    return deployed.bind(*handles)


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
    """A ``Backend``: questions to one artifact are gathered here, so that a batch is one call to a replica. Lives in the gateway's process."""

    def __init__(self, catalogue: Catalogue, settings: ServingSettings, figures: Figures) -> None:
        from ray import serve

        self._figures, self._settings = figures, settings
        self._handles = {one.key: serve.get_deployment_handle(one.key, _APPLICATION) for one in catalogue.served}
        self._ask = {one.key: self._gathered(one) for one in catalogue.served}

    def _gathered(self, served: Served) -> Callable[[Question], Any]:
        from ray import serve

        handle = self._handles[served.key].answer

        async def run(questions: list[Question]) -> list[Any]:
            answers, status = await handle.remote(questions)
            self._figures.ran(served.name, served.version, sum(question.count for question in questions), status)
            return list(answers)

        settings = self._settings
        return serve.batch(  # type: ignore[no-any-return]  # Ray has no types
            max_batch_size=settings.max_batch,
            batch_wait_timeout_s=settings.max_wait_ms / 1000,
            max_concurrent_batches=settings.replicas,
            batch_size_fn=lambda questions: sum(min(question.count, settings.max_batch) for question in questions),
        )(run)

    async def ask(self, served: Served, question: Question) -> dict[str, Any] | RequestError:
        from ray.exceptions import RayError

        try:
            return await self._ask[served.key](question)  # type: ignore[no-any-return]  # Ray has no types
        except RayError as error:
            # A replica that died is started again by Ray.
            return RequestError(503, f"{served.key} is not available: {_reason(error)}", headers={"Retry-After": "5"})

    async def status(self, served: Served) -> dict[str, Any]:
        return await asyncio.wait_for(self._handles[served.key].status.remote(), 5)  # type: ignore[no-any-return]  # Ray has no types


def _gateway(catalogue: Catalogue, settings: ServingSettings) -> Any:
    """The gateway's class, whose application is built in its own process."""
    from ray import serve

    def build() -> Any:
        from search.serving.gateway import gateway

        figures = Figures()
        return gateway(catalogue, settings, _Batching(catalogue, settings, figures), figures)

    class Gateway:
        def __init__(self, *models: Any) -> None:
            """Models are named so that Ray Serve deploys them, too."""

    return serve.ingress(build)(Gateway)


def _free(settings: ServingSettings) -> None:
    try:
        with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
            # What an earlier server left closing does not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except OSError as error:
        raise UserError(f"--host {settings.host} --port {settings.port}: cannot be listened to: {error.strerror or error}") from error


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
