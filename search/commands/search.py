"""``compareto search``: run an experiment's search."""

from __future__ import annotations

import argparse

from search.commands.arguments import Subparsers, add_command, add_experiment

__all__ = ["register", "run"]


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "search",
        run,
        "search for the Pareto front of an experiment",
        "compareto search experiments/resnet20_cifar10.yaml --trials 48 --name resnet20",
    )
    add_experiment(parser)
    parser.add_argument("--trials", type=int, metavar="N", help="budget in recipes trained, instead of the experiment's budget")
    parser.add_argument("--seed", type=int, metavar="N", help="instead of the experiment's seed")
    parser.add_argument("--address", metavar="ADDR", help="run on an existing Ray cluster, such as 127.0.0.1:6379 or auto")
    parser.add_argument("--storage", metavar="PLACE", default="studies", help="folder or URI of studies (default: studies)")
    parser.add_argument("--cache", metavar="PLACE", help="folder or URI of computed stages (default: COMPARETO_CACHE, else ~/.cache/compareto)")
    parser.add_argument("--name", metavar="NAME", help="the study's name (default: EXPERIMENT-TIMESTAMP)")
    parser.add_argument("--resume", action="store_true", help="continue the study of this name")
    parser.add_argument("--from", dest="source", metavar="STUDY", help="take over the trials of another study of the same model and data")
    parser.add_argument("--replay", metavar="STUDY", help="repeat the proposals of a study of the same space in their order, and say which metrics differ")
    parser.add_argument("--no-verify", action="store_true", help="do not export the points of the front and measure them again at the end")
    parser.add_argument("--keep-artifacts", action="store_true", help="keep the artifacts of the front's points, in the study's folder under artifacts")


def run(args: argparse.Namespace) -> int:
    """Search; the study prints progress and summary."""
    from compressors.errors import UserError
    from search.experiment import Experiment

    if args.resume and not args.name:
        raise UserError("--resume needs --name: which study to continue")
    overrides = list(args.overrides)
    if args.trials is not None:
        overrides += [f"search.trials={args.trials}", "search.hours=null", "search.cost=null"]
    if args.seed is not None:
        overrides.append(f"search.seed={args.seed}")
    if args.no_verify:
        overrides.append("search.verify=false")
    experiment = Experiment.load(args.experiment, overrides)

    from search.study import Study

    Study(
        experiment,
        storage=args.storage,
        name=args.name,
        resume=args.resume,
        address=args.address,
        keep_artifacts=args.keep_artifacts,
        cache=args.cache,
        source=args.source,
        replay=args.replay,
    ).run()
    return 0
