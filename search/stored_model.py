"""The model that a stage leaves, in the cache: a live one, or a quantized one whose integers a stage has trained."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

from compressors.graph.surgery import rebuild
from search.preparing import Prepared

__all__ = ["read_model", "structure_of", "write_model"]

_MODEL, _STRUCTURE = "model.safetensors", "structure.json"


def structure_of(model: nn.Module) -> dict[str, Any] | None:
    """What steps have made of it, as plain data; None of the uncompressed model."""
    structure: dict[str, Any] | None = getattr(model, "compareto_structure", None)
    return structure


def write_model(model: nn.Module, folder: Path) -> None:
    """Put its tensors and its structure into a folder."""
    prepared_state = getattr(model, "prepared_state", None)
    if prepared_state is None:
        save_model(model, str(folder / _MODEL))
    else:
        save_file({name: value.cpu().contiguous() for name, value in prepared_state.items()}, folder / _MODEL)
    (folder / _STRUCTURE).write_text(json.dumps(structure_of(model), sort_keys=True))


def read_model(folder: Path, prepared: Prepared) -> nn.Module:
    """The model that was written, bit for bit, in eval mode.

    Args:
        folder: where it was written.
        prepared: of the same experiment.
    """
    whole: dict[str, Any] | None = json.loads((folder / _STRUCTURE).read_text())
    structure = {name: value for name, value in (whole or {}).items() if name != "quantize"}
    model = rebuild(prepared.model, structure) if structure else copy.deepcopy(prepared.model)
    if whole is None or "quantize" not in whole:
        load_model(model, str(folder / _MODEL))
        return model.eval()
    from compressors.quantization.flow import edit_of, restore

    edit = edit_of(prepared.graph, whole)
    return restore(model.eval(), prepared.graph, edit, prepared.target, prepared.task.example_inputs, load_file(folder / _MODEL))
