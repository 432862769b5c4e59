"""Torch itself: quantization is simulated in floats, and the artifact is our checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from compressors.graph.model_graph import ModelGraph
from compressors.graph.shapes import Shapes
from compressors.targets.fusion import fused_kernels
from compressors.targets.site_spec import SiteSpec
from compressors.targets.storage import Integers, effective_granularity
from compressors.targets.target import Kernel, Session, Target

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torchao.quantization.pt2e.quantizer import Quantizer

    from compressors.compressor import GraphEdit

__all__ = ["Torch"]

_WEIGHTS = "model.safetensors"
_PARAMETERS = 12
"""Bytes of a scale (float32) and its zero point (int64)."""


class Torch(Target):
    """Our checkpoint (see ``compressors.checkpoint``): any bit-width, simulated.

    A checkpoint holds the live weights in float32, from which training can go on, and the scales and zero points that they are rounded by. So what is quantized
    is neither smaller nor faster; what is pruned, factorised or shared is.
    """

    name: ClassVar[str] = "torch"

    def kernels(self, graph: ModelGraph) -> tuple[Kernel, ...]:
        """Torch runs operator by operator; what follows a product element by element is priced with it."""
        return fused_kernels(graph)

    def compute_precision(self, weight_bits: Integers, activation_bits: Integers, granularity: Integers, dynamic: NDArray[np.bool_]) -> NDArray[np.str_]:  # noqa: ARG002 - floats, always
        """Floats, whatever is simulated."""
        return np.full(np.asarray(weight_bits).shape, "fp32")

    def container_bits(self, weight_bits: int, *, operator: str = "linear", granularity: int = 0) -> int:  # noqa: ARG002 - floats, always
        """Weights are stored as float32."""
        return 32

    def stored_bytes(self, graph: ModelGraph, shapes: Shapes) -> Integers:
        """Every parameter as float32, a scale and a zero point for each channel or group that is quantized, and tables of trimmed vocabularies."""
        total = graph.table_bytes(shapes) + 4 * graph.count_parameters(shapes)
        granularity = effective_granularity(graph, shapes)
        for i, site in enumerate(graph.sites):
            quantized = shapes.weight_bits[:, i] <= 8
            for elements, channels in site.parts:
                count, rows = elements.evaluate(shapes.widths), channels.evaluate(shapes.widths)
                groups = granularity[:, i]
                scales = np.where(groups > 0, count // np.maximum(groups, 1), np.where(groups < 0, 1, rows))
                total += np.where(quantized & (count > 0) & (scales > 1), _PARAMETERS * scales, 0)
        return total

    def supported(self, graph: ModelGraph, edit: GraphEdit) -> dict[str, str]:
        """Everything is simulated, and stays as large as it is."""
        return {site.name: "simulated: a checkpoint stores float32" for i, site in enumerate(graph.sites) if edit.weight_bits[i] < 32}

    def annotator(self, sites: Mapping[str, SiteSpec], *, dynamic: bool) -> Quantizer:
        """On weights and the activations that enter their operators."""
        from compressors.targets.torch_annotator import TorchAnnotator

        return TorchAnnotator(sites, dynamic=dynamic)

    def rounded_at_run_time(self, x: Tensor, granularity: int) -> Tensor:  # noqa: ARG002 - the same for all
        """The whole tensor."""
        from compressors.targets.torch_annotator import rounded_tensor

        return rounded_tensor(x)

    def export(self, model: nn.Module, example_inputs: Mapping[str, Tensor], folder: Path) -> Path:  # noqa: ARG002 - a checkpoint takes any
        """Write a checkpoint into the folder; ``compressors.checkpoint.load`` gives the model back."""
        from compressors.checkpoint import save

        save(model, folder)
        return folder / _WEIGHTS

    def load(self, path: Path, threads: int = 0) -> Session:
        """The model in torch, behind the call convention of a session.

        Raises:
            UserError: no checkpoint, or one that does not name its architecture.
        """
        from compressors.checkpoint import load

        return _TorchSession(load(path if path.is_dir() else path.parent).eval(), threads)

    def file_bytes(self, path: Path) -> int:
        """Bytes of weights, biases, and scales with their zero points, but of those of whole tensors; statistics of batch norms are none of them."""
        with (path / _WEIGHTS if path.is_dir() else path).open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header.pop("__metadata__", None)
        return sum(_stored(name, tensor) for name, tensor in header.items())


def _stored(name: str, tensor: Mapping[str, Any]) -> int:
    start, end = tensor["data_offsets"]
    counts = tensor["dtype"] in ("F32", "F16", "BF16", "I32") and not name.endswith(("running_mean", "running_var"))
    single = name.endswith((":scale", ":zero_point")) and np.prod(tensor["shape"]) == 1
    return int(end - start) if (counts or name.endswith(":zero_point")) and not single else 0


class _TorchSession:
    def __init__(self, model: nn.Module, threads: int) -> None:
        self._model, self._threads = model, threads

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once."""
        import torch

        from compressors.context import logits_of
        from compressors.torch_threads import torch_threads

        with torch.no_grad(), torch_threads(self._threads):
            logits = logits_of(self._model(**{name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in inputs.items()}))
        return {"logits": logits.numpy()}
