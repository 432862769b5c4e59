"""Whether a compressed model is still one of its own architecture, with another configuration, so that plain ``from_pretrained`` loads it.

It is where the widths of all layers are the same. Blocks that were dropped leave no gap in the names, tokens of a trimmed vocabulary are numbered anew (with
the tokenizer), and what the configuration cannot say is found by comparing: the model that it describes has to have the same tensors, and has to return
the same outputs bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from compressors.architecture import architecture_of, build, config_of
from compressors.evaluating import evaluating
from compressors.graph.renumbering import ABSENT, is_table
from compressors.silent_transformers import silent_transformers

__all__ = ["Pretrained", "differences", "pretrained_form"]

_NAMES = {
    "ffn": ("intermediate_size", "ffn_dim", "hidden_dim", "n_inner", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim"),
    "hidden": ("hidden_size", "d_model", "n_embd", "dim", "embedding_size"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads"),
    "kv_groups": ("num_key_value_heads",),
    "blocks": ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "num_decoder_layers", "decoder_layers"),
    "vocabulary": ("vocab_size",),
}
"""What configurations call a width; an attribute is changed only where its value is the old width."""

_LENGTH = 8


@dataclass(frozen=True)
class Pretrained:
    """A model as its architecture would have it.

    Attributes:
        config: plain data, as ``config.json`` has it.
        state: its tensors, by their names there.
        names: their names in the model.
        tokens: numbers in the whole vocabulary of the tokens that stay, sorted; None where none was dropped.
    """

    config: dict[str, Any]
    state: dict[str, Tensor]
    names: dict[str, str]
    tokens: tuple[int, ...] | None


def pretrained_form(model: nn.Module, state: Mapping[str, Tensor]) -> Pretrained | str:
    """The model with a configuration that fits it, or why there is none. ``state`` are all its tensors."""
    architecture = architecture_of(model)
    structure: dict[str, Any] = getattr(model, "compareto_structure", None) or {}
    if architecture is None:
        return f"transformers has no model called {type(model).__name__}"
    if any(bits <= 8 for bits in structure.get("quantize", {}).get("weight_bits", {}).values()):
        return "its weights are quantized"
    for key, what in (
        ("factors", "is factorised"),
        ("separable", "is depthwise-separable"),
        ("windows", "attends to a window"),
        ("shared", "shares its weights with another layer"),
    ):
        if structure.get(key):
            first = next(iter(structure[key]))
            return f"{first if isinstance(first, str) else first[-1]} {what}"
    if structure.get("input_size", {}).get("scorer"):
        return "a scorer crops its images"
    config = config_of(architecture)
    problem = _resize(config, model, structure)
    if problem:
        return problem
    renamed = {_renumbered(name, structure): name for name in state if not is_table(name)}
    tokens = next((tuple(structure["kept"][vocabulary["axis"]]) for vocabulary in structure.get("vocabularies", [])), None)
    if tokens is not None:
        _renumber_tokens(config, tokens)
    plain = {**config.to_dict(), "architectures": [architecture["class"]]}
    found = Pretrained(plain, {new: state[old] for new, old in renamed.items()}, renamed, tokens)
    return _misfit({**architecture, "config": plain}, found.state) or found


def _resize(config: Any, model: nn.Module, structure: Mapping[str, Any]) -> str:
    """Write the widths and depths that are left into ``config``; why that cannot be."""
    parts = [config, *(part for part in vars(config).values() if hasattr(part, "to_dict"))]
    for part in parts:
        # What the configuration leaves to follow from the width of the stream would follow from the new one.
        if hasattr(part, "head_dim"):
            part.head_dim = _head_size(part)
        if getattr(part, "n_inner", 0) is None:
            part.n_inner = 4 * part.hidden_size
    changes: dict[tuple[int, str], set[int]] = {}
    for container, gone in _dropped(structure).items():
        depth = len(list(model.get_submodule(container).children()))
        for part in parts:
            # One entry a block, such as its kind of attention.
            lists = {name: value for name, value in vars(part).items() if isinstance(value, list) and len(value) == depth}
            vars(part).update({name: [item for i, item in enumerate(value) if i not in gone] for name, value in lists.items()})
    for kind, path, old, new in _sizes(model, structure):
        for i, part in enumerate(parts):
            for name in _NAMES.get(kind, ()):
                if getattr(part, name, None) == old and (kind != "blocks" or ("decoder" in name) == ("decoder" in path)):
                    changes.setdefault((i, name), set()).add(new)
            if kind == "kv_groups" and getattr(part, "num_key_value_heads", None) == old:
                changes.setdefault((i, "num_attention_heads"), set()).add(part.num_attention_heads // old * new)
    for (i, name), widths in changes.items():
        if len(widths) > 1:
            return f"{name} is one number in its configuration, and its layers have {', '.join(map(str, sorted(widths)))}"
        setattr(parts[i], name, widths.pop())
    return ""


def _sizes(model: nn.Module, structure: Mapping[str, Any]) -> Iterator[tuple[str, str, int, int]]:
    """Kind, place, and units before and after of what was cut; of depths, all blocks of a container, those too that cannot be dropped."""
    for axis, units in structure.get("kept", {}).items():
        if structure["kinds"][axis] != "blocks":
            yield structure["kinds"][axis], axis, structure["sizes"][axis], len(units)
    for container, gone in _dropped(structure).items():
        depth = len(list(model.get_submodule(container).children()))
        yield "blocks", container, depth, depth - len(gone)


def _dropped(structure: Mapping[str, Any]) -> dict[str, list[int]]:
    """Positions of dropped blocks by the name of their container."""
    found: dict[str, list[int]] = {}
    for dropped in structure.get("dropped", []):
        container, _, index = dropped["path"].rpartition(".")
        found.setdefault(container, []).append(int(index))
    return found


def _head_size(config: Any) -> int | None:
    size: int | None = getattr(config, "head_dim", None)
    hidden, heads = getattr(config, "hidden_size", None), getattr(config, "num_attention_heads", None)
    return size or (hidden // heads if isinstance(hidden, int) and isinstance(heads, int) else None)


def _renumbered(name: str, structure: Mapping[str, Any]) -> str:
    """The name of a tensor where the blocks that are left have no gaps."""
    for container, gone in _dropped(structure).items():
        if name.startswith(f"{container}."):
            index, _, rest = name[len(container) + 1 :].partition(".")
            name = f"{container}.{int(index) - sum(i < int(index) for i in gone)}.{rest}"
    return name


def _renumber_tokens(config: Any, tokens: tuple[int, ...]) -> None:
    rows = {token: row for row, token in enumerate(tokens)}
    for name, value in vars(config).items():
        if name.endswith("_token_id") and value is not None:
            setattr(config, name, [rows[v] for v in value if v in rows] if isinstance(value, list) else rows.get(value))


def _misfit(architecture: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """How the tensors of the model that a configuration describes differ from ``state``."""
    try:
        with torch.device("meta"):
            described = build(architecture)
    except (LookupError, TypeError, ValueError) as error:
        return f"its configuration does not allow its widths: {str(error).splitlines()[0]}"
    expected = {name: tuple(tensor.shape) for name, tensor in described.state_dict().items()}
    missing = [name for name in expected if name not in state]
    if missing:
        return f"its configuration cannot say that there is no {missing[0]}"
    for name, tensor in state.items():
        if name in expected and expected[name] != tuple(tensor.shape):
            return f"{name} is {list(tensor.shape)}, its configuration can only say {list(expected[name])}"
        if name not in expected:
            return f"its configuration cannot say that there is {name}"
    return ""


def differences(model: nn.Module, form: Pretrained, folder: Path) -> str:
    """How the model that plain ``from_pretrained`` loads from ``folder`` differs from ``model``; empty where it does not."""
    try:
        return _differences(model, form, folder)
    except Exception as error:  # noqa: BLE001 - whatever the library or the model's own code raises is the answer
        return f"the model that from_pretrained loads does not run: {(str(error).strip().splitlines() or [type(error).__name__])[0]}"


def _differences(model: nn.Module, form: Pretrained, folder: Path) -> str:
    import transformers

    cls: Any = getattr(transformers, form.config["architectures"][0])
    with silent_transformers():
        loaded: nn.Module = cls.from_pretrained(folder).eval()
    for parameter in loaded.parameters():
        # Mapped memory may lie where kernels round differently.
        parameter.data = parameter.data.clone()
    own = loaded.state_dict()
    unequal = [name for name, tensor in form.state.items() if name not in own or not torch.equal(own[name].cpu(), tensor.cpu())]
    if unequal:
        return f"from_pretrained does not load {unequal[0]}"
    inputs = _inputs(loaded, form)
    if inputs is None:
        return f"its inputs are not known ({getattr(loaded, 'main_input_name', '')}), so that the outputs of both cannot be compared"
    whole = {name: torch.tensor(form.tokens)[value] if form.tokens and "input_ids" in name else value for name, value in inputs.items()}
    with torch.no_grad(), evaluating(model):
        device = next(model.parameters()).device
        before = [t.cpu() for t in _tensors(model(**{name: value.to(device) for name, value in whole.items()}))]
        after = _tensors(loaded(**inputs))
    same = len(before) == len(after) and all(torch.equal(b, a) or _same_columns(b, a, form) for b, a in zip(before, after, strict=True))
    return "" if same else "the model that from_pretrained loads returns other values"


def _same_columns(whole: Tensor, trimmed: Tensor, form: Pretrained) -> bool:
    """Whether logits are the same for the tokens that stay."""
    if form.tokens is None or trimmed.shape[-1] != len(form.tokens) or whole.shape[-1] <= len(form.tokens):
        return False
    dropped = torch.ones(whole.shape[-1], dtype=torch.bool)
    dropped[list(form.tokens)] = False
    return torch.equal(whole[..., ~dropped], trimmed) and bool((whole[..., dropped] == ABSENT).all())


def _tensors(outputs: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _inputs(model: Any, form: Pretrained) -> dict[str, Tensor] | None:
    """Something to run the model on; None where that is not known."""
    config = model.config
    kind, generator = getattr(model, "main_input_name", ""), torch.Generator().manual_seed(0)
    if kind == "input_ids":
        size = len(form.tokens) if form.tokens else config.vocab_size
        tokens = torch.randint(0, size, (2, _LENGTH), generator=generator)
        return {"input_ids": tokens, **({"decoder_input_ids": tokens} if config.is_encoder_decoder else {})}
    part = getattr(config, "vision_config", config)
    if kind == "pixel_values" and hasattr(part, "num_channels"):
        size = getattr(part, "image_size", 64)
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        return {kind: torch.randn(1, part.num_channels, height, width, generator=generator)}
    if kind == "input_features" and hasattr(config, "num_mel_bins"):
        return {kind: torch.randn(1, config.num_mel_bins, 2 * config.max_source_positions, generator=generator)}
    return None
