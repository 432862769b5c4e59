"""What ``transformers`` prints while it loads a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["silent_transformers"]


@contextmanager
def silent_transformers() -> Iterator[None]:
    """Neither a report of tensors that are new or missing nor a progress bar."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
