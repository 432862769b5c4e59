"""Compressed models on disk: ``structure.json`` says how to rebuild the module, ``model.safetensors`` holds its numbers.

Where the model is still one of its architecture with another configuration, the folder is one that plain ``from_pretrained`` loads, too: with
``config.json``, and the tensors under the names that they have there.

Nothing in a folder is executed: an architecture is named only where it is a class of ``transformers`` with its configuration; for any other model the
caller of ``load`` passes a fresh instance.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compressors.aligned_weights import write_weights
from compressors.architecture import architecture_of, build
from compressors.errors import CompressionError, TraceError, UserError
from compressors.graph.renumbering import is_table
from compressors.graph.surgery import rebuild
from compressors.pretrained import Pretrained, differences, pretrained_form
from compressors.sizing import Sizing
from compressors.trimmed_tokenizer import trimmed_tokenizer

__all__ = ["CHECKPOINT_VERSION", "follow_mode", "load", "save"]

CHECKPOINT_VERSION = 2
_STRUCTURE, _WEIGHTS = "structure.json", "model.safetensors"
_MOST_UNITS = 2**24
"""No layer has more; a structure that says so was tampered with."""


def save(model: nn.Module, folder: str | Path, tokenizer: Any = None) -> str:
    """Write a model, compressed or not, into ``folder``, which is made where it is missing.

    Args:
        model: left as it is.
        folder: gets ``structure.json`` and ``model.safetensors``, and ``config.json`` where plain ``from_pretrained`` loads the folder, too.
        tokenizer: of ``transformers``; written beside the model, with the tokens of a trimmed vocabulary where ``from_pretrained`` loads one.

    Returns:
        Why plain ``from_pretrained`` cannot load the folder; empty where it can, and then gives the same outputs bit for bit.

    Raises:
        UserError: the folder cannot be written.
    """
    from compressors.quantization import prepared_state

    folder = Path(folder)
    whole = prepared_state(model)
    state, aliases = _unshared(whole)
    content: dict[str, Any] = {"version": CHECKPOINT_VERSION, "structure": getattr(model, "compareto_structure", None), "aliases": aliases}
    content["architecture"] = architecture_of(model)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        form = pretrained_form(model, whole)
        why = form if isinstance(form, str) else _write_pretrained(folder, model, form, state, tokenizer)
        if not why and not isinstance(form, str):
            content["names"] = {new: old for new, old in form.names.items() if new != old}
            content["tables"] = {name: tensor.tolist() for name, tensor in state.items() if is_table(name)}
        else:
            write_weights(folder / _WEIGHTS, state)
            if tokenizer is not None:
                tokenizer.save_pretrained(folder)
        content["weights"] = hashlib.sha256((folder / _WEIGHTS).read_bytes()).hexdigest()
        (folder / _STRUCTURE).write_text(json.dumps({**content, "digest": _digest(content)}, indent=1))
    except OSError as error:
        raise UserError(f"cannot write the checkpoint {folder}: {error.strerror or error}") from error
    return why


def _write_pretrained(folder: Path, model: nn.Module, form: Pretrained, state: Mapping[str, Tensor], tokenizer: Any) -> str:
    """Write what ``from_pretrained`` loads; where that is not the model, why, and the caller writes the weights again."""
    trimmed = {} if tokenizer is None or form.tokens is None else trimmed_tokenizer(tokenizer, form.tokens)
    if isinstance(trimmed, str):
        return trimmed
    config = folder / "config.json"
    write_weights(folder / _WEIGHTS, {new: state[old] for new, old in form.names.items() if old in state})
    config.write_text(json.dumps(form.config, indent=1, sort_keys=True))
    why = differences(model, form, folder)
    if why:
        config.unlink()
        return why
    if tokenizer is not None and form.tokens is None:
        tokenizer.save_pretrained(folder)
    for name, text in trimmed.items():
        (folder / name).write_text(text, encoding="utf-8")
    return ""


def load(folder: str | Path, model: nn.Module | None = None) -> nn.Module:
    """The saved model, bit for bit, in train or eval mode as ``model`` is, else in eval mode (which a quantized model always is in).

    Args:
        folder: written by ``save``.
        model: a fresh uncompressed instance, whose weights do not matter; only needed where the folder does not name the architecture. It is not changed.

    Raises:
        UserError: a missing, changed or incomplete folder, one of another version, or one that belongs to another model.
    """
    folder = Path(folder)
    content, state = _read(folder)
    fresh = _fresh(content["architecture"], folder) if model is None else model
    try:
        structure: dict[str, Any] = dict(content["structure"] or {})
        quantize = structure.pop("quantize", None)
        _check_sizes(structure)
        loaded = rebuild(fresh, structure) if structure else _copy(fresh)
        if quantize is not None and any(bits <= 8 for bits in quantize["weight_bits"].values()):
            loaded = _restored(loaded, fresh, structure, quantize, state)
        else:
            _fill(loaded, state)
    except (CompressionError, TraceError, RuntimeError) as error:
        raise UserError(f"{folder} does not fit {type(fresh).__name__}: {str(error).strip().splitlines()[0]}") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{folder / _STRUCTURE} does not describe a structure of {type(fresh).__name__}: {type(error).__name__}: {error}") from error
    if content["structure"] is not None:
        loaded.compareto_structure = content["structure"]
    if content["architecture"] is not None:
        loaded.compareto_architecture = content["architecture"]
    return follow_mode(loaded, fresh)


def follow_mode(model: nn.Module, original: nn.Module) -> nn.Module:
    """Put ``model``, made from ``original``, module by module into its train or eval mode; what is new follows the module that it is in."""
    from compressors.targets.exported import ExportedModel

    if isinstance(model, ExportedModel):
        return model
    modes = {name: module.training for name, module in original.named_modules()}
    for name, module in model.named_modules():
        while name not in modes:
            name = name.rpartition(".")[0]
        module.training = modes[name]
    return model


def _unshared(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each tensor once, and the other names of tied ones: safetensors refuses shared memory."""
    first: dict[tuple[Any, ...], str] = {}
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    for name, value in state.items():
        key = (value.data_ptr(), tuple(value.shape), value.stride(), value.dtype) if value.numel() else (name,)
        if key in first:
            aliases[name] = first[key]
        else:
            first[key] = name
            kept[name] = value.detach().cpu().contiguous().clone()
    return kept, aliases


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load as parse

    try:
        content = json.loads((folder / _STRUCTURE).read_text())
        weights = (folder / _WEIGHTS).read_bytes()
    except OSError as error:
        raise UserError(f"{folder} is not a checkpoint: no readable {Path(str(error.filename)).name}") from error
    except ValueError as error:
        raise UserError(f"{folder / _STRUCTURE} is not JSON: {error}") from error
    version = content.get("version") if isinstance(content, dict) else None
    if version != CHECKPOINT_VERSION:
        raise UserError(f"{folder} has checkpoint version {version!r}; accepted: {CHECKPOINT_VERSION}")
    if content.pop("digest", None) != _digest(content):
        raise UserError(f"{folder / _STRUCTURE} was changed after it was written; save the model again")
    if content.get("weights") != hashlib.sha256(weights).hexdigest():
        raise UserError(f"{folder / _WEIGHTS} is not the file that was saved with {_STRUCTURE}; save the model again")
    try:
        names, tables = content.get("names", {}), content.get("tables", {})
        state = {names.get(name, name): tensor for name, tensor in parse(weights).items()}
        state |= {name: torch.tensor(table, dtype=torch.int32) for name, table in tables.items()}
        content = {"structure": None, "architecture": None, **content}
        return content, {**state, **{name: state[other] for name, other in content["aliases"].items()}}
    except (AttributeError, LookupError, RuntimeError, SafetensorError, TypeError, ValueError) as error:
        raise UserError(f"{folder} is no checkpoint: {type(error).__name__}: {error}") from error


