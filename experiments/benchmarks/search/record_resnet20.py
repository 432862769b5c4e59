"""72 recipes of ResNet-20 on CIFAR-10, really trained for 30 steps: the table that ``promotion.py`` replays.

python experiments/benchmarks/search/record_resnet20.py [--minutes 60]    # goes on where it was left; the last run writes the table
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

from recording import Recording  # found beside this file

__all__ = ["RECORDING"]

ROOT = Path(__file__).resolve().parents[3]
_DEVICE = "raspberry-pi-4/onnxruntime"


def _recipe(point: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"prune": {"criterion": point["criterion"], "ratio": {"channels": point["ratio"]}, "scope": point["scope"]}},
        {"distill": {"steps": 30, "temperature": 4.0, "alpha": 0.7, "learning_rate": 0.05, "optimizer": "sgd", "batch_size": 64}},
        {"quantize": {"weight_bits": point["weight_bits"], "activation_bits": 32 if point["weight_bits"] == 16 else 8}},
    ]


RECORDING = Recording(
    "resnet20",
    str(ROOT / "experiments/resnet20_cifar10.yaml"),
    (
        "data.splits.search={from: train, take: 500}",
        "data.splits.report={from: validation, take: 500}",
        f"devices=[{_DEVICE}]",
        f"objectives=[accuracy, latency_ms@{_DEVICE}, size_bytes]",
    ),
    {
        # The order of recording: each round of it covers the space.
        "scope": {"choice": ["local", "global"]},
        "criterion": {"choice": ["l2", "taylor"]},
        "ratio": {"choice": [0.15, 0.25, 0.35, 0.45, 0.55, 0.65]},
        "weight_bits": {"choice": [4, 8, 16]},
    },
    ("scope", "criterion", "ratio"),
    _recipe,
    f"latency_ms@{_DEVICE}",
    "python experiments/benchmarks/search/record_resnet20.py",
)

if __name__ == "__main__":
    sys.exit(RECORDING.run(None, __doc__))
