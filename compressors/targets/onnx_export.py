"""A live or quantized model as an ONNX file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressors.errors import UnexportableError
from compressors.graph.surgery import weight_names

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["OPSET", "export_onnx"]

OPSET = 21
"""The first ONNX operator set with 4-bit integers."""


def export_onnx(model: nn.Module, example_inputs: Mapping[str, Tensor], folder: Path) -> Path:
    """Write ``model.onnx`` with a dynamic batch, batch norms folded, weights packed.

    Raises:
        UnexportableError: torch.export or ONNX cannot express the model.
    """
    import onnx
    import torch

    from compressors.targets.exported import PREFIX, ExportedModel, capture, fold_batch_norms, two_examples
    from compressors.targets.onnx_dynamic import onnx_translations
    from compressors.targets.onnx_groups import group_translations
    from compressors.targets.onnx_packing import pack

    module = model.graph_module if isinstance(model, ExportedModel) else fold_batch_norms(capture(model, example_inputs))
    structure: dict[str, Any] = getattr(model, "compareto_structure", None) or {}
    sites = structure.get("quantize", {}).get("weight_bits", {})
    halves = {PREFIX + name for site, bits in sites.items() if bits == 16 for name in weight_names(model, site)}
    weights = {name: value.detach().cpu().numpy() for name, value in module.state_dict().items() if value is not None}
    examples = two_examples(example_inputs)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module,
                tuple(examples.values()),
                dynamo=True,
                dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in examples),
                input_names=list(examples),
                output_names=["logits"],
                opset_version=OPSET,
                custom_translation_table={**onnx_translations(), **group_translations()},
                verbose=False,
            )
        except Exception as error:
            # The exporter wraps everything in its own classes; the last line of the cause names the operator.
            cause = error.__cause__ or error
            raise UnexportableError(f"ONNX cannot express the model: {str(cause).strip().splitlines()[-1]}") from error
        finally:
            logging.disable(level)
    assert program is not None, "dynamo=True always returns a program"
    proto = pack(program.model_proto, weights, halves)
    for node in proto.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    del proto.graph.value_info[:]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    onnx.save(proto, path)
    return path
