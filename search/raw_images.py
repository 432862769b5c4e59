"""Models that take images as they are decoded: scale, mean and standard deviation become part of the graph."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from compressors.errors import UserError
from compressors.targets.exported import ExportedModel, capture, fold_batch_norms, takes
from evaluators.tasks.array_task import ArrayTask

__all__ = ["Layout", "as_pixels", "taking_pixels"]

Layout = Literal["nhwc", "nchw"]
"""Order of a batch of pixels: ``[examples, height, width, channels]`` or ``[examples, channels, height, width]``, uint8."""

_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def taking_pixels(model: nn.Module, task: ArrayTask, layout: Layout) -> tuple[nn.Module, dict[str, Tensor]]:
    """``model`` behind the normalisation of ``task``, and inputs to trace it with.

    Pixels times ``scale / std`` minus ``mean / std``: one multiplication and one addition per channel, whatever the target.

    Raises:
        UserError: the inputs of the task are no images.
    """
    if task.name != "image-classification":
        raise UserError(f"--raw-images: the task is {task.name}; accepted: image-classification")
    ((name, example),) = task.example_inputs.items()
    captured = model if isinstance(model, ExportedModel) else ExportedModel(fold_batch_norms(capture(model, task.example_inputs)), [name])
    module = _normalising(copy.deepcopy(captured.graph_module), task.description, layout)
    wrapped = ExportedModel(module, [name])
    if hasattr(model, "compareto_structure"):
        wrapped.compareto_structure = model.compareto_structure
    pixels = torch.zeros(example.shape, dtype=torch.uint8)
    inputs = {name: pixels.permute(_TO_CHANNELS_LAST).contiguous() if layout == "nhwc" else pixels}
    takes(module, inputs)
    return wrapped, inputs


def _normalising(module: fx.GraphModule, description: Mapping[str, Any], layout: Layout) -> fx.GraphModule:
    mean, std = (torch.tensor(description[key], dtype=torch.float32).reshape(1, -1, 1, 1) for key in ("mean", "std"))
    module.register_buffer("pixel_scale", description["scale"] / std)
    module.register_buffer("pixel_offset", -mean / std)
    image = next(node for node in module.graph.nodes if node.op == "placeholder")
    image.meta.clear()
    readers = list(image.users)
    aten = torch.ops.aten
    last = [node for node in module.graph.nodes if node.op == "placeholder"][-1]
    with module.graph.inserting_after(last):
        offset = module.graph.get_attr("pixel_offset")
        scale = module.graph.get_attr("pixel_scale")
    with module.graph.inserting_after(offset):
        value = image
        steps: list[tuple[Any, tuple[Any, ...]]] = [(aten.permute.default, (list(_TO_CHANNELS_FIRST),))] if layout == "nhwc" else []
        steps += [(aten.to.dtype, (torch.float32,)), (aten.mul.Tensor, (scale,)), (aten.add.Tensor, (offset,))]
        after = offset
        for operator, arguments in steps:
            with module.graph.inserting_after(after):
                after = value = module.graph.call_function(operator, (value, *arguments))
    for reader in readers:
        reader.replace_input_with(image, value)
    module.graph.lint()
    module.recompile()
    return module


def as_pixels(inputs: Mapping[str, NDArray[Any]], folded: Mapping[str, Any], layout: Layout) -> dict[str, NDArray[np.uint8]]:
    """The pixels that normalised images were made of: what a model that takes pixels is judged on.

    Args:
        inputs: normalised, ``[examples, channels, height, width]``.
        folded: ``scale``, ``mean`` and ``std`` of the normalisation.
        layout: of the result.
    """
    mean, std = (np.asarray(folded[key], dtype=np.float64).reshape(1, -1, 1, 1) for key in ("mean", "std"))
    pixels = {name: np.clip(np.rint((value * std + mean) / folded["scale"]), 0, 255).astype(np.uint8) for name, value in inputs.items()}
    return {name: np.ascontiguousarray(value.transpose(_TO_CHANNELS_LAST)) if layout == "nhwc" else value for name, value in pixels.items()}
