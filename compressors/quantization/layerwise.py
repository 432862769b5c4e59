"""Better rounding and bias correction of a prepared graph, layer by layer in the order of execution.

Two streams of the calibration data go through the graph side by side, node by node: one of the float model, one where everything before is quantized already.
Each layer's weight is decided on what arrives there, and changed in place so that its frozen quantizer rounds it to what was decided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor, fx

from compressors.errors import UserError
from compressors.quantization.adaround import adaround
from compressors.quantization.bias_correction import mean_shift
from compressors.quantization.gptq import gptq
from compressors.quantization.grid import Grid
from compressors.quantization.layer_rows import LayerRows, rows_of
from compressors.quantization.quantizer import SiteQuantizer, WeightQuantizer
from compressors.targets.exported import signature_of
from compressors.targets.graph_tensors import attribute
from compressors.targets.site_spec import SiteMethod

__all__ = ["FEWEST_EXAMPLES", "MOST_EXAMPLES", "MOST_ROWS", "refine"]

FEWEST_EXAMPLES = 8
"""What was decided on fewer examples, ranges too, says nothing about others."""
MOST_EXAMPLES = 512
MOST_ROWS = 8192
"""Of inputs that one layer's rounding is decided on."""
_MOST_BYTES = 2**30
"""Of activations that are held at a time; fewer examples are read where it would be more."""
_BETTER_BELOW = 8
"""Bits from which on nearest rounding is as good."""
_RECTIFIERS = ("aten.relu.default", "aten.relu_.default")

Inputs = Mapping[str, Tensor]


def refine(module: fx.GraphModule, methods: Mapping[str, SiteMethod], batches: Iterable[Inputs], *, seed: int, log: Callable[[str], None]) -> None:
    """Decide the weights and biases of a prepared graph whose quantizers are frozen, in place.

    Args:
        module: what ``capture`` returned, prepared.
        methods: by the key of a weight's quantizer; sites of nearest rounding without bias correction are left as they are.
        batches: one pass over the calibration data; no more than ``MOST_EXAMPLES`` are read.
        seed: of the rows and the steps that are drawn.
        log: receives what was done, and what could not be.

    Raises:
        UserError: too few examples, or all of them are equal.
        DivergedError: inputs of a layer are not finite.
    """
    quantizers = [part for part in module.modules() if isinstance(part, WeightQuantizer)]
    if not any(_asked(methods.get(quantizer.key, SiteMethod()), quantizer) for quantizer in quantizers):
        return
    walk = _Walk(module, methods, seed)
    with torch.no_grad():
        walk.run(_examples(walk, batches))
    for line in walk.report():
        log(line)


def _examples(walk: _Walk, batches: Iterable[Inputs]) -> list[Inputs]:
    """As many as fit, in the batches that they come in."""
    kept: list[Inputs] = []
    count, most = 0, MOST_EXAMPLES
    for batch in batches:
        size = len(next(iter(batch.values())))
        if not kept:
            most = min(most, max(FEWEST_EXAMPLES, int(_MOST_BYTES / 2 / walk.peak_bytes(batch) * size)))
        kept.append({name: value[: most - count] for name, value in batch.items()})
        count += min(size, most - count)
        if count >= most:
            break
    if count < FEWEST_EXAMPLES:
        raise UserError(
            f"quantize: better rounding and bias correction read the calibration split, which has {count} examples; accepted: {FEWEST_EXAMPLES} or more"
        )
    first = {name: value[:1] for name, value in kept[0].items()}
    if all(bool((value == first[name]).all()) for batch in kept for name, value in batch.items()):
        raise UserError(f"quantize: the {count} examples of the calibration split are all equal; accepted: examples like those that the model will see")
    return kept


def _asked(method: SiteMethod, quantizer: WeightQuantizer) -> bool:
    """Whether anything is to be done to a layer."""
    return method.bias_correction or (method.rounding != "nearest" and quantizer.bits < _BETTER_BELOW)


@dataclass(slots=True)
class _Layer:
    """A layer that is being decided."""

    node: fx.Node
    rows: LayerRows
    quantizer: WeightQuantizer
    weight: Tensor
    method: SiteMethod