def _fresh(architecture: Mapping[str, Any] | None, folder: Path) -> nn.Module:
    if architecture is None:
        raise UserError(f"{folder} does not name an architecture; pass a fresh instance: load(folder, model=...)")
    try:
        return build(architecture)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{folder} names an architecture that cannot be built: {error}") from error


def _check_sizes(structure: Mapping[str, Any]) -> None:
    """Refuse sizes that no tensor has, before memory is taken for them."""
    numbers = [factor for _, _, segments in structure.get("dims", []) for segment in segments for factor in segment if not isinstance(factor, str)]
    for size in (*structure.get("sizes", {}).values(), *numbers):
        if not isinstance(size, int) or not 0 < size <= _MOST_UNITS:
            raise CompressionError(f"an axis of {size!r} units")


def _copy(model: nn.Module) -> nn.Module:
    import copy

    if getattr(model, "compareto_structure", None):
        raise CompressionError("the model has been compressed before; pass an uncompressed instance")
    return copy.deepcopy(model)


def _fill(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    own = model.state_dict()
    wrong = [name for name in own if name not in state or state[name].shape != own[name].shape] + [name for name in state if name not in own]
    if wrong:
        raise CompressionError(f"{len(wrong)} tensors differ, such as {', '.join(wrong[:3])}")
    model.load_state_dict(dict(state))


def _restored(model: nn.Module, fresh: nn.Module, structure: dict[str, Any], quantize: Mapping[str, Any], state: Mapping[str, Tensor]) -> nn.Module:
    import copy

    from compressors.graph import trace
    from compressors.graph.region_scorer import fit_to_inputs
    from compressors.quantization import prepared_state
    from compressors.quantization.flow import edit_of, restore
    from compressors.targets import target_named

    # Ones are valid tokens, masks and pixels alike; the values are replaced by the stored observers.
    examples = {name: torch.ones(shape, dtype=getattr(torch, dtype)) for name, (dtype, shape) in quantize["inputs"].items()}
    if structure.get("input_size"):
        fresh = copy.deepcopy(fresh)
        fit_to_inputs(fresh, Sizing.from_plain(structure["input_size"]))
    graph = trace(fresh, examples, check_cuts=False)
    edit = edit_of(graph, {**structure, "quantize": quantize})
    restored = restore(model, graph, edit, target_named(quantize["target"]), examples, state)
    again = prepared_state(restored)
    wrong = [name for name in {**again, **state} if name not in again or name not in state or not torch.equal(again[name], state[name])]
    if wrong:
        raise CompressionError(f"{len(wrong)} tensors of the quantized model differ, such as {', '.join(wrong[:3])}")
    return restored
