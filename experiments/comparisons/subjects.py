"""The models that comparisons run on: one that needs nothing, and those of ``make assets``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from experiments.comparisons.laboratory import Laboratory

__all__ = ["SUBJECTS"]

HERE = Path(__file__).resolve().parents[1]


def _digits() -> Laboratory:
    recovery = {"epochs": 6, "temperature": 4, "alpha": 0.7, "learning_rate": 0.003}
    return Laboratory("quickstart", ["constraints=[]"], recovery, seeds=3)


def _resnet20() -> Laboratory:
    recovery = {"epochs": 1, "temperature": 4, "alpha": 0.7, "learning_rate": 0.02, "optimizer": "sgd", "weight_decay": 0.0005, "batch_size": 64}
    device = "raspberry-pi-4/onnxruntime"
    settings = ["constraints=[]", f"devices=[{device}]", f"objectives=[accuracy, latency_ms@{device}, size_bytes]"]
    return Laboratory(str(HERE / "resnet20_cifar10.yaml"), settings, recovery)


def _minilm() -> Laboratory:
    recovery = {"steps": 120, "batch_size": 32, "temperature": 3, "alpha": 0.7, "learning_rate": 0.0002}
    return Laboratory(str(HERE / "minilm_clinc150.yaml"), ["constraints=[]"], recovery)


def _stories() -> Laboratory:
    recovery = {"epochs": 1, "temperature": 2, "alpha": 0.5, "learning_rate": 0.0005}
    return Laboratory(str(HERE / "stories260k.yaml"), ["constraints=[]"], recovery)


def _gestures() -> Laboratory:
    recovery = {"epochs": 6, "temperature": 2, "alpha": 0.7, "learning_rate": 0.002}
    device = "cortex-a53-2gb/onnxruntime"
    settings = ["constraints=[]", "data.metrics=[accuracy, f1_macro]", f"objectives=[accuracy, latency_ms@{device}, size_bytes]"]
    return Laboratory(str(HERE / "gestures.yaml"), settings, recovery, seeds=3)


SUBJECTS: dict[str, Callable[[], Laboratory]] = {"digits": _digits, "resnet20": _resnet20, "minilm": _minilm, "stories": _stories, "gestures": _gestures}
"""By name: makes the laboratory of each."""
