"""A live or quantized model as an ONNX file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressors.errors import UnexportableError
from compressors.graph.surgery import weight_names

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, fx, nn

__all__ = ["EXTERNAL_DATA_BYTES", "OPSET", "export_onnx"]

_log = logging.getLogger(__name__)

OPSET = 21
"""The first ONNX operator set with 4-bit integers."""


EXTERNAL_DATA_BYTES = 2**31 - 2**26
"""Weights of more bytes lie in a file of their own: protobuf ends at 2 GiB, the graph needs the rest."""
_INSIDE_BYTES = 1024
"""Smaller tensors stay with the graph: ONNX Runtime reads shapes and scales while it loads it."""


def export_onnx(model: nn.Module, example_inputs: Mapping[str, Tensor], folder: Path) -> Path:
    """Write the model, any batch and any length of text where its code allows, batch norms folded, weights packed.

    A decoder that generates is one file whose inputs and outputs include its cache; with an empty cache it is the forward pass. An encoder-decoder is two:
    ``encoder.onnx``, and ``decoder.onnx``, whose cache includes what the encoder returned. All others are ``model.onnx``, without a cache. Large weights lie
    beside it (``model.onnx.data``). Where a size is fixed that could vary, or there is no decoding step, the file's metadata says why
    (``compareto.note``).

    Returns:
        The main file.

    Raises:
        UnexportableError: torch.export or ONNX cannot express the model.
    """
    from compressors.targets.exported import PREFIX, ExportedModel, capture, capture_program, fold_batch_norms
    from compressors.targets.programs import generating_programs

    note, modules = "", {}
    try:
        if not isinstance(model, ExportedModel):
            modules = {name: capture_program(program, example_inputs) for name, program in generating_programs(model, example_inputs).items()}
        elif model.generating is not None:
            modules = model.generating()
    except UnexportableError as error:
        note = f"no decoding step: {error}"
        _log.warning("%s", note)
    if not modules:
        modules = {"model": model.graph_module if isinstance(model, ExportedModel) else fold_batch_norms(capture(model, example_inputs))}
    structure: dict[str, Any] = getattr(model, "compareto_structure", None) or {}
    sites = structure.get("quantize", {}).get("weight_bits", {})
    halves = {PREFIX + name for site, bits in sites.items() if bits == 16 for name in weight_names(model, site)}
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(module, example_inputs, halves, folder / f"{name}.onnx", note) for name, module in modules.items()][-1]


def _write(module: fx.GraphModule, inputs: Mapping[str, Tensor], halves: AbstractSet[str], path: Path, note: str) -> Path:
    import torch

    from compressors.targets.exported import PREFIX, signature_of
    from compressors.targets.onnx_dynamic import onnx_translations
    from compressors.targets.onnx_groups import group_translations
    from compressors.targets.onnx_packing import pack

    signature = signature_of(module, inputs)
    weights = {name: value.detach().cpu().numpy() for name, value in module.state_dict().items() if value is not None}
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module,
                signature.examples(inputs),
                dynamo=True,
                dynamic_shapes=signature.axes,
                input_names=[i.name for i in signature.inputs],
                output_names=list(signature.outputs),
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
    buffers = {name for name, _ in module.named_buffers() if name.startswith(PREFIX)}
    proto = pack(program.model_proto, weights, {name for name in halves if name in weights}, buffers)
    for node in proto.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    del proto.graph.value_info[:]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
    for key, text in (("longest", str(signature.longest or "")), ("note", "; ".join(filter(None, (note, signature.note))))):
        if text:
            proto.metadata_props.add(key=f"compareto.{key}", value=text)
    _save(proto, path)
    return path


def _save(proto: onnx.ModelProto, path: Path) -> None:
    import onnx

    beside = path.with_name(f"{path.name}.data")
    # Tensors would be added to those of an earlier export.
    beside.unlink(missing_ok=True)
    large = sum(len(tensor.raw_data) for tensor in proto.graph.initializer) > EXTERNAL_DATA_BYTES
    if large:
        onnx.save(proto, path, save_as_external_data=True, all_tensors_to_one_file=True, location=beside.name, size_threshold=_INSIDE_BYTES)
    else:
        onnx.save(proto, path)
