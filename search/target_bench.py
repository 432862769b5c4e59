"""``search/bench.py`` for runtimes that it does not know: those of ``compareto.targets``, which need this installation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from compressors.targets import target_named
from search import bench

__all__ = ["TargetModel"]


class TargetModel:
    """A model file behind what ``bench.py`` calls.

    Args:
        path: the file.
        runtime: name of its target.
        threads: within an operator; 0 is the runtime's choice.
        provider: only ``cpu``.
    """

    def __init__(self, path: Path, runtime: str, threads: int, provider: str) -> None:
        bench.only_cpu(provider, path)
        self._session = target_named(runtime).load(path, threads)
        self.runtime, self.provider = runtime, "CPU"

    def run(self, inputs: dict[str, Any]) -> Any:
        """Logits."""
        return np.asarray(self._session(inputs)["logits"])


def main() -> None:
    """``bench.py`` with the runtime's name in front of its arguments."""
    runtime = sys.argv.pop(1)
    bench.COMMAND[:] = ["-m", "search.target_bench", runtime]
    bench.open_model = lambda path, threads=1, provider="cpu": TargetModel(path, runtime, threads, provider)
    bench.main()


if __name__ == "__main__":
    main()
