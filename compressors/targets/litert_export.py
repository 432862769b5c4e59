"""A live or quantized model as a ``.tflite`` file: converted with float weights where no integer kernel reads them, which are packed afterwards."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torchao.quantization.quant_primitives  # noqa: F401 - registers dequantize_affine
from torch import Tensor, fx, nn

from compressors.errors import UnexportableError, UserError
from compressors.graph.surgery import weight_names
from compressors.targets.exported import PREFIX, ExportedModel, capture, fold_batch_norms
from compressors.targets.graph_tensors import attribute
from compressors.targets.litert_lowering import round_rows
from compressors.targets.litert_packing import Integers, StoredWeight, pack

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["export_litert"]

_aten = torch.ops.aten
_decomposed = torch.ops.quantized_decomposed
_GROUPS = (torch.ops.torchao.dequantize_affine, torch.ops.torchao.dequantize_affine.default)
_ROUND_ROWS = round_rows._opoverload  # noqa: SLF001 - the operator that a graph holds
_WEIGHT_AT = {_aten.embedding.default: 0, _aten.linear.default: 1}
_QUANTIZE: dict[Any, Any] = {
    _decomposed.dequantize_per_channel.default: _decomposed.quantize_per_channel.default,
    _decomposed.dequantize_per_tensor.default: _decomposed.quantize_per_tensor.default,
}
_DEQUANTIZE = (*_QUANTIZE, *_GROUPS)


def export_litert(model: nn.Module, example_inputs: Mapping[str, Tensor], folder: Path) -> Path:
    """Write ``model.tflite`` for the batch of the example inputs, batch norms folded.

    Raises:
        UnexportableError: torch.export or LiteRT's converter cannot express the model.
        UserError: the converter is not installed.
    """
    module = _own_module(model) if isinstance(model, ExportedModel) else fold_batch_norms(capture(model, example_inputs))
    structure: dict[str, Any] = getattr(model, "compareto_structure", None) or {}
    halves = {PREFIX + name for site, bits in structure.get("quantize", {}).get("weight_bits", {}).items() if bits == 16 for name in weight_names(model, site)}
    # Without the checks that torch.export puts in front: inputs are added below.
    root: nn.Module = module
    module = fx.GraphModule(root, module.graph)
    stored = _undo(module)
    parameters = dict(module.named_parameters(remove_duplicate=False))
    stored |= {name: StoredWeight(_array(module, name), half=name in halves) for name in parameters if _is_read(module, name)}
    inputs = _weights_as_inputs(module, stored)
    content = _converted(module, (*example_inputs.values(), *(torch.from_numpy(stored[name].floats) for name in inputs)))
    try:
        packed = pack(content, list(stored.values()), tuple(example_inputs), [stored[name] for name in inputs])
    except LookupError as error:
        raise UnexportableError(f"LiteRT's converter has changed a quantized weight: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.tflite"
    path.write_bytes(packed)
    return path


def _own_module(model: ExportedModel) -> fx.GraphModule:
    # Copying what torch.export has written warns of torch's own internals.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return copy.deepcopy(model.graph_module)


def _converted(module: fx.GraphModule, examples: tuple[Tensor, ...]) -> bytes:
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    for part in module.modules():
        # An exported module has only one mode, but says another, of which the converter warns.
        part.training = False
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            import litert_torch
            from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
            from litert_torch.quantize.quant_config import QuantConfig
        except ImportError as error:
            raise UserError('LiteRT files are written by litert-torch, which is not installed: pip install "compareto[litert]"') from error
        try:
            # Only says that quantize and dequantize are to become integer kernels; where they stand is decided.
            config = QuantConfig(pt2e_quantizer=PT2EQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True)))
            content: bytes = litert_torch.convert(module, examples, quant_config=config).model_content()
        except Exception as error:
            # The converter raises many unrelated classes; for the caller they all mean that this model has no form in TFLite.
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            # In front of what is wrong stands where the operator comes from, which is a line of torch or of the model's library.
            raise UnexportableError(f"LiteRT cannot express the model: {lines[0].rpartition('error: ')[2]}") from error
        finally:
            logging.disable(level)
    return content


def _weights_as_inputs(module: fx.GraphModule, stored: Mapping[str, StoredWeight]) -> list[str]:
    """In place: embeddings and linear layers read tables and packed weights from inputs behind those of the model.

    What the converter knows it computes with: it folds factors of layer norms and of attention into weights, which would no longer be what their integers say,
    and looks up the rows of all positions, which it then stores in floats.

    Returns:
        Names of the weights, in order.
    """
    graph = module.graph
    taken: dict[str, fx.Node] = {}
    last = [n for n in graph.nodes if n.op == "placeholder"][-1]
    for node in [n for n in graph.nodes if n.target in _WEIGHT_AT]:
        weight = node.args[_WEIGHT_AT[node.target]]
        name = str(weight.target)
        if weight.op != "get_attr" or name not in stored or (node.target is _aten.linear.default and not stored[name].packed):
            continue
        if name not in taken:
            with graph.inserting_after(last):
                last = taken[name] = graph.placeholder(f"weight_{len(taken)}")
            last.meta = {"val": weight.meta.get("val")}
        node.replace_input_with(weight, taken[name])
    # What torch.export has written takes just the inputs that it knows.
    graph.set_codegen(fx.graph.CodeGen())
    graph.eliminate_dead_code()
    module.recompile()
    return list(taken)


def _is_read(module: fx.GraphModule, name: str) -> bool:
    return any(node.op == "get_attr" and node.target == name for node in module.graph.nodes)


def _undo(module: fx.GraphModule) -> dict[str, StoredWeight]:
    """In place: weights of integer kernels become float constants behind quantize and dequantize, which is what the converter reads; all others plain floats.

    Returns:
        What they have to be in the file, by the name of the constant.
    """
    graph = module.graph
    stored: dict[str, StoredWeight] = {}
    for node in [n for n in graph.nodes if n.target in _DEQUANTIZE and n.args[0].op == "get_attr"]:
        with torch.no_grad():
            values = _dequantized(module, node)
        integers, name = _array(module, str(node.args[0].target)), f"{node.args[0].target}_{node.name}_float"
        module.register_buffer(name, values)
        weight = _described(module, node, integers)
        stored[name] = StoredWeight(values.numpy(), integers=weight)
        with graph.inserting_before(node):
            floats = graph.get_attr(name)
        floats.meta = {"val": node.meta.get("val")}
        for user in list(node.users):
            if _static(user):
                with graph.inserting_before(user):
                    quantized = graph.call_function(_QUANTIZE[node.target], (floats, *node.args[1:]))
                    again = graph.call_function(node.target, (quantized, *node.args[1:]))
                user.replace_input_with(node, again)
            else:
                user.replace_input_with(node, floats)
                weight.dynamic |= _rounded(user)
        graph.erase_node(node)
    for node in [n for n in graph.nodes if n.target is _ROUND_ROWS]:
        # Kernels of integer weights and float activations round these themselves.
        node.replace_all_uses_with(node.args[0])
        graph.erase_node(node)
    graph.eliminate_dead_code()
    module.recompile()
    return stored


def _described(module: fx.GraphModule, node: fx.Node, integers: NDArray[Any]) -> Integers:
    """What the file is to hold of a dequantized weight."""
    rows = integers.shape[0]
    arguments: Any = node.args
    group = 0
    if node.target in _GROUPS:
        _, (_, group), scale, zero, _, _, highest = arguments[:7]
    else:
        scale, zero, highest = arguments[1], arguments[2], arguments[-2]
    scales = _array(module, str(scale.target)) if isinstance(scale, fx.Node) else torch.tensor([scale]).numpy()
    zeros = _array(module, str(zero.target)) if isinstance(zero, fx.Node) else torch.tensor([zero]).numpy()
    bits = 8 if int(highest) > 7 else 4 if int(highest) > 1 or any(_static(user) for user in node.users) else 2
    assert group or scales.size in (1, rows), "one scale a tensor or a channel"
    return Integers(integers, scales.astype("float32"), zeros.astype("int64"), bits, group)


def _dequantized(module: fx.GraphModule, node: fx.Node) -> Tensor:
    arguments: list[Any] = [module.get_buffer(str(a.target)) if isinstance(a, fx.Node) else a for a in node.args]
    if node.target in _GROUPS:
        integers, (_, group), scale, zero = arguments[:4]
        values: Tensor = (integers.reshape(len(integers), -1, group).float() - zero[..., None]) * scale[..., None]
        return values.reshape(integers.shape)
    target: Any = node.target
    return target(*arguments)  # type: ignore[no-any-return]


def _static(user: fx.Node) -> bool:
    """Whether the operator reads an activation that was quantized with calibrated ranges."""
    first = user.args[0]
    return user.target is not _aten.embedding.default and isinstance(first, fx.Node) and first.target is _decomposed.dequantize_per_tensor.default


def _rounded(user: fx.Node) -> bool:
    first = user.args[0]
    return isinstance(first, fx.Node) and first.target is _ROUND_ROWS


def _array(module: fx.GraphModule, name: str) -> NDArray[Any]:
    array: NDArray[Any] = attribute(module, name).detach().cpu().numpy()
    return array
