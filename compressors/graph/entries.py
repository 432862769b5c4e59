"""Further ways to call a model of ``transformers`` that generates: an encoder alone, and one step of decoding with its cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from compressors.evaluating import evaluating

__all__ = ["Entry", "generation_entries", "register_caches"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What a program is called with.

    Attributes:
        inputs: by keyword; tensors, and containers of tensors that ``torch.export`` knows. Floating tensors are what other programs return.
        path: the submodule that is called; empty for the model.
        growth: how many times larger a cache among the inputs is when all is told.
    """

    inputs: Mapping[str, Any]
    path: str = ""
    growth: float = 1.0


def generation_entries(model: nn.Module, example_inputs: Mapping[str, Tensor], *, prompt_tokens: int | None = None, new_tokens: int = 0) -> dict[str, Entry]:
    """``decode``, and ``encoder`` where there is one, of a model that generates; empty for all others, and for models on the meta device.

    Args:
        model: runs on ``example_inputs``; left as it was.
        example_inputs: of the forward pass, by keyword; the step follows them.
        prompt_tokens: of a decoder's prompt, where it is not the length of ``example_inputs``: ``prefill`` is then the forward pass that reads it.
        new_tokens: that follow the prompt; a decoder's step is the one in their middle, which takes as long as they do on average.
    """
    if not _generates(model) or any(p.is_meta for p in model.parameters()):
        return {}
    register_caches(model)
    prefill: dict[str, Entry] = {}
    growth = 1.0
    if not model.config.is_encoder_decoder:  # type: ignore[union-attr]
        length = example_inputs["input_ids"].shape[1]
        prompt = prompt_tokens or length
        if prompt != length:
            prefill = {"prefill": Entry(_at_length(example_inputs, prompt))}
        middle = prompt + new_tokens // 2
        growth, example_inputs = (prompt + new_tokens) / middle, _at_length(example_inputs, middle)
    with torch.no_grad(), evaluating(model):
        outputs = model(**example_inputs, use_cache=True)
    cache = getattr(outputs, "past_key_values", None)
    if cache is None:
        return {}
    config: Any = model.config
    if not config.is_encoder_decoder:
        mask = example_inputs.get("attention_mask")
        longer = {} if mask is None else {"attention_mask": torch.cat([mask, mask[:, -1:]], dim=1)}
        return {**prefill, "decode": Entry({"input_ids": example_inputs["input_ids"][:, -1:], **longer, "past_key_values": cache}, growth=growth)}
    encoder: nn.Module = model.get_encoder()  # type: ignore[operator]
    path = next(name for name, module in model.named_modules() if module is encoder)
    given = {name: value for name, value in example_inputs.items() if not name.startswith("decoder_")}
    step = {
        "encoder_outputs": (outputs.encoder_last_hidden_state,),
        "decoder_input_ids": example_inputs["decoder_input_ids"][:, -1:],
        "past_key_values": cache,
        **{name: value for name, value in given.items() if name == "attention_mask"},
    }
    return {"encoder": Entry(given, path), "decode": Entry(step)}


def _at_length(inputs: Mapping[str, Tensor], tokens: int) -> dict[str, Tensor]:
    """What is as long as the tokens, repeated or cut to so many."""
    length = inputs["input_ids"].shape[1]
    times = -(-tokens // length)
    return {name: value.repeat(1, times)[:, :tokens].contiguous() if value.shape[1:] == (length,) else value for name, value in inputs.items()}


def _generates(model: Any) -> bool:
    return type(model).__module__.startswith("transformers.") and bool(model.can_generate())


def register_caches(model: nn.Module) -> None:
    """Tell ``torch.export`` what is in the cache that a model returns; nothing where it returns none."""
    if not _generates(model):
        return
    from transformers.cache_utils import EncoderDecoderCache
    from transformers.integrations.executorch import register_dynamic_cache_export_support

    register_dynamic_cache_export_support()
    if EncoderDecoderCache not in pytree.SUPPORTED_NODES:
        pytree.register_pytree_node(
            EncoderDecoderCache,
            lambda cache: ([cache.self_attention_cache, cache.cross_attention_cache], None),
            lambda parts, _: EncoderDecoderCache(*parts),
            serialized_type_name="transformers.cache_utils.EncoderDecoderCache",
            flatten_with_keys_fn=lambda cache: (
                [
                    (pytree.GetAttrKey("self_attention_cache"), cache.self_attention_cache),
                    (pytree.GetAttrKey("cross_attention_cache"), cache.cross_attention_cache),
                ],
                None,
            ),
        )
