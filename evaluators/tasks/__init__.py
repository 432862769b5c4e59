"""Tasks: data, preprocessing, loss and metrics."""

from evaluators.tasks.making import make_task, quality_metrics
from evaluators.tasks.specification import DataSpec, Preprocessing, SplitSpec, Workload
from evaluators.tasks.task import SPLITS, Predict, Task

__all__ = ["SPLITS", "DataSpec", "Predict", "Preprocessing", "SplitSpec", "Task", "Workload", "make_task", "quality_metrics"]
