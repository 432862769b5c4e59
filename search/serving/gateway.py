"""The HTTP side: an ASGI application that checks, limits and routes requests. It knows neither Ray nor a runtime."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from search.serving.figures import Figures
from search.serving.rate_limit import RateLimit
from search.serving.request_error import RequestError
from search.serving.served import Catalogue, Served
from search.serving.settings import ServingSettings
from search.serving.validation import Question, validated

__all__ = ["Backend", "gateway"]

_METRICS = "text/plain; version=0.0.4; charset=utf-8"


class Backend(Protocol):
    """Where a gateway sends questions."""

    async def ask(self, served: Served, question: Question) -> dict[str, Any] | RequestError:
        """The answer."""
        ...

    async def status(self, served: Served) -> dict[str, Any]:
        """What a replica says of itself; raises where none answers."""
        ...


def gateway(catalogue: Catalogue, settings: ServingSettings, backend: Backend, figures: Figures | None = None) -> ASGIApp:
    """The application.

    ``POST /v1/models/NAME/predict`` and ``.../versions/VERSION/predict``, ``GET /v1/models``, ``/health``, ``/metrics``. Every error is JSON.

    Args:
        catalogue: what is served.
        settings: limits.
        backend: runs what was checked.
        figures: counters; by default new ones.
    """
    figures = figures or Figures()
    serving = _Serving(catalogue, settings, backend, figures)
    routes = [
        Route("/v1/models/{model}/predict", serving.predict, methods=["POST"]),
        Route("/v1/models/{model}/versions/{version}/predict", serving.predict, methods=["POST"]),
        Route("/v1/models", serving.models, methods=["GET"]),
        Route("/health", serving.health, methods=["GET"]),
        Route("/metrics", serving.metrics, methods=["GET"]),
    ]
    return _Admission(Starlette(routes=routes, exception_handlers={HTTPException: _no_route, Exception: _our_fault}), settings, figures)


class _Admission:
    """Lets requests to models through to an application, or refuses them before it has looked at them.

    What is refused must take as little time as possible from the others: routing alone takes more than all of this.
    """

    def __init__(self, application: ASGIApp, settings: ServingSettings, figures: Figures) -> None:
        self._application, self._settings, self._figures = application, settings, figures
        self._limit = RateLimit(settings.rate, settings.burst)
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith("/predict"):
            await self._application(scope, receive, send)
            return
        refusal = self._refusal()
        if refusal is not None:
            self._figures.answered("", "", refusal.status, 0.0, 0)
            await _refused(refusal)(scope, receive, send)
            return
        self._wait(1)
        try:
            await self._application(scope, receive, send)
        finally:
            self._wait(-1)

    def _refusal(self) -> RequestError | None:
        seconds = self._limit.take()
        if seconds:
            headers = {"Retry-After": RateLimit.retry_after(seconds)}
            return RequestError(
                429, "too many requests", accepted=f"{self._settings.rate:g} requests a second, {self._settings.burst} at once", headers=headers
            )
        if self._waiting >= self._settings.max_waiting:
            return RequestError(429, "too many requests wait", accepted=f"{self._settings.max_waiting} at a time", headers={"Retry-After": "1"})
        return None

    def _wait(self, more: int) -> None:
        self._waiting += more
        self._figures.waiting.set(self._waiting)


class _Serving:
    def __init__(self, catalogue: Catalogue, settings: ServingSettings, backend: Backend, figures: Figures) -> None:
        self._catalogue, self._settings, self._backend, self._figures = catalogue, settings, backend, figures

    async def predict(self, request: Request) -> Response:
        started = time.perf_counter()
        served, inputs = None, 0
        try:
            served = self._catalogue.route(request.path_params["model"], request.path_params.get("version"))
            question = validated(await self._body(request), served, self._settings.max_inputs)
            inputs = question.count
            answer = await self._ask(served, question)
            response = _json(200, {"model": served.name, "version": served.version, **answer})
        except RequestError as refusal:
            response = _refused(refusal)
        except ClientDisconnect:
            response = Response(status_code=499)
        named = (served.name, served.version) if served else ("", "")
        self._figures.answered(*named, response.status_code, time.perf_counter() - started, inputs)
        return response

    async def _body(self, request: Request) -> bytes:
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RequestError(415, "the body is no JSON", key="Content-Type", value=kind, accepted="application/json")
        most = self._settings.max_body_bytes
        said = request.headers.get("content-length", "")
        if said.isascii() and said.isdigit() and (len(said) > 18 or int(said) > most):
            raise _too_large(most)
        # A body may come without its length, or longer than it said.
        parts, size = [], 0
        seconds = self._settings.timeout_s
        try:
            async with asyncio.timeout(seconds):
                async for part in request.stream():
                    size += len(part)
                    if size > most:
                        raise _too_large(most)
                    parts.append(part)
        except TimeoutError as error:
            raise RequestError(408, "the body did not end in time", accepted=f"a body within {seconds:g} s", headers={"Connection": "close"}) from error
        return b"".join(parts)

    async def _ask(self, served: Served, question: Question) -> dict[str, Any]:
        answer = await _within(self._settings.timeout_s, self._backend.ask(served, question))
        if isinstance(answer, RequestError):
            raise answer
        return answer

    async def models(self, request: Request) -> Response:  # noqa: ARG002 - Starlette's
        return _json(200, {"models": [one.described() for one in self._catalogue.served]})

    async def health(self, request: Request) -> Response:  # noqa: ARG002 - Starlette's
        found = await asyncio.gather(*(self._backend.status(one) for one in self._catalogue.served), return_exceptions=True)
        models = [
            {"name": one.name, "version": one.version, **({"ok": False} if isinstance(said, BaseException) else {"ok": True, **said})}
            for one, said in zip(self._catalogue.served, found, strict=True)
        ]
        well = all(model["ok"] for model in models)
        return _json(200 if well else 503, {"status": "ok" if well else "unavailable", "models": models})

    async def metrics(self, request: Request) -> Response:  # noqa: ARG002 - Starlette's
        return Response(self._figures.text(), media_type=_METRICS)


async def _within(seconds: float, answer: Awaitable[dict[str, Any] | RequestError]) -> dict[str, Any] | RequestError:
    try:
        return await asyncio.wait_for(answer, seconds)
    except TimeoutError as error:
        raise RequestError(503, f"no answer within {seconds:g} s", headers={"Retry-After": "1"}) from error


def _too_large(most: int) -> RequestError:
    # The rest of the body is not read: the connection cannot be used again.
    return RequestError(413, "the body is too large", key="Content-Length", accepted=f"at most {most:,} bytes", headers={"Connection": "close"})


def _json(status: int, plain: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(plain, separators=(",", ":"), allow_nan=False), status, headers, "application/json")


def _refused(refusal: RequestError) -> Response:
    return _json(refusal.status, refusal.body(), refusal.headers)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    accepted = "POST /v1/models/NAME/predict, POST /v1/models/NAME/versions/VERSION/predict, GET /v1/models, GET /health, GET /metrics"
    message = f"{request.method} is not accepted here" if error.status_code == 405 else str(error.detail)
    return _refused(RequestError(error.status_code, message, key="path", value=request.url.path, accepted=accepted, headers=dict(error.headers or {})))


async def _our_fault(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's
    return _refused(RequestError(500, f"{type(error).__name__} in the server"))
