"""A live or quantized model as a ``.pte`` file: in operators that XNNPACK has, weights packed, lowered by ExecuTorch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from compressors.errors import UnexportableError, UserError
from compressors.targets.executorch_packing import pack
from compressors.targets.executorch_partitioning import partitioners
from compressors.targets.executorch_quiet import quiet
from compressors.targets.executorch_rewriting import drop_whole_slices, infer_batches, keep_pooled_dimensions, plain_attention, set_shapes
from compressors.targets.executorch_session import ANY_BATCH, INPUTS, MISSING
from compressors.targets.exported import ExportedModel, capture, fold_batch_norms

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["LARGEST_BATCH", "export_executorch"]

LARGEST_BATCH = 8
"""Programs take any batch up to this, or up to the workload's where it is larger: ExecuTorch reserves memory for the largest."""


def export_executorch(model: nn.Module, example_inputs: Mapping[str, Tensor], folder: Path) -> Path:
    """Write ``model.pte``: batch norms folded, batches up to ``LARGEST_BATCH``, or of the example's size where the model has no form for others.

    All other sizes (of images, of texts) are those of the example inputs: XNNPACK takes no reshape with two sizes that vary. The method ``forward`` runs the
    model; ``input_names`` returns the names of its inputs.

    Raises:
        UnexportableError: torch.export or ExecuTorch cannot express the model.
        UserError: ExecuTorch is not installed.
    """
    try:
        with quiet():
            # Copying a graph makes torch warn of itself.
            module = copy.deepcopy(model.graph_module) if isinstance(model, ExportedModel) else fold_batch_norms(capture(model, example_inputs))
            # Defines the operators of integer tables.
            import executorch.exir.passes._quant_patterns_and_replacements
            import executorch.kernels.quantized  # noqa: F401 - kernels for them
    except ImportError as error:
        raise UserError(MISSING) from error
    examples = tuple(value if len(value) > 1 else value.repeat(2, *[1] * (value.ndim - 1)) for value in example_inputs.values())
    with quiet(), torch.no_grad():
        module = pack(plain_attention(keep_pooled_dimensions(set_shapes(drop_whole_slices(module), examples))))
        try:
            content = _lowered(*_program(module, examples, tuple(example_inputs.values())), tuple(example_inputs))
        except Exception as error:
            # ExecuTorch raises many unrelated classes; for the caller they all mean that this model has no form there.
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            raise UnexportableError(f"ExecuTorch cannot express the model: {lines[0]}") from error
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.pte"
    path.write_bytes(content)
    return path


def _program(module: fx.GraphModule, examples: tuple[Tensor, ...], fixed: tuple[Tensor, ...]) -> tuple[ExportedProgram, bool]:
    """With a dynamic batch where there is one, and whether there is."""
    batch = torch.export.Dim("batch", min=1, max=max(LARGEST_BATCH, len(fixed[0])))
    try:
        return torch.export.export(module, examples, dynamic_shapes=tuple({0: batch} for _ in examples), strict=False), True
    except Exception:  # noqa: BLE001 - torch.export raises many unrelated classes for a batch that cannot vary
        return torch.export.export(module, fixed, strict=False), False


def _lowered(program: ExportedProgram, any_batch: bool, names: tuple[str, ...]) -> bytes:
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    edge = to_edge_transform_and_lower(
        program,
        partitioner=partitioners(),
        transform_passes=[infer_batches],
        constant_methods={INPUTS: "\n".join(names), ANY_BATCH: any_batch},
        # Our reshapes and packed tables are no operators of its core set.
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )
    content: Any = edge.to_executorch().buffer
    return bytes(content)
