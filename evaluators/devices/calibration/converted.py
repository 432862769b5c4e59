"""Calibration in runtimes that models are converted for: chains of one kernel and whole networks, exported, timed, and what explains their times.

A conversion takes seconds, so that there are far fewer models than the microbenchmarks of ONNX Runtime. The rates of the nearest profile are what is corrected.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from compressors.targets import target_named
from evaluators.devices.calibration.calibrate import Calibration, check_spreads, covering, identity, machine_memory
from evaluators.devices.calibration.correction import RESIDUAL
from evaluators.devices.calibration.networks import DYNAMIC, STATIC, Variant, variants
from evaluators.devices.calibration.preparing import prepared_runs
from evaluators.devices.calibration.shaping import correct_shapes
from evaluators.devices.calibration.timing import Rounds, spread_of, time_runs
from evaluators.devices.rates import Rates, rates_of
from evaluators.devices.roofline import Interval, Roofline

__all__ = ["calibrate_converted", "converted_variants"]

_SPREAD = 0.6
"""Of the logarithm of the factors: the prior is another machine's data sheet."""
_CHAIN_RESIDUAL = 0.15
"""How well chains of one kernel are expected to be explained: worse than networks, in which errors of many shapes cancel."""
_CHAIN = "chain of "
_NETWORKS = (
    *("residual-32", "residual-64", "residual-112", "bottleneck", "inverted-32", "inverted-96", "inverted-160"),
    *("text-384-24", "text-384-112", "text-256-64", "text-512-16", "vision-149-32", "vision-384-160", "vision-320-96"),
)
"""Those that are converted in ten seconds; the others are there for what ONNX Runtime does with odd channels."""
_PACKED: tuple[dict[str, Any], ...] = ({"quantize": {"mode": "dynamic", "weight_bits": 4, "granularity": 32}},)
# channels in and out, image side, kernel, stride, groups
_CONVOLUTIONS = (
    (16, 16, 32, 3, 1, 1),
    (64, 64, 28, 3, 1, 1),
    (40, 40, 14, 3, 1, 1),
    (32, 64, 32, 3, 2, 1),
    (48, 48, 14, 5, 1, 1),
    (24, 24, 32, 1, 1, 1),
    (128, 128, 14, 1, 1, 1),
    (256, 512, 7, 1, 1, 1),
    (48, 48, 28, 3, 1, 48),
    (192, 192, 14, 3, 1, 192),
)
# rows, depth, width
_PRODUCTS = ((1, 768, 768), (24, 384, 1536), (128, 256, 256))


def calibrate_converted(runtime: str, threads: int, progress: Callable[[str], None], prior: str, keep: Path) -> Calibration:
    """Export, time with ``threads`` threads, and fit: up to ten minutes.

    Args:
        runtime: a target's name.
        threads: of a session.
        progress: receives a line at a time.
        prior: name of the profile whose rates are corrected.
        keep: where finished rounds are kept until the calibration is complete; exported models lie beside it.

    Raises:
        NoisyMachineError: the timings vary too much.
        UserError: the runtime is not installed.
    """
    target, machine = target_named(runtime), identity(threads, runtime)
    rounds, models = Rounds(keep, machine), keep.with_suffix(".models")
    tables, runs = prepared_runs(converted_variants(), target, threads, models, progress)
    milliseconds, spreads = time_runs(runs, "models", rounds, progress)
    check_spreads(spreads)
    progress(f"calibrating this host: what explains the times of {len(runs)} models")
    rates = rates_of(prior, "cpu", runtime, threads)

    def model(changed: Rates) -> Roofline:
        return Roofline("this-host", 1, changed, target, "host-calibrated", Interval((1, 1), (1, 1), (1, 1)))

    chains = np.array([name.startswith(_CHAIN) for name, _ in tables])
    found = correct_shapes(model, rates, tables, milliseconds, _SPREAD, np.where(chains, _CHAIN_RESIDUAL, RESIDUAL), ~chains)
    rounds.close()
    shutil.rmtree(models, ignore_errors=True)
    return Calibration(
        machine=machine,
        rates=found.rates,
        spread=spread_of(spreads),
        residual=float(np.sqrt(np.mean(found.residuals**2))),
        half_width=covering(found.residuals),
        networks=len(found.residuals),
        memory_bytes=machine_memory(),
    )


def converted_variants() -> Iterator[Variant]:
    """The chains, then the networks, each in its forms."""
    yield from _chains()
    yield from (variant for variant in variants() if variant.network in _NETWORKS)


def _chains() -> Iterator[Variant]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for inputs, outputs, side, kernel, stride, groups in _CONVOLUTIONS:
            count = 4 if inputs == outputs and stride == 1 else 1
            layers = [layer for _ in range(count) for layer in (nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups), nn.ReLU())]
            for form in ((), STATIC):
                name = f"{_CHAIN}{kernel}x{kernel} convolutions, {inputs} to {outputs} channels"
                yield Variant(name, nn.Sequential(*layers).eval(), {"input": torch.randn(8, inputs, side, side)}, form)
        for rows, depth, width in _PRODUCTS:
            for form in ((), DYNAMIC, _PACKED):
                chain = nn.Sequential(nn.Linear(depth, width), nn.Linear(width, depth)).eval()
                yield Variant(f"{_CHAIN}linear layers, {rows} rows", chain, {"input": torch.randn(8, rows, depth)}, form)
