"""What each task's models are judged by. Loads nothing: names, units and directions only; ``evaluators.tasks.measures`` computes them."""

from __future__ import annotations

from collections.abc import Sequence

from compressors.errors import UserError, near_miss
from evaluators.devices.device_model import PREDICTED
from evaluators.metric import EXACT, Metric
from evaluators.model_spec import ModelSpec
from evaluators.tasks.part_errors import told_of
from evaluators.tasks.specification import DataSpec, MeanMetric, MetricSpec, OwnMetric

__all__ = ["ACCURACY", "AVERAGE", "LOSS", "METRICS", "PERPLEXITY", "QUALITY", "part_metric", "quality_metrics"]

AVERAGE = "average"
"""The unweighted mean of the main metrics of several parts."""


def _more(name: str) -> Metric:
    return Metric(name, "", "max", "observed")


def _less(name: str, unit: str = "") -> Metric:
    return Metric(name, unit, "min", "observed")


ACCURACY = _more("accuracy")
LOSS = _less("loss", "nats")
PERPLEXITY = _less("perplexity")
_ERROR = _less("loss")

METRICS: dict[str, tuple[Metric, ...]] = {
    "classification": (ACCURACY, *map(_more, ("f1", "f1_macro", "precision_macro", "recall_macro", "matthews", "balanced_accuracy")), LOSS),
    "multi-label": (*map(_more, ("f1_micro", "f1_macro", "subset_accuracy")), LOSS),
    "regression": (_less("mse"), _less("mae"), *map(_more, ("r2", "pearson", "spearman")), _ERROR),
    "token-classification": (ACCURACY, _more("f1_macro"), LOSS),
    "image-to-image": (Metric("psnr", "dB", "max", "observed"), _more("ssim"), _less("mse"), _ERROR),
    "causal-lm": (PERPLEXITY, _more("rouge_l"), _more("bleu"), LOSS),
    "seq2seq": (PERPLEXITY, *map(_more, ("rouge_l", "bleu", "exact_match")), LOSS),
}
"""By what a model's outputs are; the first is the main one where an experiment names none."""

_EVERY = (*{m.name: m for metrics in METRICS.values() for m in metrics if m.name != "loss"}.values(), _ERROR)

_OTHERS = (AVERAGE, "baseline", *EXACT, *PREDICTED)
"""Names that are no task's."""

QUALITY = {kind: (metrics[0], metrics[-1]) for kind, metrics in METRICS.items()} | {
    f"{what}-{kind}": (METRICS[kind][0], METRICS[kind][-1])
    for what in ("image", "text", "series", "audio")
    for kind in ("classification", "multi-label", "regression")
}
"""By task, where an experiment names no metrics; the main one first."""


def quality_metrics(model: ModelSpec, data: DataSpec) -> tuple[Metric, ...]:
    """The metrics of the task that ``model`` and ``data`` mean, the main one first, the loss always the last. Loads nothing.

    Of data of several parts the first is their average, then follow each part's own.

    Raises:
        UserError: a metric that does not fit the task, one that is named twice or like another; parts whose main metrics have no average, or that are named
            like a metric.
    """
    if data.parts is not None:
        return _of_parts(model, data)
    if model.own_task is not None:
        if not data.metrics:
            raise UserError(f"data.metrics: missing; the task {model.task!r} is your own, and nothing says what its models are judged by")
        known: Sequence[Metric] = _EVERY
    else:
        known = METRICS[model.kind]
        if not data.metrics:
            return QUALITY[model.task]
    found = [_metric(spec, known, model.task) for spec in data.metrics]
    names = [metric.name for metric in found]
    # A task of one's own may compute any of these itself.
    reserved = (*_OTHERS, *(metric.name for metric in _EVERY if model.own_task is None))
    shadowing = next((metric.name for metric, spec in zip(found, data.metrics, strict=True) if not isinstance(spec, str) and metric.name in reserved), None)
    if shadowing is not None:
        raise UserError(f"data.metrics: the name {shadowing!r} has a meaning already; accepted: name: any other than {', '.join(reserved)}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"data.metrics: {twice!r} is named twice")
    last = known[-1]
    return tuple(metric for metric in found if metric.name != last.name or metric is found[0]) + ((last,) if found[0].name != last.name else ())


def _metric(spec: MetricSpec, known: Sequence[Metric], task: str) -> Metric:
    if isinstance(spec, OwnMetric):
        return Metric(spec.named, spec.unit, spec.direction, "observed")
    if isinstance(spec, MeanMetric):
        if "loss" in spec.mean:
            raise UserError(f"data.metrics: the mean {spec.name!r} has the loss in it; accepted: {', '.join(m.name for m in known if m.name != 'loss')}")
        parts = [_metric(part, known, task) for part in spec.mean]
        if len({(part.direction, part.unit) for part in parts}) > 1:
            raise UserError(f"data.metrics: a mean of {', '.join(part.name for part in parts)} has no direction; accepted: metrics of one direction and unit")
        return Metric(spec.name, parts[0].unit, parts[0].direction, "observed")
    metric = next((metric for metric in known if metric.name == spec), None)
    if metric is None:
        accepted = [metric.name for metric in known]
        hint = "{function: FILE.py:FUNCTION, direction: max}"
        raise UserError(f"data.metrics: {spec!r} does not fit {task}; accepted: {', '.join([*accepted, hint])}{near_miss(spec, accepted)}")
    return metric


def part_metric(part: str, metric: str) -> str:
    """The name of a part's metric."""
    return f"{part}.{metric}"


def _of_parts(model: ModelSpec, data: DataSpec) -> tuple[Metric, ...]:
    taken = {*_OTHERS, *(metric.name for metric in _EVERY)}
    found: dict[str, tuple[Metric, ...]] = {}
    for part, spec in data.each.items():
        with told_of(part):
            found[part] = quality_metrics(model, spec)
    for part in found:
        if part in taken | {metric.name for metrics in found.values() for metric in metrics}:
            raise UserError(f"data.parts.{part}: {part!r} is the name of a metric; accepted: any other name")
    mains = {part: metrics[0] for part, metrics in found.items()}
    (one, first), *others = mains.items()
    for part, metric in others:
        if (metric.direction, metric.unit) != (first.direction, first.unit):
            kinds = " and ".join(f"{m.name} of {name} ({m.direction}{f', {m.unit}' if m.unit else ''})" for name, m in ((one, first), (part, metric)))
            accepted = "main metrics of one direction and unit; the first of a part's metrics is its main one"
            raise UserError(f"data.parts.{part}.metrics: {kinds} have no average; accepted: {accepted}")
    like = first.name if {metric.name for metric in mains.values()} == {first.name} else ""
    average = Metric(AVERAGE, first.unit, first.direction, "observed", like)
    own = (Metric(part_metric(part, m.name), m.unit, m.direction, m.knowledge, m.name) for part, metrics in found.items() for m in metrics)
    return (average, *own)
