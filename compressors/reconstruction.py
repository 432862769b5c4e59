"""Layer-wise reconstruction: the layers of a pruned model get the weights that best reproduce what the original layers gave [He2017]_.

No labels and no gradients: one layer after the other, on what the layers before it now give, by least squares over calibration data.

.. [He2017] He et al., Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional

from compressors.compressor import STEP_CONFIG, Compressor, GraphEdit
from compressors.context import Context, TrainingData
from compressors.errors import CompressionError
from compressors.graph.factors import Factorised, stores_inputs_first
from compressors.graph.model_graph import ModelGraph
from compressors.graph.region_scorer import with_scorer_of
from compressors.graph.surgery import dim_mask
from compressors.sizing import in_scorer

__all__ = ["Reconstruct"]


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class Reconstruct(Compressor):
    """Fit every layer that was cut or factorised to the outputs of the original one; of a factorised layer, the second factor.

    Layers that share their weight and those whose zeros have to stay are left as they are.

    Attributes:
        samples: calibration examples; all where there are fewer.
        ridge: how much the weights are held where they are, as a fraction of the mean square of the layer's inputs.
        include, exclude: patterns of layers or their weights.
    """

    name: ClassVar[str] = "reconstruct"

    samples: Annotated[int, pydantic.Field(gt=0)] = 512
    ridge: Annotated[float, pydantic.Field(gt=0)] = 1e-3

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:  # noqa: ARG002 - the model is already cut
        """A copy with other weights; how far each layer was from the original before and after is logged. See ``Compressor.apply``."""
        if context.data is None or context.teacher is None:
            raise CompressionError(f"{self.name} needs calibration data and the uncompressed model; pass data")
        student = copy.deepcopy(model).to(context.device).eval()
        original = with_scorer_of(context.original or context.teacher, student).to(context.device).eval()
        layers = list(self._layers(student, original, context.graph))
        for layer in layers:
            before, after = self._fit(layer, student, original, context.data, context.device)
            context.log(f"{self.name}: {layer.path}: squared error {before:.4f} -> {after:.4f} of the original outputs")
        if not layers:
            context.log(f"{self.name}: no layer was cut, nothing to do")
        return student

    def _layers(self, student: nn.Module, original: nn.Module, graph: ModelGraph) -> Iterator[_Layer]:
        ours, theirs = dict(student.named_modules()), dict(original.named_modules())
        structure: Mapping[str, Any] = getattr(student, "compareto_structure", None) or {}
        uses: dict[int, int] = {}
        for _, parameter in student.named_parameters(remove_duplicate=False):
            uses[id(parameter)] = uses.get(id(parameter), 0) + 1
        for i in graph.select_sites(self.include, self.exclude):
            site = graph.sites[i]
            module, before = ours.get(site.module), theirs.get(site.module)
            if module is None or before is None or site.operator == "embedding" or site.name in structure.get("sparse", {}):
                continue
            if in_scorer(site.module):
                # Both models look where the student does.
                continue
            solved = module.second if isinstance(module, Factorised) else module
            weight = getattr(solved, "weight", None)
            if not isinstance(weight, Tensor) or uses.get(id(weight), 1) > 1 or not _solvable(solved):
                continue
            if isinstance(module, Factorised) or weight.shape != before.get_parameter("weight").shape:
                dim = 1 if stores_inputs_first(before) else 0
                yield _Layer(site.module, solved, _kept(structure, site.name, dim, before.get_parameter("weight").shape[dim]))

    def _fit(self, layer: _Layer, student: nn.Module, original: nn.Module, data: TrainingData, device: torch.device) -> tuple[float, float]:
        """Set the weight (and bias) in place; the relative squared error before and after."""
        normal, cross, squares = None, None, 0.0
        for inputs in _inputs(data, self.samples, device):
            x = _rows(layer.module, _stopped(student, layer.module, inputs, entering=True))
            y = _outputs(_stopped(original, original.get_submodule(layer.path), inputs, entering=False), layer)
            # In double: squares of the inputs of a layer span many orders.
            x, y = x.double(), y.double()
            gram, product = x.transpose(1, 2) @ x, x.transpose(1, 2) @ y
            normal, cross = (gram, product) if normal is None or cross is None else (normal + gram, cross + product)
            squares += float(y.square().sum())
        if normal is None or cross is None or squares == 0:
            return 0.0, 0.0
        current = _matrix(layer.module).double()
        held = self.ridge * normal.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(normal.shape[1], dtype=torch.float64, device=normal.device)
        found = current + torch.linalg.solve(normal + held, cross - normal @ current)
        if not torch.isfinite(found).all():
            raise CompressionError(f"{self.name}: {layer.path}: the least squares have no finite solution; accepted: a larger ridge")
        _set(layer.module, found.to(next(layer.module.parameters()).dtype))
        errors = [float((m * (normal @ m)).sum() - 2 * (m * cross).sum()) + squares for m in (current, found)]
        return max(0.0, errors[0]) / squares, max(0.0, errors[1]) / squares


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer to fit: its path in both models, the module of the student, and which of the original's outputs it has."""

    path: str
    module: nn.Module
    kept: Tensor


