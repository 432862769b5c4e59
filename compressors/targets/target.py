"""The contract of a runtime: what it fuses, how it stores, what it can run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from compressors.graph.model_graph import ModelGraph
from compressors.graph.polynomial import Polynomial
from compressors.graph.shapes import Shapes
from compressors.targets.site_spec import SiteSpec

if TYPE_CHECKING:
    from torch import Tensor, fx, nn
    from torchao.quantization.pt2e.quantizer import Quantizer

    from compressors.compressor import GraphEdit

__all__ = ["Kernel", "Session", "Target"]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A fused operator as one runtime executes it.

    Attributes:
        name: its leading operator's name.
        op_class: the leading operator's class (see ``compressors.graph.Operator``).
        macs: multiply-accumulates.
        weight_elements: elements of its weights.
        input_elements, output_elements: elements of the activations it reads and writes.
        site: index into ``ModelGraph.sites``, or None: decides the precision it runs and stores.
        module: the module it comes from.
        present: 1 where the block that it belongs to is there, else 0.
        site_parts: indices into the site's ``parts`` of what it multiplies by.
    """

    name: str
    op_class: str
    macs: Polynomial
    weight_elements: Polynomial
    input_elements: Polynomial
    output_elements: Polynomial
    site: int | None
    module: str
    present: Polynomial = Polynomial.constant(1)  # noqa: RUF009 - immutable
    site_parts: tuple[int, ...] = (0,)


class Session(Protocol):
    """A loaded artifact."""

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once; the main output is called ``logits``."""


class Target(ABC):
    """A runtime. One file per runtime; stateless."""

    name: ClassVar[str]
    extra: ClassVar[str | None] = None

    @abstractmethod
    def kernels(self, graph: ModelGraph) -> tuple[Kernel, ...]:
        """The fused kernels of a graph, in execution order; operators that cost nothing are absent."""

    @abstractmethod
    def compute_precision(
        self, weight_bits: NDArray[np.int64], activation_bits: NDArray[np.int64], granularity: NDArray[np.int64], dynamic: NDArray[np.bool_]
    ) -> NDArray[np.str_]:
        """The arithmetic that runs for each site: ``fp32``, ``fp16``, ``int8`` or ``int4`` (kernels that read packed weights beside float activations)."""

    @abstractmethod
    def container_bits(self, weight_bits: int, *, operator: str = "linear", granularity: int = 0) -> int:
        """Bits that the format stores for each weight of ``weight_bits``; where it is more, the width is only simulated.

        Raises:
            CompressionError: the format has no integers for it.
        """

    @abstractmethod
    def stored_bytes(self, graph: ModelGraph, shapes: Shapes) -> NDArray[np.int64]:
        """Bytes of weights, scales, zero points and biases as the format stores them, ``[candidates]``."""

    @abstractmethod
    def supported(self, graph: ModelGraph, edit: GraphEdit) -> dict[str, str]:
        """Sites that cannot be quantized as the edit asks, by name, with the reason; they stay float."""

    @abstractmethod
    def annotator(self, sites: Mapping[str, SiteSpec], *, dynamic: bool) -> Quantizer:
        """A PT2E annotator that places quantizers where this runtime fuses them.

        Args:
            sites: by the weight's name in the exported graph; a tied one under each of its names.
            dynamic: whether the ranges of activations are taken at run time.
        """

    def lower(self, module: fx.GraphModule) -> fx.GraphModule:
        """A converted module with this runtime's numerics where they are not those of plain quantize and dequantize; as it is where they are."""
        return module

    @abstractmethod
    def rounded_at_run_time(self, x: Tensor, granularity: int) -> Tensor:
        """What a linear layer reads that takes the range of its activation at run time: the values that ``lower`` leaves, for training.

        Args:
            x: ``[..., inputs]``.
            granularity: of the layer's weight, see ``SiteSpec``.
        """

    def linear_at_run_time(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scale: Tensor,  # noqa: ARG002 - for runtimes that multiply integers
        granularity: int,
    ) -> tuple[Tensor, Tensor]:
        """The output of such a layer, in the order of arithmetic that ``lower`` leaves, and what it reads.

        Args:
            x: ``[..., inputs]``.
            weight: ``[outputs, inputs]``, rounded to multiples of its scales.
            bias: ``[outputs]``.
            scale: of the weight.
            granularity: see ``rounded_at_run_time``.
        """
        from torch.nn.functional import linear

        rounded = self.rounded_at_run_time(x, granularity)
        return linear(rounded, weight, bias), rounded

    def stored_group_scale(self, scale: Tensor) -> Tensor:
        """Scales of groups in as many digits as ``lower`` leaves them."""
        return scale

    @abstractmethod
    def export(self, model: nn.Module, example_inputs: Mapping[str, Tensor], folder: Path) -> Path:
        """Write the model file(s) with a dynamic batch; returns the main file.

        Raises:
            UnexportableError: the format cannot express the model; names the operator.
        """

    @abstractmethod
    def load(self, path: Path, threads: int = 0) -> Session:
        """A session of this runtime, without torch."""

    @abstractmethod
    def file_bytes(self, path: Path) -> int:
        """Bytes of weights, scales, zero points and biases found in an exported file."""
