from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def _layer(op_class: str, size: int, cin: int, cout: int, *, int8: bool, previous: str, name: str) -> dict[str, Any]:
    depth = {"depthwise": 9, "pointwise": cin, "conv3x3s1": 9 * cin, "conv": 9 * cin, "gemv": cin}[op_class]
    weights = depth * cout
    outputs = cout * (1 if op_class == "gemv" else size * size)
    op = {"depthwise": "ConvolutionDepthWise", "gemv": "InnerProduct"}.get(op_class, "Convolution")
    counts = {"input_elements": cin * size * size, "output_elements": outputs, "macs": depth * outputs, "weights": weights}
    return {"name": name, "op": op, "class": op_class, "inputs": [previous], "outputs": [name], "int8": int8, **counts}


def _network(width: int, size: int, blocks: int, kind: str, *, int8: bool = False) -> list[dict[str, Any]]:
    layers: list[dict[str, Any]] = [_layer("conv", size, 3, width, int8=int8, previous="data", name="stem")]
    for i in range(blocks):
        classes = ("conv3x3s1",) if kind == "plain" else ("depthwise", "pointwise")
        for op_class in classes:
            layers.append(_layer(op_class, size, width, width, int8=int8, previous=layers[-1]["name"], name=f"{op_class}{i}"))
        elements = width * size * size
        counts = {"input_elements": 2 * elements, "output_elements": elements, "macs": 0, "weights": 0}
        inputs, name = [layers[-1]["name"], layers[-2]["name"]], f"add{i}"
        layers.append({"name": name, "op": "Eltwise", "class": "elementwise", "inputs": inputs, "outputs": [name], "int8": False, **counts})
    layers.append(_layer("gemv", 1, width, 100, int8=int8, previous=layers[-1]["name"], name="head"))
    return layers


@pytest.fixture
def benchmark_files(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Writes measurements and layers of invented networks on invented devices, whose speeds differ as a whole and by a little for each kind of work."""

    def write(devices: tuple[str, ...] = ("slow", "medium", "fast", "other"), *, noise: float = 0.02, threads: tuple[int, ...] = (1, 4)) -> tuple[Path, Path]:
        from evaluators.devices.fitting.features import design
        from evaluators.devices.fitting.forms import PROCESSOR
        from evaluators.devices.fitting.layers import read_layers

        networks = {f"plain{w}": _network(w, 28, 4, "plain") for w in (16, 32, 48, 96)} | {
            f"mobile{w}": _network(w, 28, 8, "mobile") for w in (32, 64, 128, 200)
        }
        networks |= {f"{name}_int8": _network(w, 28, b, kind, int8=True) for name, w, b, kind in (("plain32", 32, 4, "plain"), ("mobile64", 64, 8, "mobile"))}
        layers = tmp_path / "layers.json"
        layers.write_text(json.dumps(networks), encoding="utf-8")
        kernels = read_layers(layers)
        names = sorted(kernels)
        work = design(kernels, names)
        rng = np.random.default_rng(0)
        measurements = tmp_path / "measurements.csv"
        with measurements.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["device", "num_threads", "powersave", "gpu_device", "model", "min_ms", "avg_ms"])
            for i, device in enumerate(devices):
                own = np.log(list(PROCESSOR.typical.values())) - 4 * i / len(devices) + 0.2 * rng.standard_normal(len(PROCESSOR.features))
                for count in threads:
                    ms = np.exp(own) @ work.T / count**0.7 * np.exp(noise * rng.standard_normal(len(names)))
                    for name, value in zip(names, ms, strict=True):
                        writer.writerow([device, count, 0, -1, name, f"{value:.6g}", f"{1.01 * value:.6g}"])
        return measurements, layers

    return write
