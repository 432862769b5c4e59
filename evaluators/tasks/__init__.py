"""Tasks: data, preprocessing, loss and metrics. What makes one is loaded where it is used: naming their metrics needs no torch."""

from typing import TYPE_CHECKING, Any

from evaluators.tasks.quality import quality_metrics
from evaluators.tasks.specification import DataSpec, Preprocessing, SplitSpec, Workload
from evaluators.tasks.task import SPLITS, Predict, Task

if TYPE_CHECKING:
    from evaluators.tasks.making import make_task

__all__ = ["SPLITS", "DataSpec", "Predict", "Preprocessing", "SplitSpec", "Task", "Workload", "make_task", "quality_metrics"]


def __getattr__(name: str) -> Any:
    if name != "make_task":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from evaluators.tasks.making import make_task

    return make_task