class _ReachedError(Exception):
    """Ends a forward pass where what is wanted is known."""


def _solvable(module: nn.Module) -> bool:
    plain = type(module) in (nn.Linear, nn.Conv1d, nn.Conv2d) or stores_inputs_first(module)
    return plain and getattr(module, "padding_mode", "zeros") == "zeros" and not isinstance(getattr(module, "padding", 0), str)


def _kept(structure: Mapping[str, Any], weight: str, dim: int, size: int) -> Tensor:
    """Which of the original's outputs are left."""
    masks = {}
    for name, units in structure.get("kept", {}).items():
        masks[name] = np.zeros(structure["sizes"][name], dtype=np.bool_)
        masks[name][units] = True
    for parameter, where, segments in structure.get("dims", ()):
        if (parameter, where) == (weight, dim):
            return torch.from_numpy(np.flatnonzero(dim_mask(segments, masks)))
    return torch.arange(size)


def _inputs(data: TrainingData, samples: int, device: torch.device) -> Iterator[dict[str, Tensor]]:
    left = samples
    for batch in data.batches("calibration"):
        if left <= 0:
            return
        yield {name: value[:left].to(device) for name, value in batch.inputs.items()}
        left -= len(batch.labels)


def _stopped(model: nn.Module, module: nn.Module, inputs: Mapping[str, Tensor], *, entering: bool) -> Tensor:
    """What enters a module, or leaves it, when the model is called."""
    found: list[Tensor] = []

    def stop(tensor: Tensor) -> None:
        found.append(tensor)
        raise _ReachedError

    before: Callable[..., None] = lambda module, arguments: stop(arguments[0])  # noqa: E731, ARG005 - torch's signature
    behind: Callable[..., None] = lambda module, arguments, output: stop(output)  # noqa: E731, ARG005
    hook = module.register_forward_pre_hook(before) if entering else module.register_forward_hook(behind)
    try:
        with torch.no_grad():
            model(**inputs)
    except _ReachedError:
        pass
    finally:
        hook.remove()
    if not found:
        raise CompressionError(f"reconstruct: {type(module).__name__} is not called")
    return found[0]


def _rows(module: nn.Module, x: Tensor) -> Tensor:
    """``[groups, rows, inputs + 1]``: of every place, what the kernel covers, and a one for the bias."""
    layer: Any = module
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        pair = (lambda v: (1, v[0])) if isinstance(module, nn.Conv1d) else tuple
        image = x.unsqueeze(2) if isinstance(module, nn.Conv1d) else x
        padding = (0, layer.padding[0]) if isinstance(module, nn.Conv1d) else layer.padding
        patches = functional.unfold(image, pair(layer.kernel_size), pair(layer.dilation), padding, pair(layer.stride))
        rows = patches.transpose(1, 2).reshape(-1, layer.groups, patches.shape[1] // layer.groups).transpose(0, 1)
    else:
        rows = x.reshape(1, -1, x.shape[-1])
    return rows if layer.bias is None else torch.cat([rows, rows.new_ones(*rows.shape[:2], 1)], dim=2)


def _outputs(y: Tensor, layer: _Layer) -> Tensor:
    """``[groups, rows, outputs]`` that are left, in the order of ``_rows``."""
    groups = getattr(layer.module, "groups", 1)
    flat = y.flatten(2).transpose(1, 2).flatten(0, 1) if isinstance(layer.module, (nn.Conv1d, nn.Conv2d)) else y.reshape(-1, y.shape[-1])
    kept = flat[:, layer.kept.to(flat.device)]
    return kept.reshape(len(kept), groups, -1).transpose(0, 1)


def _matrix(module: nn.Module) -> Tensor:
    """``[groups, inputs + 1, outputs]`` of the weight and the bias."""
    layer: Any = module
    groups = getattr(layer, "groups", 1)
    weight = layer.weight.detach()
    rows = weight[None] if stores_inputs_first(module) else weight.reshape(groups, weight.shape[0] // groups, -1).transpose(1, 2)
    return rows if layer.bias is None else torch.cat([rows, layer.bias.detach().reshape(groups, 1, -1)], dim=1)


def _set(module: nn.Module, matrix: Tensor) -> None:
    layer: Any = module
    with torch.no_grad():
        if layer.bias is not None:
            layer.bias.copy_(matrix[:, -1].reshape(-1))
            matrix = matrix[:, :-1]
        layer.weight.copy_(matrix[0] if stores_inputs_first(module) else matrix.transpose(1, 2).reshape(layer.weight.shape))
