"""ONNX Runtime: what it fuses, how our files store weights, and how to export, load and time a model."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from compressors.errors import DivergedError, UserError
from compressors.graph.model_graph import ModelGraph, Operator
from compressors.graph.polynomial import Polynomial
from compressors.graph.shapes import Shapes
from compressors.graph.surgery import weight_names
from compressors.targets.target import Kernel, Session, Target

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compressors.compressor import GraphEdit

__all__ = ["OnnxRuntime"]

_CONTRACTIONS = ("conv", "conv3x3", "pointwise", "depthwise", "grouped", "gemm")
_FUSED_BEHIND = ("normalization", "activation", "elementwise", "view")
_FREE = ("view",)


class OnnxRuntime(Target):
    """The CPU execution provider of ONNX Runtime."""

    name: ClassVar[str] = "onnxruntime"

    def kernels(self, graph: ModelGraph) -> tuple[Kernel, ...]:
        """Fuse batch norm, activation and residual addition into the convolution or matrix product that they follow."""
        groups: list[list[Operator]] = []
        owner: dict[int, int] = {}
        readers: dict[int, int] = {}
        for operator in graph.operators:
            for tensor in operator.inputs:
                readers[tensor] = readers.get(tensor, 0) + 1
        for operator in graph.operators:
            activations = [t for t in operator.inputs if graph.tensors[t].role == "activation"]
            behind = owner.get(activations[0]) if activations else None
            if behind is None and len(activations) > 1:
                behind = owner.get(activations[1])
            lead = groups[behind][0].op_class if behind is not None else ""
            norm_after_gemm = operator.op_class == "normalization" and lead == "gemm"
            single = bool(activations) and readers.get(activations[0], 0) == 1
            if behind is not None and lead in _CONTRACTIONS and operator.op_class in _FUSED_BEHIND and single and not norm_after_gemm:
                groups[behind].append(operator)
                where = behind
            else:
                groups.append([operator])
                where = len(groups) - 1
            owner.update(dict.fromkeys(operator.outputs, where))
        return tuple(_kernel(graph, group) for group in groups if any(o.op_class not in _FREE for o in group))

    def compute_precision(self, weight_bits: NDArray[np.int64], activation_bits: NDArray[np.int64]) -> NDArray[np.str_]:
        """Integer arithmetic where both sides are at most 8 bits wide, else fp32: narrower weights are widened at load."""
        return np.where((np.asarray(weight_bits) <= 8) & (np.asarray(activation_bits) <= 8), "int8", "fp32")

    def stored_bytes(self, graph: ModelGraph, shapes: Shapes) -> NDArray[np.int64]:
        """Weights at their width, one float scale a channel where quantized, float biases, tables of trimmed vocabularies; batch norms are folded."""
        total = graph.table_bytes(shapes)
        sites = {site.name: i for i, site in enumerate(graph.sites)}
        folded = _folded_parameters(graph)
        factors = {f"{site.module}.{factor}.weight" for site in graph.sites for factor in ("first", "second") if len(site.parts) > 1}
        # Each layer folds its own batch norm into weights that it shares.
        apart = {f"{site.module}.bias" for site in graph.sites if site.folded}
        for name, tensor in graph.parameter_tensors.items():
            if name not in folded and name not in sites and name not in factors:
                total += 4 * (tensor.elements if name in apart else tensor.elements * tensor.own).evaluate(shapes.widths)
        for i, site in enumerate(graph.sites):
            bits = shapes.weight_bits[:, i]
            own = 1 if site.folded else site.own.evaluate(shapes.widths)
            for elements, scales in site.parts:
                total += own * (-(-elements.evaluate(shapes.widths) * bits // 8) + np.where(bits <= 8, 4 * scales.evaluate(shapes.widths), 0))
            if site.bias and f"{site.module}.bias" not in graph.parameter_tensors:
                total += 4 * site.channels.evaluate(shapes.widths)
        return total

    def supported(self, graph: ModelGraph, edit: GraphEdit) -> dict[str, str]:
        """Sites whose activations stay float although 8 bits were asked for."""
        reasons: dict[str, str] = {}
        for i, site in enumerate(graph.sites):
            if edit.weight_bits[i] == 16 and edit.activation_bits[i] == 8:
                reasons[site.name] = "weights of 16 bits need float activations in ONNX Runtime"
            elif edit.dynamic and site.operator == "conv" and edit.weight_bits[i] <= 8:
                reasons[site.name] = "convolutions keep float activations where ranges are taken at run time"
        return reasons

    def quantize(
        self, model: nn.Module, graph: ModelGraph, edit: GraphEdit, example_inputs: Mapping[str, Tensor], calibration: Any, **options: Any
    ) -> nn.Module:
        """See ``Target.quantize``: PT2E with ``OnnxRuntimeAnnotator``; ``restore`` (a callable on the prepared module) replaces calibration.

        Raises:
            UserError: there is nothing to calibrate on.
            DivergedError: calibration meets values that are not finite.
        """
        import torch
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        from compressors.targets.exported import PREFIX, ExportedModel, capture
        from compressors.targets.onnx_annotator import OnnxRuntimeAnnotator
        from compressors.targets.onnx_dynamic import lower_dynamic

        restore: Callable[[Any], None] | None = options.get("restore")
        halved = copy.deepcopy(model)
        parameters = dict(halved.named_parameters(remove_duplicate=False))
        bits: dict[str, tuple[int, int]] = {}
        for i, site in enumerate(graph.sites):
            for weight in (parameters[name] for name in weight_names(halved, site.name)):
                if edit.weight_bits[i] == 16:
                    weight.data = weight.data.half().float()
                elif edit.weight_bits[i] <= 8:
                    # A tied weight has several names, and the exported graph keeps any of them.
                    bits |= {PREFIX + name: (int(edit.weight_bits[i]), int(edit.activation_bits[i])) for name, other in parameters.items() if other is weight}
        if not bits:
            return halved
        # torchao warns about its own internals when observers are built and converted.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            prepared = prepare_pt2e(capture(halved, example_inputs), OnnxRuntimeAnnotator(bits, dynamic=edit.dynamic))
            if restore is not None:
                restore(prepared)
            else:
                batches = 0
                for inputs in calibration or ():
                    _observe(prepared, [inputs[name] for name in example_inputs])
                    batches += 1
                if not batches:
                    raise UserError("quantize: the calibration split is empty; static activations need examples")
            state = {k: v.clone() for k, v in prepared.state_dict().items() if v is not None}
            quantized = ExportedModel(lower_dynamic(convert_pt2e(prepared)), list(example_inputs))
        quantized.prepared_state = state  # type: ignore[assignment]
        return quantized

    def export(self, model: nn.Module, example_inputs: Mapping[str, Tensor], folder: Path) -> Path:
        """Write ``model.onnx`` with a dynamic batch, batch norms folded, weights packed."""
        from compressors.targets.onnx_export import export_onnx

        return export_onnx(model, example_inputs, folder)

    def load(self, path: Path, threads: int = 0) -> Session:
        """An ONNX Runtime session on the CPU."""
        from compressors.targets.onnx_session import OnnxSession

        return OnnxSession(path, threads)

    def file_bytes(self, path: Path) -> int:
        """Bytes of weights, scales and biases in the file."""
        import onnx

        from compressors.targets.onnx_packing import weight_bytes

        return weight_bytes(onnx.load(path))


def _observe(prepared: Any, inputs: list[Tensor]) -> None:
    import torch

    try:
        finite = bool(torch.isfinite(prepared(*inputs)).all())
    except RuntimeError as error:
        # The histogram of an observer is the first to meet a value that is not finite.
        if "is not finite" not in str(error):
            raise
        finite = False
    if not finite:
        raise DivergedError("calibration: the model's outputs are not finite")


def _folded_parameters(graph: ModelGraph) -> set[str]:
    """Parameters of batch norms that directly follow a convolution."""
    produced = {tensor: operator for operator in graph.operators for tensor in operator.outputs}
    names: set[str] = set()
    for operator in graph.operators:
        if "batch_norm" not in operator.target:
            continue
        before = produced.get(operator.inputs[0])
        if before is not None and "conv" in before.target:
            names |= {graph.tensors[t].name for t in operator.inputs if graph.tensors[t].role == "parameter"}
    return names


def _kernel(graph: ModelGraph, group: list[Operator]) -> Kernel:
    lead = group[0]
    inside = {t for operator in group for t in operator.outputs}
    weights = inputs = Polynomial.constant(0)
    conditional = dict(lead.conditional)
    for tensor in dict.fromkeys(t for operator in group for t in operator.inputs if t not in inside):
        info = graph.tensors[tensor]
        if info.role in ("parameter", "buffer", "constant"):
            weights = weights + info.elements
        else:
            inputs = inputs + info.elements * conditional.get(tensor, 1)
    outputs = Polynomial.constant(0)
    for tensor in group[-1].outputs:
        outputs = outputs + graph.tensors[tensor].elements
    macs = Polynomial.constant(0)
    for operator in group:
        macs = macs + operator.macs
    return Kernel(lead.name, lead.op_class, macs, weights, inputs, outputs, lead.site, lead.module, lead.present)
