"""1,536 recipes of the quickstart's CNN, each really trained and evaluated once: the table that ``recorded.py`` replays searches on.

Three groups of channels are pruned apart; criterion and learning rate are what costs do not see; two bit-widths are late variants of one training.

python experiments/benchmarks/search/record_digits.py [--minutes 3]    # goes on where it was left; the last run writes the table
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

_LEVELS = [0.0, 0.35, 0.6, 0.8]


def _recipe(point: dict[str, Any]) -> list[dict[str, Any]]:
    layers = {"stem*": point["early"], "body.0*": point["early"], "body.1*": point["middle"], "body.2*": point["late"]}
    return [
        {"prune": {"criterion": point["criterion"], "layers": layers}},
        {"distill": {"epochs": 6, "temperature": 4.0, "alpha": 0.5, "learning_rate": point["learning_rate"]}},
        {"quantize": {"weight_bits": point["weight_bits"], "activation_bits": point["activation_bits"]}},
    ]


RECORDING = Recording(
    "digits",
    "quickstart",
    (),
    {
        "early": {"choice": _LEVELS},
        "middle": {"choice": _LEVELS},
        "late": {"choice": _LEVELS},
        "criterion": {"choice": ["l2", "taylor"]},
        "learning_rate": {"choice": [0.001, 0.005]},
        "weight_bits": {"choice": [4, 8, 16]},
        "activation_bits": {"choice": [8, 32]},
    },
    ("early", "middle", "late", "criterion", "learning_rate"),
    _recipe,
    "latency_ms@raspberry-pi-5/onnxruntime",
    "python experiments/benchmarks/search/record_digits.py",
)

if __name__ == "__main__":
    sys.exit(RECORDING.run(None, __doc__))
