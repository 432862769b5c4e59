"""ExecuTorch with XNNPACK: what it fuses, how it stores weights, and how to export, load and time a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from compressors.graph.model_graph import ModelGraph, Operator
from compressors.graph.shapes import Shapes
from compressors.targets.executorch_forms import Forms, forms
from compressors.targets.fusion import fused_kernels
from compressors.targets.site_spec import SiteSpec
from compressors.targets.storage import Integers, effective_granularity, stored_bytes
from compressors.targets.target import Kernel, Session, Target

if TYPE_CHECKING:
    from torch import Tensor, fx, nn
    from torchao.quantization.pt2e.quantizer import Quantizer

    from compressors.compressor import GraphEdit

__all__ = ["ExecuTorch"]


def _fuses(lead: str, operator: Operator) -> bool:  # noqa: ARG001 - a rule's form
    return operator.op_class in ("normalization", "activation", "view")


class ExecuTorch(Target):
    """The CPU through XNNPACK; what XNNPACK lacks runs in ExecuTorch's own kernels.

    Convolutions are int8 with static ranges or float. Linear layers are int8 with static ranges or with ranges of each row (token) at run time, and read
    weights of 8 or 4 bits beside float activations, too. Tables of embeddings have 8, 4 or 2 bits.
    """

    name: ClassVar[str] = "executorch"
    extra: ClassVar[str | None] = "executorch"

    def kernels(self, graph: ModelGraph) -> tuple[Kernel, ...]:
        """Batch norm and activation go into the convolution or matrix product that they follow; a residual addition is a kernel of its own."""
        return fused_kernels(graph, _fuses)

    def compute_precision(self, weight_bits: Integers, activation_bits: Integers, granularity: Integers, dynamic: NDArray[np.bool_]) -> NDArray[np.str_]:  # noqa: ARG002 - it depends on the bits alone
        """Integer arithmetic where both sides are at most 8 bits wide, else fp32, whatever is stored."""
        return np.where((np.asarray(weight_bits) <= 8) & (np.asarray(activation_bits) <= 8), "int8", "fp32")

    def container_bits(self, weight_bits: int, *, operator: str = "linear", granularity: int = 0) -> int:  # noqa: ARG002 - groups change nothing
        """Convolutions have 8 bits, linear layers 8 or 4, tables 8, 4 or 2; 16 are stored as 32."""
        if weight_bits > 8:
            return 32
        least = {"conv": 8, "linear": 4, "embedding": 2}[operator]
        return next(bits for bits in (2, 4, 8) if bits >= max(weight_bits, least))

    def stored_bytes(self, graph: ModelGraph, shapes: Shapes) -> Integers:
        """Weights in their container, rows of 4 bits filled up to bytes, and a scale for each channel or group.

        Scales are floats; those of groups have 16 bits, in tables filled up to 32. Biases of integer kernels with static ranges have scales, too. A table
        that a linear layer reads, too, is stored once for each.
        """

        def site_bytes(site: int, elements: Integers, rows: Integers, granularity: Integers) -> Integers:
            total = _bytes(_forms(graph, shapes, site, granularity, elements, rows), graph.sites[site].operator, elements, rows)
            if graph.sites[site].shared and graph.sites[site].operator == "embedding":
                total += _bytes(_forms(graph, shapes, site, granularity, elements, rows, "linear"), "linear", elements, rows)
            return total

        total = stored_bytes(graph, shapes, site_bytes)
        for i, site in enumerate(graph.sites):
            if site.bias:
                rows, elements = site.channels.evaluate(shapes.widths), site.elements.evaluate(shapes.widths)
                form = _forms(graph, shapes, i, shapes.granularity[:, i], elements, rows)
                total += np.where(form.integer_activations & ~shapes.dynamic, 4 * rows, 0)
        return total

    def supported(self, graph: ModelGraph, edit: GraphEdit) -> dict[str, str]:
        """Sites that do not become what was asked for."""
        reasons: dict[str, str] = {}
        shapes = edit.shapes(graph)
        granularity = effective_granularity(graph, shapes)[0]
        for i, site in enumerate(graph.sites):
            weights, activations = int(edit.weight_bits[i]), int(edit.activation_bits[i])
            rows, elements = site.channels.evaluate(shapes.widths), site.elements.evaluate(shapes.widths)
            form = _forms(graph, shapes, i, granularity[i : i + 1], elements, rows)
            said = []
            if weights == 16:
                said.append("stored as float32: XNNPACK has no 16-bit weights beside float activations")
            elif weights < 16 and not form.integer[0]:
                said.append("stays float: XNNPACK's integer convolutions need 8-bit activations with static ranges")
            elif weights < 16:
                if activations == 16:
                    said.append("activations stay float: XNNPACK has no kernels for 16-bit integers")
                if edit.granularity[i] > 0 and not form.groups[0]:
                    said.append(
                        "one scale a channel: XNNPACK has groups for 4 bits with ranges at run time only, where they divide the inputs of a linear layer"
                    )
                if not edit.symmetric[i] and not form.zero_points[0]:
                    said.append("symmetric: XNNPACK's weights have no zero point")
                if form.bits[0] != weights:
                    said.append(f"simulated: {weights} bits are stored as {form.bits[0]}")
            if said:
                reasons[site.name] = "; ".join(said)
        return reasons

    def annotator(self, sites: Mapping[str, SiteSpec], *, dynamic: bool) -> Quantizer:
        """Where XNNPACK fuses."""
        from compressors.targets.executorch_annotator import XnnpackAnnotator

        return XnnpackAnnotator(sites, dynamic=dynamic)

    def lower(self, module: fx.GraphModule) -> fx.GraphModule:
        """Ranges at run time of each row, and scales of groups in 16 bits."""
        from compressors.targets.executorch_lowering import quantize_rows, shorten_scales

        return quantize_rows(shorten_scales(module))

    def rounded_at_run_time(self, x: Tensor, granularity: int) -> Tensor:  # noqa: ARG002 - the same for all
        """Each row."""
        from compressors.targets.executorch_lowering import rounded_rows

        return rounded_rows(x)

    def stored_group_scale(self, scale: Tensor) -> Tensor:
        """In bfloat16."""
        return scale.bfloat16().float()

    def export(self, model: nn.Module, example_inputs: Mapping[str, Tensor], folder: Path) -> Path:
        """See ``export_executorch``."""
        from compressors.targets.executorch_export import export_executorch

        return export_executorch(model, example_inputs, folder)

    def load(self, path: Path, threads: int = 0) -> Session:
        """A program in ExecuTorch's Python runtime, which needs torch."""
        from compressors.targets.executorch_session import ExecuTorchSession

        return ExecuTorchSession(path, threads)

    def file_bytes(self, path: Path) -> int:
        """Bytes of weights, scales and biases in the file."""
        from compressors.targets.executorch_file import weight_bytes

        return weight_bytes(path)

    def executed_operators(self, path: Path) -> Counter[str]:
        """Operators that XNNPACK runs, and those that fell back; see ``executorch_file``."""
        from compressors.targets.executorch_file import executed_operators

        return executed_operators(path)


def _forms(graph: ModelGraph, shapes: Shapes, site: int, granularity: Integers, elements: Integers, rows: Integers, operator: str = "") -> Forms:
    columns = elements // np.maximum(rows, 1)
    asked = (shapes.weight_bits[:, site], shapes.activation_bits[:, site], granularity, shapes.symmetric[:, site], shapes.dynamic)
    return forms(operator or graph.sites[site].operator, columns, *asked)


def _bytes(form: Forms, operator: str, elements: Integers, rows: Integers) -> Integers:
    columns = elements // np.maximum(rows, 1)
    scales = np.where(form.groups > 0, columns // np.maximum(form.groups, 1), 1) * rows
    of_scale = np.where((form.groups > 0) & (operator == "linear"), 2, 4) * np.where(form.zero_points, 2, 1)
    weights: Integers = rows * -(-columns * form.bits // 8) + np.where(form.integer, of_scale * scales, 0)
    return np.where(elements > 0, weights, 0)
