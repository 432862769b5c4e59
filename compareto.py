"""compareto: the Pareto front of quality against latency, size, memory and energy of a compressed neural network.

This module is the public API. Names load on first use, so that ``import compareto`` stays lean::

    import compareto as cp

    results = cp.Study(cp.Experiment.load("quickstart")).run()
    front = results.front("accuracy", "latency_ms@raspberry-pi-5")  # a pandas DataFrame
    graph = cp.trace(model, example_inputs)  # any nn.Module
    smaller = cp.compress(model, recipe, example_inputs, data=None)  # a Recipe or its plain list
    cp.save(smaller, folder)
    cp.load(folder)
    searcher = cp.optimizer("auto", space, costs)  # ask and tell, for a problem of one's own
    predict = cp.load_artifact(folder)  # raw inputs to outputs, in the artifact's runtime
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from compressors.errors import (
    ComparetoError,
    CompressionError,
    DivergedError,
    OutOfMemoryError,
    StorageError,
    TraceError,
    TrialError,
    UnexportableError,
    UserError,
)

if TYPE_CHECKING:
    from compressors.checkpoint import load, save
    from compressors.graph import trace
    from compressors.pipeline import compress
    from compressors.recipe import Recipe
    from search.algorithms.optimizer import optimizer
    from search.experiment import Experiment
    from search.load_artifact import load_artifact
    from search.results import Results
    from search.study import Study

__all__ = [
    "ComparetoError",
    "CompressionError",
    "DivergedError",
    "Experiment",
    "OutOfMemoryError",
    "Recipe",
    "Results",
    "StorageError",
    "Study",
    "TraceError",
    "TrialError",
    "UnexportableError",
    "UserError",
    "compress",
    "load",
    "load_artifact",
    "optimizer",
    "save",
    "trace",
]

_LAZY = {
    "Experiment": "search.experiment",
    "Recipe": "compressors.recipe",
    "Results": "search.results",
    "Study": "search.study",
    "compress": "compressors.pipeline",
    "load": "compressors.checkpoint",
    "load_artifact": "search.load_artifact",
    "optimizer": "search.algorithms.optimizer",
    "save": "compressors.checkpoint",
    "trace": "compressors.graph",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'compareto' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
