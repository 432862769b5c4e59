"""Loading what a user names: from a folder, or from the hub without waiting for a network that is not there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from compressors.errors import UserError

__all__ = ["first_line", "hub_access", "local_or_hub"]

_PROBE_SECONDS = 5.0


@contextmanager
def hub_access(place: str, name: str) -> Iterator[None]:
    """Within it the hub's libraries may be asked for ``name``: quietly, and offline (from their caches) where the hub does not answer.

    Args:
        place: the key in the experiment, for the message.
        name: the hub id.

    Raises:
        UserError: in place of whatever the libraries raise where it cannot be had.
    """
    import datasets.config
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    offline = constants.HF_HUB_OFFLINE or not _answers(constants.ENDPOINT)
    bars = not are_progress_bars_disabled()
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    disable_progress_bars()
    try:
        with ExitStack() as stack:
            if offline:
                # Both libraries read these when they are asked, and retry for half a minute per file without them.
                stack.enter_context(patch.object(constants, "HF_HUB_OFFLINE", True))
                stack.enter_context(patch.object(datasets.config, "HF_HUB_OFFLINE", True))
            yield
    except UserError:
        raise
    except Exception as error:
        # Connection, HTTP, not found, gated, no such revision: a dozen unrelated classes that all mean the same to the user.
        if offline:
            raise UserError(f"{place}: {name!r} is no folder here, and the hub cannot be reached; check the name and the network") from error
        raise UserError(f"{place}: {name!r} is no folder here, and cannot be had from the hub: {first_line(error)}") from error
    finally:
        logger.setLevel(level)
        if bars:
            enable_progress_bars()


def _answers(endpoint: str) -> bool:
    from huggingface_hub import get_session

    try:
        get_session().head(endpoint, timeout=_PROBE_SECONDS)
    except Exception:  # noqa: BLE001 - whatever it is (name resolution, refusal, proxy, time), there is no answer
        return False
    return True


@contextmanager
def local_or_hub(place: str, name: str, folder: Path) -> Iterator[str]:
    """What to hand to ``from_pretrained``: the path of a folder (relative to ``folder``), else the hub id, with ``hub_access``.

    Raises:
        UserError: see ``hub_access``; or the folder does not hold what is wanted.
    """
    local = folder / name
    if not local.exists():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise UserError(f"{place}: no folder {local}")
        with hub_access(place, name):
            yield name
        return
    try:
        yield str(local)
    except UserError:
        raise
    except Exception as error:
        # Of a folder that is not whole, the libraries raise OSError, ValueError, KeyError, JSONDecodeError, SafetensorError, RuntimeError, ...
        raise UserError(f"{place}: cannot load {local}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What a library said, in one line: its messages go on with advice that does not hold here."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
