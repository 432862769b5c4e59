"""The ways in which an exported model is called, each a module that takes its inputs by position and returns tensors."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressors.context import logits_of
from compressors.errors import UnexportableError
from compressors.graph.entries import generation_entries
from compressors.targets.signature import BATCH, PAST, PAST_AND_SEQUENCE, SEQUENCE, Input, Signature

__all__ = ["ExportableProgram", "cached_step", "context_tokens", "encoder_and_decoder", "forward_pass", "generating_programs"]

_ENCODED = "encoder_sequence"


@dataclass(frozen=True, slots=True)
class ExportableProgram:
    """A module that takes ``*inputs``, and what these are. The model is its submodule ``model``."""

    module: nn.Module
    signature: Signature


def generating_programs(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, ExportableProgram]:
    """What ``model`` generates with, by the name of its file, the main program last: ``model``, or ``encoder`` and ``decoder``; empty where it does not.

    Raises:
        UnexportableError: see ``cached_step``.
    """
    both = encoder_and_decoder(model, inputs)
    if both is not None:
        return dict(zip(("encoder", "decoder"), both, strict=True))
    step = cached_step(model, inputs)
    return {} if step is None else {"model": step}


def forward_pass(model: nn.Module, inputs: Mapping[str, Tensor], *, sequence: bool) -> ExportableProgram:
    """Logits from a model's own inputs; batches of any size.

    Args:
        model: any.
        inputs: of one call.
        sequence: whether texts may have any length, too.
    """
    dims = tuple(Input(name, _dims(name, value, inputs) if sequence else (BATCH, *value.shape[1:]), value.dtype) for name, value in inputs.items())
    return ExportableProgram(_Logits(model, list(inputs)), Signature(dims, longest=context_tokens(model) if sequence else None))


def cached_step(model: nn.Module, inputs: Mapping[str, Tensor]) -> ExportableProgram | None:
    """Logits of new tokens and the longer cache, from new tokens and the cache of those before them; None where ``model`` is no decoder that generates.

    An empty cache makes it the forward pass, so that one program scores, reads the prompt and decodes. The mask is over past and new tokens; positions
    are counted by it, so that a batch may be padded on its left.

    Raises:
        UnexportableError: the model keeps something else than keys and values, or takes other inputs than tokens and a mask; says what.
    """
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return None
    entry = generation_entries(model, inputs).get("decode")
    if entry is None:
        return None
    other = sorted(set(inputs) - {"input_ids", "attention_mask"})
    if other:
        raise UnexportableError(f"one with {', '.join(other)}")
    states = _states(entry.inputs["past_key_values"], "past_key_values.{}.{}", PAST)
    taken = (Input("input_ids", (BATCH, SEQUENCE), torch.int64), Input("attention_mask", (BATCH, PAST_AND_SEQUENCE), torch.int64), *states)
    outputs = ("logits", *(state.name.replace("past_key_values", "present") for state in states))
    return ExportableProgram(_CachedStep(model), Signature(taken, outputs, context_tokens(model)))


def encoder_and_decoder(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[ExportableProgram, ExportableProgram] | None:
    """The encoder and a cached step of the decoder; None where ``model`` has no encoder that it generates from.

    The encoder returns the keys and values of the decoder's attention to it, which are the same in every step.

    Raises:
        UnexportableError: the model keeps something else than keys and values.
    """
    if not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return None
    entries = generation_entries(model, inputs)
    if not entries:
        return None
    cache = entries["decode"].inputs["past_key_values"]
    given = {name: value for name, value in inputs.items() if not name.startswith("decoder_")}
    texts = {name: _dims(name, value, given) for name, value in given.items()}
    encoded: int | str = _ENCODED if any(SEQUENCE in dims for dims in texts.values()) else cache.cross_attention_cache.layers[0].keys.shape[2]
    crossed = _states(cache.cross_attention_cache, "past_key_values.{}.encoder.{}", encoded)
    states = _states(cache.self_attention_cache, "past_key_values.{}.decoder.{}", PAST)
    taken = tuple(Input(name, tuple(_ENCODED if dim == SEQUENCE else dim for dim in dims), given[name].dtype) for name, dims in texts.items())
    encoder = ExportableProgram(_Encoder(model, list(given)), Signature(taken, tuple(_present(crossed))))
    mask = tuple(i for i in taken if i.name == "attention_mask")
    tokens = Input("decoder_input_ids", (BATCH, SEQUENCE), torch.int64)
    step = Signature((tokens, *mask, *crossed, *states), ("logits", *_present(states)), context_tokens(model))
    return encoder, ExportableProgram(_DecoderStep(model, len(crossed), masked=bool(mask)), step)


class _Logits(nn.Module):
    """Only the main output, so that every exported graph has one."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(names)

    def forward(self, *inputs: Tensor) -> Tensor:
        return logits_of(self.model(**dict(zip(self.names, inputs, strict=True))))


