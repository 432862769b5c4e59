"""Libraries that write to the terminal from C++ or through their own loggers, kept from the user's."""

from __future__ import annotations

import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

__all__ = ["quiet", "silenced_files"]


@contextmanager
def quiet() -> Iterator[None]:
    """Neither warnings nor log lines below errors."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextmanager
def silenced_files() -> Iterator[list[str]]:
    """What C++ writes to the terminal, itself or through Python's streams, goes into the list that is yielded, line by line, at the end."""
    lines: list[str] = []
    text = io.StringIO()
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as caught:
        kept = {number: os.dup(number) for number in (1, 2)}
        try:
            for number in kept:
                os.dup2(caught.fileno(), number)
            with redirect_stdout(text), redirect_stderr(text):
                yield lines
        finally:
            for number, duplicate in kept.items():
                os.dup2(duplicate, number)
                os.close(duplicate)
            caught.seek(0)
            written = caught.read().decode(errors="replace") + text.getvalue()
            lines += [line.strip() for line in written.splitlines() if line.strip()]
