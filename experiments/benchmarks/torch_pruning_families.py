"""Half of every width of every family of the conformance suite, cut by torch_pruning 1.6.1 and by compareto.

    python -m pip install --no-deps --target build/torch_pruning torch-pruning==1.6.1
    PYTHONPATH=build/torch_pruning python experiments/benchmarks/torch_pruning_families.py [FAMILY ...] [--limit 60]

Prints a Markdown table. A family passes where pruning ends within the limit, the pruned model runs and returns finite numbers of the original shape, and
takes fewer multiply-accumulates (counted by torch, not by either library).

torch_pruning runs as its README and its examples for transformers and LLMs say: ``BasePruner`` with ``MagnitudeImportance(p=2, group_reduction="mean")``,
``pruning_ratio=0.5``, the output layer ignored, query, key and value projections in ``num_heads``, the attention's attributes set afterwards, and the
examples' pruner for Swin's merging of patches. Its examples prune heads (BERT, LLMs) or the sizes of heads (ViT, Swin); attention may run as it was built or
be written out (eager). Each of these is tried in a process of its own, and the first that passes counts.
"""

import argparse
import contextlib
import importlib.metadata
import multiprocessing
import os
import platform
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

import compareto  # noqa: E402
from compressors.context import logits_of  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402
from tests.conformance.families import FAMILIES, build  # noqa: E402
from tests.conformance.measures import run  # noqa: E402

VERSION = "1.6.1"
MISSING = (
    f"torch_pruning {VERSION} is needed, {{found}}: python -m pip install --no-deps --target build/torch_pruning torch-pruning=={VERSION}, "
    "then run this with PYTHONPATH=build/torch_pruning"
)
PROJECTIONS = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"), ("q", "k", "v"), ("q_lin", "k_lin", "v_lin"))
HEAD_SIZES, HEADS, WIDTHS = (
    ("head_dim", "attention_head_size", "key_value_proj_dim"),
    ("num_attention_heads", "num_heads", "n_heads"),
    ("all_head_size", "inner_dim", "embed_dim", "dim"),
)
STARTING_S = 300
ENDLESS = "not done after"