class _CachedStep(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.positions = "position_ids" in inspect.signature(model.forward).parameters

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        input_ids, attention_mask, *past = inputs
        positions = {}
        if self.positions:
            positions["position_ids"] = (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, past[0].shape[2] :]
        # Without the configuration a cache of a sliding window keeps all: its length is then what the mask's length is.
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, past_key_values=_cache(past), use_cache=True, **positions)
        return (outputs.logits, *_tensors(outputs.past_key_values))


class _Encoder(nn.Module):
    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(names)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        given = dict(zip(self.names, inputs, strict=True))
        model: Any = self.model
        states = model.get_encoder()(**given).last_hidden_state
        start = torch.zeros((states.shape[0], 1), dtype=torch.int64, device=states.device)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        mask = {name: value for name, value in given.items() if name == "attention_mask"}
        # Of this step only keys and values of the encoder's states are used; torch.export drops the rest.
        outputs = model(encoder_outputs=(states,), decoder_input_ids=start, past_key_values=cache, use_cache=True, **mask)
        return tuple(_tensors(outputs.past_key_values.cross_attention_cache))


class _DecoderStep(nn.Module):
    def __init__(self, model: nn.Module, crossed: int, *, masked: bool) -> None:
        super().__init__()
        self.model = model
        self.crossed = crossed
        self.masked = masked

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        from transformers.cache_utils import EncoderDecoderCache

        decoder_input_ids, *states = inputs
        mask = {"attention_mask": states.pop(0)} if self.masked else {}
        crossed, past = states[: self.crossed], states[self.crossed :]
        model: Any = self.model
        # Keys and values are there already, so that of the encoder's states only the shape is read.
        encoded = crossed[0].new_zeros(()).expand(crossed[0].shape[0], crossed[0].shape[2], _width(model.config))
        outputs = model(
            encoder_outputs=(encoded,),
            decoder_input_ids=decoder_input_ids,
            past_key_values=EncoderDecoderCache(_cache(past), _cache(crossed)),
            use_cache=True,
            **mask,
        )
        return (outputs.logits, *_tensors(outputs.past_key_values.self_attention_cache))


def _width(config: Any) -> int:
    return int(getattr(config, "d_model", None) or config.hidden_size)


def _cache(tensors: Sequence[Tensor]) -> Any:
    from transformers.cache_utils import DynamicCache

    return DynamicCache(list(zip(tensors[::2], tensors[1::2], strict=True)))


def _tensors(cache: Any) -> list[Tensor]:
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


def _states(cache: Any, named: str, length: int | str) -> tuple[Input, ...]:
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    if not isinstance(cache, DynamicCache) or any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers):
        raise UnexportableError(f"one with a cache of {', '.join(sorted({type(layer).__name__ for layer in cache.layers}))}")
    # A model that has lost blocks fills fewer layers than its configuration names.
    layers = [layer for layer in cache.layers if layer.keys is not None]
    if layers != cache.layers[: len(layers)]:
        raise UnexportableError("one whose first layers keep nothing")
    parts = [(i, part, value) for i, layer in enumerate(layers) for part, value in (("key", layer.keys), ("value", layer.values))]
    return tuple(Input(named.format(i, part), (BATCH, v.shape[1], length, v.shape[3]), v.dtype, state=True) for i, part, v in parts)


def _present(states: Sequence[Input]) -> list[str]:
    return [state.name.replace("past_key_values", "present", 1) for state in states]


def _dims(name: str, value: Tensor, inputs: Mapping[str, Tensor]) -> tuple[int | str, ...]:
    """Texts are integers ``[batch, sequence]`` beside ``input_ids``; a decoder's have a length of their own."""
    side = "decoder_" if name.startswith("decoder_") else ""
    tokens = inputs.get(f"{side}input_ids")
    if tokens is None or value.ndim != 2 or value.shape != tokens.shape or value.is_floating_point():
        return (BATCH, *value.shape[1:])
    return (BATCH, side + SEQUENCE)


def context_tokens(model: nn.Module) -> int | None:
    """Positions that the model can count; None where it does not say."""
    config = getattr(model, "config", None)
    longest = getattr(config, "max_target_positions", getattr(config, "max_position_embeddings", None))
    if not isinstance(longest, int):
        return None
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            # Their positions begin behind that of padding.
            longest = min(longest, module.num_embeddings) - module.padding_idx - 1
    return longest
