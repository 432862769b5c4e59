"""``compareto check``: validate an experiment completely, run nothing."""

from __future__ import annotations

import argparse

from search.commands.arguments import Subparsers, add_command, add_experiment

__all__ = ["register", "run"]


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    add_experiment(
        add_command(
            subparsers, "check", run, "validate an experiment with its model and data, train nothing", "compareto check experiments/resnet20_cifar10.yaml"
        )
    )


def run(args: argparse.Namespace) -> int:
    """Print what was found, or that assets are to be fetched first."""
    from search.experiment import Experiment

    experiment = Experiment.load(args.experiment, args.overrides)
    missing = experiment.missing_assets()
    if missing:
        for path in missing:
            print(f"{path}: asset not fetched, run make assets")
        print(f"{args.experiment}: the file itself is valid; model and data were not checked")
        return 0

    from search.check import check

    for line in check(experiment):
        print(line)
    print(f"{args.experiment}: valid")
    return 0
