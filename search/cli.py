"""The ``compareto`` command: parses arguments, runs one command, turns a user's mistake into one message.

Exit codes: 0 success, 2 a user's mistake, 1 a failure, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from compressors.errors import TrialError, UserError
from search.quiet import quiet_libraries

__all__ = ["COMMANDS", "build_parser", "main"]

COMMANDS = ("search", "check", "trace", "front", "report", "apply", "export", "verify", "serve", "devices", "cache")
"""In the order of ``--help``; each is a module of ``search.commands`` with ``register(subparsers)``."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command; ``run`` of the parsed arguments is the command's function."""
    parser = argparse.ArgumentParser(
        prog="compareto",
        description="Searches for the best ways to compress a neural network: the Pareto front of quality against latency, size, memory and energy.",
        epilog="Start with: compareto search quickstart",
    )
    parser.add_argument("--version", action="version", version=f"compareto {_version()}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        import_module(f"search.commands.{command}").register(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = build_parser().parse_args(argv)
    quiet_libraries()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A search runs for hours; who sends its output to a file wants to follow it.
        sys.stdout.reconfigure(line_buffering=True)
    try:
        return int(args.run(args))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TrialError as error:
        print(f"failed: {error.status}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone; nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _version() -> str:
    try:
        return version("compareto")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
