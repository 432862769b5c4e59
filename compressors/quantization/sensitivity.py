"""What each weight costs in quality at each bit-width, where it alone is quantized: measured once, on the uncompressed model.

The measure is the mean Kullback-Leibler divergence of the outputs from the uncompressed ones, over calibration data [Cai2020]_: unlike accuracy it changes with
every bit, so that few examples suffice, and small changes of several weights add up in it. Only weights are quantized, to the nearest integers; activations are
left out, and so is what better rounding or training would win back.

.. [Cai2020] Cai et al., ZeroQ: A Novel Zero Shot Quantization Framework, CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compressors.compressor import GraphEdit
from compressors.context import Batch, TrainingData, logits_of
from compressors.errors import CompressionError, DivergedError, UserError
from compressors.evaluating import evaluating
from compressors.graph.factors import stores_inputs_first
from compressors.graph.model_graph import ModelGraph
from compressors.targets.site_spec import CHANNEL, TENSOR, WeightRange
from compressors.targets.storage import effective_granularity
from compressors.targets.target import Target

__all__ = ["BITS", "SENSITIVITY", "SensitivityTable", "criterion_of", "sensitivities"]

SENSITIVITY = "sensitivity:"
"""A score is called this, and how the weights are quantized."""

BITS: tuple[Literal[2, 3, 4, 8], ...] = (2, 3, 4, 8)
"""Columns of the table."""

_TARGET = "target:"
_FEWEST, _MOST = 16, 256
_WORK = 4e12
"""Multiply-accumulates that a table takes, where that allows any examples at all: some two minutes of a server's core."""
_OUTPUTS = 2**24
"""Elements of outputs that are kept to compare with."""
_BATCH = 16


def criterion_of(granularity: str | int, *, symmetric: bool, weight_range: WeightRange) -> str:
    """The name of the score for weights that are quantized so; ``granularity`` as in ``Quantize``."""
    return f"{SENSITIVITY}{granularity}:{'symmetric' if symmetric else 'asymmetric'}:{weight_range}"


@dataclass(frozen=True, slots=True)
class SensitivityTable:
    """A score of this kind, read.

    Attributes:
        target: the runtime that it is for.
        examples: that it was measured on.
        losses: by the name of the site, ``[BITS]`` divergences in nats; NaN where the runtime's format does not store that width, infinite where the outputs
            were not finite.
    """

    target: str
    examples: int
    losses: Mapping[str, NDArray[np.float64]]

    @classmethod
    def from_scores(cls, scores: Mapping[str, NDArray[np.float64]]) -> Self:
        """Of what ``sensitivities`` returned."""
        (about,) = (name for name in scores if name.startswith(_TARGET))
        return cls(about.removeprefix(_TARGET), int(scores[about][0]), {name: values for name, values in scores.items() if name != about})


def _is_stored(target: Target, bits: int, *, operator: str, granularity: int) -> bool:
    """Whether the format stores this width as such, and not in a wider container."""
    try:
        return target.container_bits(bits, operator=operator, granularity=granularity) == bits
    except CompressionError:
        return False


