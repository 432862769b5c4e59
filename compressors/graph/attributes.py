"""The integers on modules that repeat the sizes of parameters, such as ``out_channels`` or ``num_heads``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

__all__ = ["patch_attributes"]

# What containers call their number of heads, the width that all heads have together or of a feed-forward, and the residual
# stream's width. A name is patched only where its value is the old size, and the trace checks that the model still computes
# what it should.
_COUNTS = ("num_heads", "num_attention_heads", "num_key_value_heads", "n_heads", "n_head", "n_kv_heads", "num_kv_heads", "nhead", "heads", "n_kv_head")
_WIDTHS = ("all_head_size", "inner_dim", "split_size", "attn_dim", "attention_dim", "hidden_features", "intermediate_size", "hidden_dim", "qkv_dim")
_STREAMS = ("embed_dim", "hidden_size", "d_model")


def patch_attributes(
    model: nn.Module,
    dims: Sequence[Sequence[Any]],
    kinds: Mapping[str, str],
    old: Mapping[str, tuple[int, ...]],
    before: Mapping[str, NDArray[np.bool_]],
    now: Mapping[str, NDArray[np.bool_]],
) -> None:
    """Bring the attributes of ``model``, whose parameters were just sliced from the shapes ``old``, up to date."""
    owners = dict.fromkeys(parameter.rpartition(".")[0] for parameter, _, _ in dims)
    for path in owners:
        _patch_layer(model.get_submodule(path), path, old)
    done: dict[str, set[str]] = {}
    for parameter, _, segments in dims:
        parent = parameter.rpartition(".")[0].rpartition(".")[0]
        for segment in segments:
            _patch_container(model.get_submodule(parent), segment, kinds, before, now, done.setdefault(parent, set()))


def _patch_layer(module: nn.Module, path: str, old: Mapping[str, tuple[int, ...]]) -> None:
    prefix = f"{path}." if path else ""
    if isinstance(module, nn.RNNBase):
        first: Any = module
        module.input_size, module.hidden_size = int(first.weight_ih_l0.shape[1]), int(first.weight_hh_l0.shape[1])
        return
    weight = getattr(module, "weight", None)
    if weight is None:
        return
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = weight.shape
    elif isinstance(module, nn.modules.conv._ConvNd):  # noqa: SLF001  (the one common base of convolutions)
        first, second = (1, 0) if module.transposed else (0, 1)
        if module.groups > 1:
            module.groups = module.groups * weight.shape[0] // old[f"{prefix}weight"][0]
        module.out_channels = weight.shape[first] * (module.groups if module.transposed else 1)
        module.in_channels = weight.shape[second] * (1 if module.transposed else module.groups)
    elif isinstance(module, nn.modules.batchnorm._NormBase):  # noqa: SLF001  (the one common base of batch and instance norms)
        module.num_features = weight.shape[0]
    elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        module.normalized_shape = tuple(weight.shape)
    elif isinstance(module, nn.GroupNorm):
        if module.num_groups > 1:
            module.num_groups = module.num_groups * weight.shape[0] // old[f"{prefix}weight"][0]
        module.num_channels = weight.shape[0]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = weight.shape[0]
    elif hasattr(module, "nf") and weight.dim() == 2:
        module.nx, module.nf = weight.shape


def _patch_container(
    module: nn.Module,
    segment: list[str | int],
    kinds: Mapping[str, str],
    before: Mapping[str, NDArray[np.bool_]],
    now: Mapping[str, NDArray[np.bool_]],
    done: set[str],
) -> None:
    """Head counts are a segment's product without its last factor (the head size); widths are the whole segment."""
    sizes = [(f, f) if isinstance(f, int) else (int(before[f].sum()), int(now[f].sum())) for f in segment]
    widths = (int(np.prod([a for a, _ in sizes])), int(np.prod([b for _, b in sizes])))
    counts = [sizes[0], (int(np.prod([a for a, _ in sizes[:-1]])), int(np.prod([b for _, b in sizes[:-1]])))]
    heads = any(isinstance(f, str) and kinds[f] in ("heads", "kv_groups") for f in segment)
    streams = not heads and any(isinstance(f, str) and kinds[f] == "hidden" for f in segment)
    for names, pairs in ((_COUNTS, counts if heads else []), (_STREAMS if streams else _WIDTHS, [widths])):
        for name in names:
            value = module.__dict__.get(name)
            for a, b in pairs:
                if name not in done and type(value) is int and value == a and a != b:
                    setattr(module, name, b)
                    done.add(name)
