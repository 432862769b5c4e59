"""``compareto export``: one point of a front as an artifact folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from search.commands.arguments import Subparsers, add_command

if TYPE_CHECKING:
    from search.results import Results

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
    which.add_argument("--ladder", metavar="N", type=int, help="N points of the front, with a runner that picks by latency budget, input size, load or heat")
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        default="onnx",
        help="onnx (default), litert, executorch or torch; what is not of the study's target is quantized, priced and evaluated again",
    )
    parser.add_argument("--device", metavar="D", help="of a ladder: whose latency counts (default: this machine where it was in the study, else the first)")
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
    if args.ladder is not None:
        return _ladder(results, args)
    trial = args.trial if args.trial is not None else results.pick(args.pick)
    folder = export_trial(results, trial, args.out, form=args.format, raw_images=args.raw_images)
    print(f"{results.record(trial).id} against the uncompressed model: {results.summary(trial)}")
    print(f"written to {folder}; check it with: compareto verify {folder}")
    return 0


def _ladder(results: Results, args: argparse.Namespace) -> int:
    from compressors.errors import UserError
    from search.ladder import export_ladder

    if args.raw_images is not None:
        raise UserError("--raw-images: accepted with --trial or --pick")
    folder = export_ladder(results, args.ladder, args.out, form=args.format, device=args.device)
    print(f"written to {folder}; try it with: python {folder / 'ladder.py'} --latency-ms 5; check it with: compareto verify {folder}")
    return 0
