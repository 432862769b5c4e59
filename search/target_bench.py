"""``search/bench.py`` for runtimes that it does not know: those of ``compareto.targets``, which need this installation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from compressors.targets import Session, target_named
from search import bench

__all__ = ["TargetModel"]


class TargetModel:
    """A model file behind what ``bench.py`` calls.

    Args:
        path: the file.
        runtime: name of its target.
        threads: within an operator; 0 is the runtime's choice.
        provider: only ``cpu``.
        artifact: whose experiment builds the architecture of a checkpoint; None where the file itself names it.
    """

    def __init__(self, path: Path, runtime: str, threads: int, provider: str, artifact: Path | None = None) -> None:
        bench.only_cpu(provider, path)
        self._session = _checkpoint(path, artifact, threads) if runtime == "torch" and artifact is not None else target_named(runtime).load(path, threads)
        self.runtime, self.provider = runtime, "CPU"

    def run(self, inputs: dict[str, Any]) -> Any:
        """Logits."""
        return np.asarray(self._session(inputs)["logits"])


def _checkpoint(path: Path, artifact: Path, threads: int) -> Session:
    import torch

    from compressors.checkpoint import load
    from evaluators.models import load_model
    from evaluators.tasks import make_task
    from evaluators.tasks.array_task import module_predict
    from search.artifact import Artifact

    if threads:
        torch.set_num_threads(threads)
    experiment = Artifact.load(artifact).experiment()
    task = make_task(experiment.data, experiment.model, experiment.workload, experiment.folder)
    predict: Any = module_predict(load(path.parent, load_model(experiment.model, experiment.folder, task)))
    return predict  # type: ignore[no-any-return]


def main() -> None:
    """``bench.py`` with the runtime's name and the artifact's folder in front of its arguments."""
    runtime, artifact = sys.argv.pop(1), Path(sys.argv.pop(1))
    bench.COMMAND[:] = ["-m", "search.target_bench", runtime, str(artifact)]
    bench.open_model = lambda path, threads=1, provider="cpu", **_: TargetModel(path, runtime, threads, provider, artifact)
    bench.main()


if __name__ == "__main__":
    main()