def sensitivities(model: nn.Module, graph: ModelGraph, criterion: str, data: TrainingData | None, target: Target) -> dict[str, NDArray[np.float64]]:
    """The table of one way to quantize, as a score: see ``SensitivityTable``. The model is left as it was.

    Where the labels are no classes of the model's outputs, the measure is the mean squared change of the outputs over their variance.

    Args:
        model: the traced, uncompressed model.
        graph: its trace.
        criterion: from ``criterion_of``.
        data: its first 16 to 256 calibration examples are read, by how much they cost.
        target: says which widths there are.

    Raises:
        UserError: there are no data.
        DivergedError: the uncompressed outputs are not finite.
    """
    # torchao takes a second to import; whoever only names the score does not wait for it.
    from compressors.quantization.quantizer import WeightQuantizer

    if data is None:
        raise UserError("quantize: mixed is decided by what each weight costs on calibration data; pass data= with batches, steps, loss and score")
    size, signs, method = criterion.removeprefix(SENSITIVITY).split(":")
    granularity = int(size) if size.isdigit() else {"tensor": TENSOR, "channel": CHANNEL}[size]
    whole = GraphEdit.identity(graph)
    effective = effective_granularity(graph, replace(whole, granularity=np.full(len(graph.sites), granularity)).shapes(graph))[0]
    widths = {
        site.name: [bits for bits in BITS if _is_stored(target, bits, operator=site.operator, granularity=int(effective[i]))]
        for i, site in enumerate(graph.sites)
    }
    runs = 1 + sum(map(len, widths.values()))
    compare = _Comparison(model, data, int(np.clip(_WORK / (max(graph.macs, 1) * runs), _FEWEST, _MOST)))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    found: dict[str, NDArray[np.float64]] = {f"{_TARGET}{target.name}": np.array([float(compare.examples)])}
    for site in graph.sites:
        weight = parameters[site.name]
        turned = stores_inputs_first(model.get_submodule(site.module))
        before = weight.data
        values = (before.t() if turned else before).float()
        row = np.full(len(BITS), np.nan)
        try:
            for bits in widths[site.name]:
                quantizer = WeightQuantizer(site.name, bits, granularity, signs == "symmetric", cast("WeightRange", method))
                quantizer.set_parameters(*quantizer.parameters_for(values))
                rounded = quantizer.fake_quantize(values)
                weight.data = (rounded.t() if turned else rounded).to(before.dtype)
                row[BITS.index(bits)] = compare(model)
        finally:
            weight.data = before
        found[site.name] = row
    return found


class _Comparison:
    """Calibration examples with the outputs of a model on them; called with a changed model, how far its outputs are away."""

    def __init__(self, model: nn.Module, data: TrainingData, examples: int) -> None:
        self._device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self._known: list[tuple[Batch, Tensor, bool]] = []
        self.examples, kept = 0, 0
        for batch in _first(data, examples):
            outputs = self._run(model, batch)
            if not torch.isfinite(outputs).all():
                raise DivergedError("the model's outputs on calibration data are not finite")
            labels = batch.labels
            classes = labels.shape == outputs.shape[:-1] and not labels.is_floating_point() and outputs.shape[-1] > 1
            if classes:
                outputs = outputs[labels.to(self._device) >= 0].log_softmax(-1)
            self._known.append((batch, outputs, classes))
            self.examples += len(labels)
            kept += outputs.numel()
            if kept >= _OUTPUTS:
                break
        if not self._known:
            raise UserError("quantize: the calibration split is empty; mixed is decided by what each weight costs on it")

    def __call__(self, model: nn.Module) -> float:
        """Not negative; infinite where outputs are not finite."""
        away = size = 0.0
        for batch, expected, classes in self._known:
            outputs = self._run(model, batch)
            if classes:
                found = outputs[batch.labels.to(self._device) >= 0].log_softmax(-1)
                away += float((expected.exp() * (expected - found)).sum())
                size += len(expected)
            else:
                away += float((expected - outputs).square().sum())
                size += float((expected - expected.mean()).square().sum())
        return max(away / size, 0.0) if size and np.isfinite(away) else (0.0 if away == 0 else np.inf)

    def _run(self, model: nn.Module, batch: Batch) -> Tensor:
        with torch.no_grad(), evaluating(model):
            outputs: Any = model(**batch.to(self._device).inputs)
        # What 8 bits change is smaller than the rounding of sums of 32-bit floats.
        return logits_of(outputs).double()


def _first(data: TrainingData, examples: int) -> Iterator[Batch]:
    for batch in data.batches("calibration", batch_size=_BATCH):
        yield Batch({name: value[:examples] for name, value in batch.inputs.items()}, batch.labels[:examples])
        examples -= len(batch.labels)
        if examples <= 0:
            return