@dataclass(frozen=True)
class Attention:
    """One attention module, whichever names its model gives to the parts."""

    module: nn.Module
    projections: tuple[nn.Linear, nn.Linear, nn.Linear]
    head_size: int

    @property
    def heads(self) -> list[int]:
        return [projection.out_features // self.head_size for projection in self.projections]

    def follow(self, heads: int) -> None:
        """Set the attributes that repeat what was pruned, as the examples do."""
        query, key, _ = self.projections
        for names, value in ((HEADS, heads), (WIDTHS, query.out_features), (HEAD_SIZES, query.out_features // heads)):
            for name in names:
                if hasattr(self.module, name):
                    setattr(self.module, name, value)
        if hasattr(self.module, "num_key_value_groups"):
            self.module.num_key_value_groups = heads // (key.out_features // (query.out_features // heads))


def attentions(model: nn.Module) -> list[Attention]:
    found = []
    for module in model.modules():
        size = next((getattr(module, name) for name in HEAD_SIZES if hasattr(module, name)), None)
        layers = next((there for names in PROJECTIONS if (there := [getattr(module, name, None) for name in names])[0] is not None), [])
        if size and layers and all(isinstance(layer, nn.Linear) for layer in layers):
            found.append(Attention(module, tuple(layers), size))
    return found


def output_layer(model: nn.Module, inputs: dict[str, Tensor]) -> nn.Module:
    """The last module with weights of its own that runs."""
    ran: list[nn.Module] = []
    hooks = [m.register_forward_hook(lambda m, *_: ran.append(m)) for m in model.modules() if next(m.parameters(recurse=False), None) is not None]
    with torch.no_grad():
        model(**inputs)
    for hook in hooks:
        hook.remove()
    return ran[-1]


def by_torch_pruning(model: nn.Module, inputs: dict[str, Tensor], setting: str) -> nn.Module:
    import torch_pruning as tp
    from transformers.models.swin.modeling_swin import SwinPatchMerging

    class Merging(tp.BasePruningFunc):
        """Of examples/transformers/prune_hf_swin.py."""

        def prune_out_channels(self, layer: nn.Module, idxs: list[int]) -> nn.Module:
            tp.prune_linear_out_channels(layer.reduction, idxs)
            return layer

        def prune_in_channels(self, layer: nn.Module, idxs: list[int]) -> nn.Module:
            repeated = [i + part * self.get_in_channels(layer) for part in range(4) for i in idxs]
            tp.prune_linear_in_channels(layer.reduction, repeated)
            tp.prune_layernorm_out_channels(layer.norm, repeated)
            return layer

        def get_out_channels(self, layer: nn.Module) -> int:
            return layer.reduction.out_features

        def get_in_channels(self, layer: nn.Module) -> int:
            return layer.reduction.in_features // 4

    swin = {"customized_pruners": {SwinPatchMerging: Merging()}, "root_module_types": (nn.Linear, nn.LayerNorm, SwinPatchMerging)}
    what, _, attention = setting.partition(", ")
    if attention == "eager":
        model.set_attn_implementation("eager")
    ignored = [output_layer(model, inputs)]
    found = attentions(model)
    pruner = tp.pruner.BasePruner(
        model,
        inputs,
        importance=tp.importance.MagnitudeImportance(p=2, group_reduction="mean"),
        global_pruning=False,
        pruning_ratio=0.5,
        ignored_layers=ignored,
        num_heads={projection: heads for a in found for projection, heads in zip(a.projections, a.heads, strict=True)},
        prune_num_heads=what == "heads",
        prune_head_dims=what != "heads",
        head_pruning_ratio=0.5,
        in_channel_groups={},
        out_channel_groups={m.gate_up_proj: 2 for m in model.modules() if isinstance(getattr(m, "gate_up_proj", None), nn.Linear)},
        output_transform=lambda out: logits_of(out).sum(),
        **(swin if any(isinstance(m, SwinPatchMerging) for m in model.modules()) else {}),
    )
    for group in pruner.step(interactive=True):
        group.prune()
    for a in found:
        a.follow(pruner.num_heads[a.projections[0]])
    return model


def by_compareto(model: nn.Module, inputs: dict[str, Tensor], setting: str) -> nn.Module:
    return compareto.compress(model, [{"prune": {"criterion": "l2", "ratio": dict.fromkeys(setting.split(", "), 0.5)}}], inputs)


@dataclass(frozen=True)
class Outcome:
    """What became of one family: why it fails (empty where it passes), and where it passes the share of MACs that is left and the seconds it took."""

    setting: str
    problem: str
    left: float = 0.0
    seconds: float = 0.0


Way = Callable[[nn.Module, dict[str, Tensor], str], nn.Module]


def _work(way: Way, family: str, setting: str, reply: Connection) -> None:
    """In a child process: reply once when the clock may start, then how each part went."""
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing), warnings.catch_warnings():  # noqa: PTH123 - no path of ours
        warnings.simplefilter("ignore")
        model, inputs = build(family)
        before, macs = run(model, inputs)
        reply.send("ready")
        doing, started = "pruning", time.perf_counter()
        try:
            smaller = way(model, inputs, setting)
            seconds = time.perf_counter() - started
            doing = "forward"
            after, less = run(smaller.eval(), inputs)
        except Exception as error:  # noqa: BLE001 - whatever a library raises is the result
            first = next(iter(str(error).strip().splitlines()), None) or traceback.extract_tb(error.__traceback__)[-1].line or ""
            reply.send(Outcome(setting, f"{doing} raises {type(error).__name__}: {first[:90]}"))
            return
        problem = ""
        if after.shape != before.shape:
            problem = f"returns {tuple(after.shape)} instead of {tuple(before.shape)}"
        elif not torch.isfinite(after).all():
            problem = "returns numbers that are not finite"
        elif less >= macs:
            problem = "no MACs are cut"
        reply.send(Outcome(setting, problem, less / macs, seconds))


def attempt(way: Way, family: str, setting: str, limit_s: float) -> Outcome:
    """One way to prune one family, in a process that is killed where it takes too long."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(way, family, setting, theirs))
    child.start()
    theirs.close()
    try:
        if not ours.poll(STARTING_S) or ours.recv() != "ready":
            raise TimeoutError(f"{family} was not built within {STARTING_S} s")
        if not ours.poll(limit_s):
            return Outcome(setting, f"{ENDLESS} {limit_s:g} s")
        outcome: Outcome = ours.recv()
    except EOFError:
        return Outcome(setting, "the process dies")
    else:
        return outcome
    finally:
        child.kill()
        child.join()


def peer(family: str, limit_s: float) -> Outcome:
    """torch_pruning in its best setting; where none passes, what went wrong in the first."""
    model, _ = build(family)
    settings = [("-", "as built")]
    if attentions(model):
        kinds = ("head sizes", "heads") if family in ("vit", "deit", "swin") else ("heads", "head sizes")
        settings = [(kind, how) for how in ("as built", "eager") for kind in kinds]
    outcomes: list[Outcome] = []
    endless = set()
    for kind, how in settings:
        if how in endless:  # it has not got to see which kind
            continue
        outcomes.append(attempt(by_torch_pruning, family, f"{kind}, {how}", limit_s))
        if not outcomes[-1].problem:
            return outcomes[-1]
        if outcomes[-1].problem.startswith(ENDLESS):
            endless.add(how)
    return outcomes[0]


def widths(family: str) -> str:
    """The kinds that are widths: torch_pruning cuts no depth."""
    return ", ".join(kind for kind in FAMILIES[family].kinds if kind != "blocks")


def table(results: dict[str, tuple[Outcome, Outcome]]) -> str:
    lines = ["| family | torch_pruning | setting | MACs left | seconds | compareto | kinds | MACs left | seconds |", "|" + "---|" * 9]
    for family, outcomes in results.items():
        cells = [family]
        for outcome in outcomes:
            cells += [
                outcome.problem.replace("|", "\\|") or "passes",
                outcome.setting,
                *(("", "") if outcome.problem else (f"{outcome.left:.0%}", f"{outcome.seconds:.1f}")),
            ]
        lines.append(f"| {' | '.join(cells)} |")
    passed = [sum(not outcomes[i].problem for outcomes in results.values()) for i in (0, 1)]
    return "\n".join([*lines, "", f"torch_pruning passes {passed[0]} of {len(results)} families, compareto {passed[1]}."])


def installed() -> str | None:
    try:
        return importlib.metadata.version("torch-pruning")
    except importlib.metadata.PackageNotFoundError:
        return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Half of every width of every family, cut by torch_pruning and by compareto.")
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)}; all of them unless given")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for each attempt (60)")
    options = parser.parse_args(arguments)
    unknown = [family for family in options.families if family not in FAMILIES]
    if unknown:
        parser.error(f"unknown family {unknown[0]!r}; accepted: {', '.join(FAMILIES)}")
    if installed() != VERSION:
        print(MISSING.format(found=f"not {installed()}" if installed() else "which is not installed"), file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    quiet_libraries()
    # Children are forks: none of them spends its time on imports.
    for module in ("torch_pruning", "torchao.quantization", "transformers.models.swin.modeling_swin"):
        importlib.import_module(module)
    results: dict[str, tuple[Outcome, Outcome]] = {}
    for family in options.families or FAMILIES:
        results[family] = peer(family, options.limit), attempt(by_compareto, family, widths(family), options.limit)
        print(f"{family}: {results[family]}", file=sys.stderr)
    versions: list[Any] = [f"{name} {importlib.metadata.version(name)}" for name in ("torch-pruning", "torch", "transformers")]
    print(f"{time.strftime('%Y-%m-%d')}, {', '.join(versions)}, Python {platform.python_version()}, one thread, {options.limit:g} s for each attempt.\n")
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
