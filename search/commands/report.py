"""``compareto report``: a study as one page, or its front as a picture."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from search.commands.arguments import Subparsers, add_command

__all__ = ["register", "run"]


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(subparsers, "report", run, "write a study as one self-contained page", "compareto report quickstart -o report.html")
    parser.add_argument("study", metavar="STUDY", help="a study's name or folder")
    parser.add_argument("--device", metavar="D", help="the page of the front on this device; one that was not in the study is priced now")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="report.html, or a picture of the front if it ends in .svg (default: report.html in the study)"
    )


def run(args: argparse.Namespace) -> int:
    """Render and say where."""
    from compressors.errors import UserError
    from search.report import picture, render
    from search.results import Results

    results = Results.load(args.study)
    assert results.folder is not None
    folder, name = results.folder, "report.html"
    if args.device:
        results, name = results.on(args.device), f"report-{re.sub(r'[^A-Za-z0-9.+-]', '-', args.device)}.html"
    output: Path = args.output or folder / name
    if output.suffix not in (".html", ".svg"):
        raise UserError(f"cannot write {str(output)!r}; accepted: a file that ends in .html or .svg")
    text = picture(results) if output.suffix == ".svg" else render(results)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}") from error
    print(output)
    return 0
