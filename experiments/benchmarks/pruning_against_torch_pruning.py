"""Is what we prune at least as good as what `torch_pruning` prunes? ResNet-20 on CIFAR-10, the same criterion, ratios and recovery.

    pip install --target /tmp/torch_pruning --no-deps torch_pruning==1.6.1
    PYTHONPATH=/tmp/torch_pruning python experiments/benchmarks/pruning_against_torch_pruning.py [--steps 250] [--seeds 3] [--remove 0.3 0.5 0.7]

The channels inside of blocks are pruned, to the same number of units in every layer; the layers whose channels are added up by the shortcuts are given to
`torch_pruning` as `ignored_layers`, because the models that it makes with them cannot be run: `--scopes "all channels"` shows that, with ours beside it. Exit
status 1 where ours is worse by more than chance.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from recoveries import ROOT, Baseline, Runs, accuracies, conditions, markdown, paired, points, recovered, state_of  # found beside this file
from witness import count_macs

from compressors.compressor import GraphEdit
from compressors.graph.surgery import cut
from search.quiet import quiet_libraries

SCOPES = {"inside blocks": ("channels",), "all channels": ("channels", "hidden")}
TOOLS = ("ours", "torch_pruning")
RESULTS = ROOT / "build/benchmarks/pruning_against_torch_pruning.jsonl"


def ours(baseline: Baseline, scope: str, removed: float) -> nn.Module:
    return cut(baseline.model, baseline.graph, baseline.plan(SCOPES[scope], removed)[1].kept)


def torch_pruning(baseline: Baseline, scope: str, removed: float) -> nn.Module:
    if scope == "inside blocks":
        return _same_widths(baseline, baseline.plan(SCOPES[scope], removed)[1])
    # One ratio for all, its classifier ignored as the documentation asks; the smallest in hundredths that removes enough.
    for hundredths in range(5, 95):
        model = _pruned(baseline, pruning_ratio=hundredths / 100)
        if count_macs(model, baseline.task.example_inputs) <= (1 - removed) * baseline.macs:
            return model
    raise RuntimeError(f"no ratio removes {removed:.0%} of the MACs")


def _same_widths(baseline: Baseline, edit: GraphEdit) -> nn.Module:
    sizes = {axis.name: axis.size for axis in baseline.graph.axes}
    # It keeps int(size * (1 - ratio)) units: half a unit more is not lost to rounding.
    ratios = {name: 1 - (len(kept) + 0.5) / sizes[name] for name, kept in edit.kept.items()}
    return _pruned(baseline, layers=ratios)


def _pruned(baseline: Baseline, pruning_ratio: float = 0.0, layers: dict[str, float] | None = None) -> nn.Module:
    import torch_pruning as tp

    model = copy.deepcopy(baseline.model)
    modules = dict(model.named_modules())
    ignored: list[nn.Module] = [modules["linear"]]
    if layers is not None:
        ignored += [module for name, module in modules.items() if isinstance(module, nn.Conv2d) and name not in layers]
    pruner = tp.pruner.BasePruner(
        model,
        next(iter(baseline.task.example_inputs.values())),
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=pruning_ratio,
        pruning_ratio_dict={modules[name]: ratio for name, ratio in (layers or {}).items()},
        ignored_layers=ignored,
    )
    pruner.step()
    return model.eval()


def run(baseline: Baseline, runs: Runs, prune: Callable[[], nn.Module], steps: int, seed: int, **case: Any) -> dict[str, Any]:
    """One row: from the file, or computed now."""
    key = {**case, "steps": steps, "seed": seed, "baseline": baseline.key}
    found = runs.get(**key)
    if found is not None:
        return found
    started = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pruned = prune()
            untrained = baseline.measured(pruned)
    except Exception as error:  # noqa: BLE001 - what a tool cannot do is a result
        message = (str(error).strip().splitlines() or [""])[0]
        return runs.add({"error": f"{type(error).__name__}: {message}"[:160]}, **key)
    same = runs.like(units=state_of(pruned), steps=steps, seed=seed, baseline=baseline.key)
    if same is not None:
        # Bit for bit the same model, whose training is deterministic.
        return runs.add({name: value for name, value in same.items() if name != "run"}, **key)
    model = recovered(baseline, pruned, steps, seed)
    row = {**baseline.measured(model), "units": state_of(pruned), "before": untrained["report_accuracy"], "seconds": time.perf_counter() - started}
    print(f"{case}, seed {seed}: {row['report_accuracy']:.3f}, {row['seconds']:.0f} s", file=sys.stderr, flush=True)
    return runs.add(row, **key)


def table(baseline: Baseline, found: dict[tuple[str, float, str], list[dict[str, Any]]]) -> tuple[list[str], bool]:
    """The lines of the table, and whether ours is nowhere worse by more than chance."""
    lines: list[list[str]] = []
    fine = True
    for (scope, removed, tool), rows in found.items():
        cells = [f"{removed:.0%}", scope, tool]
        failed = next((row["error"] for row in rows if "error" in row), None)
        if failed is not None:
            lines.append([*cells, "-", "-", "-", f"fails: {failed}", "-"])
            continue
        others = found[scope, removed, TOOLS[1]]
        difference = "-"
        if tool == TOOLS[0] and not any("error" in row for row in others):
            estimate = paired(baseline.correct(rows), baseline.correct(others))
            fine &= estimate[2] >= 0
            difference = points(estimate) + (", same units" if [r["units"] for r in rows] == [r["units"] for r in others] else "")
        before = f"{100 * rows[0]['before']:.1f}"
        lines.append(
            [*cells, f"{rows[0]['macs']:,} ({rows[0]['macs'] / baseline.macs - 1:+.1%})", f"{rows[0]['parameters']:,}", before, accuracies(rows), difference]
        )
    heads = ("removed", "cut", "by", "MACs", "parameters", "before recovery", "accuracy: mean (seeds)", "ours - torch_pruning, points, 95 %")
    return list(markdown(heads, lines)), fine


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--remove", nargs="+", type=float, default=[0.3, 0.5, 0.7], help="shares of the MACs")
    parser.add_argument("--scopes", nargs="+", choices=SCOPES, default=["inside blocks"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=250, help="of recovery")
    parser.add_argument("--results", type=Path, default=RESULTS, help="finished runs; those that are there are not run again")
    args = parser.parse_args(arguments)
    quiet_libraries()
    try:
        import torch_pruning as _  # noqa: F401 - is it there?
    except ImportError:
        print("torch_pruning is not installed: see --help", file=sys.stderr)
        return 2
    baseline, runs = Baseline.load(), Runs(args.results)
    makers = {"ours": ours, "torch_pruning": torch_pruning}
    found = {
        (scope, removed, tool): [
            run(baseline, runs, lambda t=tool, s=scope, r=removed: makers[t](baseline, s, r), args.steps, seed, scope=scope, removed=removed, tool=tool)  # type: ignore[misc]
            for seed in range(args.seeds)
        ]
        for scope in args.scopes
        for removed in args.remove
        for tool in TOOLS
    }
    whole = baseline.measured(baseline.model)
    print(f"{conditions(args.steps, args.seeds)}, torch_pruning {version('torch_pruning')}")
    accuracy = f"{100 * whole['report_accuracy']:.2f} % of {baseline.correct([whole]).size} images"
    print(f"unpruned: {whole['macs']:,} MACs, {whole['parameters']:,} parameters, {accuracy}\n")
    lines, fine = table(baseline, found)
    print("\n".join(lines))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
