"""What is measured of a family: the tests assert it, the table reports it."""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from compressors.architecture import architecture_of
from compressors.checkpoint import save
from compressors.compressor import GraphEdit
from compressors.context import Batch, logits_of
from compressors.graph import ModelGraph, Shapes, trace
from compressors.graph.followable import silence
from compressors.graph.surgery import cut
from compressors.pruning import Prune, score
from compressors.targets.onnx_session import OnnxSession
from compressors.targets.onnxruntime import OnnxRuntime
from tests.conformance.families import FAMILIES, build

__all__ = ["Cut", "digest", "exported", "half", "halved", "measure", "output", "reloaded", "removable", "run", "scores", "share_prunable", "traced"]

ROOT = Path(__file__).parents[2]
Kept = Mapping[str, NDArray[np.int64]]


@functools.cache
def traced(family: str) -> tuple[nn.Module, dict[str, Tensor], ModelGraph]:
    model, inputs = build(family)
    return model, inputs, trace(model, inputs)


@functools.cache
def scores(family: str, criterion: str) -> dict[str, NDArray[np.float64]]:
    model, inputs, graph = traced(family)
    batch = Batch(inputs, torch.zeros(2, dtype=torch.long))
    # A made-up loss: what matters is that gradients of every weight reach the criterion.
    return score(model, graph, criterion, [batch], lambda logits, _: logits.float().square().mean())


def output(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return logits_of(model(**inputs))


def half(family: str, kinds: Iterable[str], criterion: str = "l2") -> Kept:
    """What stays where half of every axis of these kinds goes."""
    _, _, graph = traced(family)
    return Prune(criterion=criterion, ratio=dict.fromkeys(kinds, 0.5)).plan(graph, {criterion: scores(family, criterion)}, GraphEdit.identity(graph)).kept


@dataclass(frozen=True)
class Cut:
    """A cut as it was predicted, and the model that was really cut, measured by means that know nothing of the graph.

    Attributes:
        shapes: the prediction.
        model: really cut.
        parameters, macs: predicted, found.
        finite: whether the model runs and returns finite numbers.
        difference: the largest, from the original with the removed units silenced, as a share of the largest output (of 1, where it is larger); None where a
            normalisation reduces over an axis that was cut.
    """

    shapes: Shapes
    model: nn.Module
    parameters: tuple[int, int]
    macs: tuple[int, int]
    finite: bool
    difference: float | None


def measure(family: str, kept: Kept) -> Cut:
    model, inputs, graph = traced(family)
    smaller, shapes = cut(model, graph, kept), GraphEdit.identity(graph).cut(kept).shapes(graph)
    found, macs = run(smaller, inputs)
    excused = any(axis.coupled for axis in graph.axes if axis.name in kept)
    return Cut(
        shapes,
        smaller,
        (int(graph.count_parameters(shapes)[0]), sum(p.numel() for p in smaller.parameters())),
        (int(graph.count_macs(shapes)[0]), macs),
        bool(torch.isfinite(found).all()),
        None if excused else _difference(found, output(silence(model, graph, kept), inputs)),
    )


def _difference(found: Tensor, expected: Tensor) -> float:
    """The largest, as a share of the largest output, of 1 where that is larger: outputs of small models with random weights are small."""
    return float((found - expected).abs().max() / expected.abs().max().clamp(max=1))


def run(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, int]:
    """Outputs and multiply-accumulates: half of the FLOPs that torch counts.

    It has no formula for fused attention and fused recurrent layers of the CPU, so these run as the matrix products that they are.
    """
    torch.backends.mkldnn.enabled = False
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            found = output(model, inputs)
    finally:
        torch.backends.mkldnn.enabled = True
    macs, rest = divmod(counter.get_total_flops(), 2)
    assert not rest
    return found, macs


def share_prunable(graph: ModelGraph) -> float:
    """Of the parameters of linear and convolution layers, how many lie on a prunable axis."""
    on_axis = {entry.parameter for entry in graph.parameter_dims for segment in entry.segments for axis in segment if graph.axes[axis].fixed is None}
    weights = {site.name: int(site.elements.evaluate(graph.baseline().widths)[0]) for site in graph.sites if site.operator != "embedding"}
    return sum(n for name, n in weights.items() if name in on_axis) / sum(weights.values())


def removable(graph: ModelGraph) -> float:
    """The share of MACs that goes where every prunable axis keeps one unit."""
    least = graph.baseline()
    least.widths[0, [axis.fixed is None for axis in graph.axes]] = 1
    return 1 - int(graph.count_macs(least)[0]) / graph.macs


@functools.cache
def halved(family: str) -> nn.Module:
    """The family's model without half of every axis of every kind that it must offer."""
    model, _, graph = traced(family)
    kept = half(family, FAMILIES[family].kinds)
    assert {axis.kind for axis in graph.axes if axis.name in kept} == set(FAMILIES[family].kinds)
    return cut(model, graph, kept)


def digest(values: Tensor) -> str:
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()


def reloaded(families: Iterable[str], folder: Path) -> dict[str, bool]:
    """Whether the outputs of each halved model, saved and loaded in one new process, are the same bit for bit."""
    expected = {}
    for family in families:
        save(halved(family), folder / family)
        expected[family] = digest(output(halved(family), traced(family)[1]))
    named = [family for family in expected if architecture_of(traced(family)[0]) is not None]
    torch.save({family: traced(family)[1] for family in expected}, folder / "inputs.pt")
    command = [sys.executable, "-W", "ignore", "-m", "tests.conformance.reload", str(folder), *named]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    found = json.loads(printed.splitlines()[-1])
    return {family: found[family] == expected[family] for family in expected}


def exported(family: str, folder: Path) -> float:
    """The largest difference between the halved model and its ONNX file in ONNX Runtime, as ``Cut.difference``.

    The file is asked for the whole batch, and for the first example alone: exported models take any number.
    """
    _, inputs, _ = traced(family)
    session = OnnxSession(OnnxRuntime().export(halved(family), inputs, folder), 1)
    differences = []
    for batch in (inputs, {name: value[:1] for name, value in inputs.items()}):
        ours, theirs = output(halved(family), batch), session({name: value.numpy() for name, value in batch.items()})["logits"]
        assert ours.shape == theirs.shape
        differences.append(_difference(torch.from_numpy(theirs), ours))
    return max(differences)