@dataclass(slots=True)
class _Walk:
    module: fx.GraphModule
    methods: Mapping[str, SiteMethod]
    seed: int
    exact: dict[fx.Node, list[Any]] = field(default_factory=dict)
    rounded: dict[fx.Node, list[Any]] = field(default_factory=dict)
    masks: list[Tensor] | None = None
    errors: dict[str, list[float]] = field(default_factory=dict)
    corrected: int = 0
    left: Counter[str] = field(default_factory=Counter)
    moments: tuple[fx.Node, Tensor] | None = None

    def peak_bytes(self, batch: Inputs) -> int:
        """Of the activations of the float model that are alive at a time."""
        peak = 1
        for _ in self._steps([batch], float_only=True):
            alive = {id(value): value for values in self.exact.values() for value in values if isinstance(value, Tensor)}
            peak = max(peak, sum(value.numel() * value.element_size() for value in alive.values()))
        return peak

    def run(self, batches: list[Inputs]) -> None:
        masks = [batch["attention_mask"] for batch in batches if "attention_mask" in batch]
        # What stands in padded places is nobody's input.
        self.masks = masks if len(masks) == len(batches) and all(mask.dim() == 2 for mask in masks) else None
        for node in self._steps(batches):
            layer = self._layer(node)
            if layer is None:
                continue
            if layer.method.rounding != "nearest" and layer.quantizer.bits < _BETTER_BELOW:
                self._round(layer)
            if layer.method.bias_correction:
                self._correct(layer)

    def report(self) -> Iterator[str]:
        """Plain lines."""
        for rounding, errors in self.errors.items():
            yield f"quantize: {rounding}: {len(errors)} layers; squared error of their outputs {median(errors):.2f} of that of nearest rounding (median)"
        if self.corrected:
            yield f"quantize: bias correction: {self.corrected} layers"
        for reason, count in self.left.items():
            yield f"quantize: {count} layers {reason}"

    def _steps(self, batches: list[Inputs], *, float_only: bool = False) -> Iterator[fx.Node]:
        """Run both streams node by node; values that nobody reads any more are let go."""
        self.exact.clear()
        self.rounded.clear()
        last: dict[fx.Node, fx.Node] = {}
        for node in self.module.graph.nodes:
            last |= dict.fromkeys(node.all_input_nodes, node)
        done: dict[fx.Node, list[fx.Node]] = {}
        for node, reader in last.items():
            done.setdefault(reader, []).append(node)
        arguments = [iter(signature_of(self.module, batch).arguments(batch)) for batch in batches]
        for node in self.module.graph.nodes:
            given = [next(each) for each in arguments] if node.op == "placeholder" else None
            for stream, quantized in ((self.exact, False), *([] if float_only else [(self.rounded, True)])):
                # Operators in place must not reach the other stream, nor the caller's data.
                stream[node] = self._values(node, stream, len(batches), quantized) if given is None else [value.clone() for value in given]
            yield node
            for gone in done.get(node, ()):
                self.exact.pop(gone, None)
                self.rounded.pop(gone, None)

    def _values(self, node: fx.Node, stream: Mapping[fx.Node, list[Any]], batches: int, quantized: bool) -> list[Any]:
        if node.op == "output":
            return []
        if node.op == "get_attr":
            return [attribute(self.module, str(node.target))] * batches
        called = self.module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(called, SiteQuantizer):
            values = stream[node.all_input_nodes[0]]
            if not quantized:
                return values
            return [called.fake_quantize(values[0])] * batches if isinstance(called, WeightQuantizer) else [called.fake_quantize(value) for value in values]
        results = []
        for i in range(batches):
            at = {n: stream[n][i] for n in node.all_input_nodes}
            args, kwargs = fx.map_arg(node.args, at.__getitem__), fx.map_arg(node.kwargs, at.__getitem__)
            function: Any = called or node.target
            results.append(getattr(args[0], function)(*args[1:], **kwargs) if node.op == "call_method" else function(*args, **kwargs))
        return results

    def _layer(self, node: fx.Node) -> _Layer | None:
        """The layer, where its weight is quantized and something is asked of it that can be done."""
        at = next((n for n in node.all_input_nodes if n.op == "call_module" and isinstance(self.module.get_submodule(str(n.target)), WeightQuantizer)), None)
        if at is None or node.op != "call_function":
            return None
        quantizer = self.module.get_submodule(str(at.target))
        assert isinstance(quantizer, WeightQuantizer), "found as one"
        method = self.methods.get(quantizer.key, SiteMethod())
        if not _asked(method, quantizer):
            return None
        weight = attribute(self.module, str(at.all_input_nodes[0].target))
        rows = rows_of(node, weight.shape)
        if rows is None:
            self.left[f"keep nearest rounding: {str(node.target).split('.')[1]} has no rows to decide it on"] += 1
            return None
        if self._readers(weight) > 1:
            self.left["keep nearest rounding: another operator reads their weight, too"] += 1
            return None
        return _Layer(node, rows, quantizer, weight, method)

    def _readers(self, weight: Tensor) -> int:
        nodes = [n for n in self.module.graph.nodes if n.op == "get_attr" and attribute(self.module, str(n.target)) is weight]
        readers = [reader for n in nodes for reader in n.users]
        return sum(len(reader.users) if reader.op == "call_module" else 1 for reader in readers)

    def _round(self, layer: _Layer) -> None:
        matrix = layer.rows.matrix(layer.weight.detach())
        grid = Grid.of(layer.quantizer, layer.weight, tuple(matrix.shape))
        inputs = self._rows(layer.rows.inputs, self.rounded[layer.rows.input]).transpose(0, 1).contiguous()
        bias = matrix.new_zeros(matrix.shape[0] * matrix.shape[1]) if layer.rows.bias is None else self.exact[layer.rows.bias][0].detach()
        targets = self._rows(layer.rows.outputs, self.exact[layer.node]) - bias
        targets = targets.view(-1, *matrix.shape[:2]).transpose(0, 1).contiguous()
        bias, rectified = bias.view(matrix.shape[0], 1, -1), self._rectified(layer.node)

        def error(rounded: Tensor) -> float:
            outputs = [values + bias for values in (inputs @ rounded.transpose(1, 2), targets)]
            found, wanted = (torch.relu(values) for values in outputs) if rectified else outputs
            return float((found - wanted).square().mean())

        if layer.method.rounding == "gptq":
            rounded = gptq(matrix, self._moments(layer, inputs), grid)
        else:
            with torch.enable_grad():
                rounded = adaround(matrix, inputs, targets, grid, bias=bias if rectified else None, seed=self.seed)
        self.errors.setdefault(layer.method.rounding, []).append(error(rounded) / max(error(grid.nearest(matrix)), 1e-30))
        layer.weight.data.copy_(rounded.reshape(layer.weight.shape))
        self._again(layer)

    def _correct(self, layer: _Layer) -> None:
        if layer.rows.bias is None:
            self.left["have no bias that could take up the shift of their outputs"] += 1
            return
        wanted, found = (self._chosen(layer.rows.outputs, stream[layer.node], keep=None) for stream in (self.exact, self.rounded))
        shift = mean_shift(wanted, found)
        bias = attribute(self.module, str(layer.rows.bias.target))
        bias.data += shift.to(bias)
        self.corrected += 1
        self._again(layer)

    def _again(self, layer: _Layer) -> None:
        """Compute the quantized stream once more behind a layer that has changed."""
        batches = len(self.rounded[layer.node])
        self.rounded[layer.rows.weight] = [layer.quantizer.fake_quantize(layer.weight)] * batches
        self.rounded[layer.node] = self._values(layer.node, self.rounded, batches, quantized=True)

    def _moments(self, layer: _Layer, inputs: Tensor) -> Tensor:
        """Of the rows; layers that read the same tensor (queries, keys, values) share them."""
        if self.moments is not None and self.moments[0] is layer.rows.input and not layer.rows.spatial:
            return self.moments[1]
        found = (inputs.transpose(1, 2).double() @ inputs.double()).float()
        self.moments = (layer.rows.input, found)
        return found

    def _rows(self, cut: Callable[[Tensor], Tensor], values: list[Tensor]) -> Tensor:
        """At most ``MOST_ROWS`` rows, the same ones of inputs and outputs."""
        return torch.cat(list(self._chosen(cut, values, keep=MOST_ROWS)))

    def _chosen(self, cut: Callable[[Tensor], Tensor], values: list[Tensor], keep: int | None) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        examples = sum(len(value) for value in values)
        for i, value in enumerate(values):
            rows = cut(value)
            if self.masks is not None and value.dim() == 3 and value.shape[:2] == self.masks[i].shape:
                rows = rows[self.masks[i].flatten().bool()]
            share = len(rows) if keep is None else -(-keep * len(value) // examples)
            yield rows if share >= len(rows) else rows[torch.randperm(len(rows), generator=generator)[:share].to(rows.device)]

    def _rectified(self, node: fx.Node) -> bool:
        return len(node.users) == 1 and str(next(iter(node.users)).target) in _RECTIFIERS
