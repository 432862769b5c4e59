"""``compareto export``: one point of a front as an artifact folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from search.commands.arguments import Subparsers, add_command

__all__ = ["register", "run"]


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers, "export", run, "export one trial of a study as an artifact folder", "compareto export quickstart --pick knee --format onnx --out artifact"
    )
    parser.add_argument("study", metavar="STUDY", help="a study's name or folder")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--trial", metavar="ID", help="id of a trial or baseline")
    which.add_argument("--pick", metavar="EXPR", help="a point of the front: knee, 'min METRIC' or 'max METRIC', each with 'where ...'")
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        default="onnx",
        help="onnx (default), litert, executorch or torch; what is not of the study's target is quantized, priced and evaluated again",
    )
    parser.add_argument(
        "--raw-images",
        metavar="LAYOUT",
        nargs="?",
        const="nhwc",
        help="the artifact takes uint8 pixels as they are decoded, nhwc (default) or nchw: normalisation is part of its graph",
    )
    parser.add_argument("--out", required=True, metavar="DIR", type=Path, help="a new or empty folder")


def run(args: argparse.Namespace) -> int:
    """Choose, export, say what to do next."""
    from search.export import export_trial
    from search.results import Results

    results = Results.load(args.study)
    trial = args.trial if args.trial is not None else results.pick(args.pick)
    folder = export_trial(results, trial, args.out, form=args.format, raw_images=args.raw_images)
    print(f"{results.record(trial).id} against the uncompressed model: {results.summary(trial)}")
    print(f"written to {folder}; check it with: compareto verify {folder}")
    return 0
