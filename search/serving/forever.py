"""Serving until Ctrl-C or a termination signal."""

from __future__ import annotations

import time
from collections.abc import Callable

from search.interrupting import interrupted_by_termination
from search.serving.deployment import serving
from search.serving.served import Catalogue
from search.serving.settings import ServingSettings

__all__ = ["serve_until_stopped"]


def serve_until_stopped(catalogue: Catalogue, settings: ServingSettings, say: Callable[[str], None]) -> None:
    """Start, say where, wait, stop: requests that are under way are answered first.

    Raises:
        UserError: see ``serving``.
    """
    try:
        with serving(catalogue, settings), interrupted_by_termination():
            place = f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{settings.port}"
            for one in catalogue.served:
                share = "" if len([o for o in catalogue.served if o.name == one.name]) == 1 else f", weight {one.weight:g}"
                say(f"{one.name} version {one.version} ({one.folder}, {one.signature['runtime']}{share}): POST {place}/v1/models/{one.name}/predict")
            if not settings.loopback:
                say(f"warning: {settings.host} can be reached from other machines, and requests are not authenticated")
            say(f"serving at {place}; also GET /v1/models, /health, /metrics; Ctrl-C stops")
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        say("stopped")
