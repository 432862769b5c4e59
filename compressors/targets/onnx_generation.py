"""Runs exported models that keep a cache, step by step, and times it. Needs Python 3.9 or later, NumPy and ONNX Runtime, nothing else.

A decoder is one file: with an empty cache it reads a prompt (or scores a text), with the cache that it returned it goes on. An encoder-decoder is
``encoder.onnx`` beside ``decoder.onnx``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["PAST", "PRESENT", "Generated", "Generator", "encoded", "encoder_beside", "with_states"]

PAST, PRESENT = "past_key_values.", "present."
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}


def encoder_beside(path: Path) -> Path | None:
    """The encoder whose output a decoder's file needs."""
    encoder = path.with_name(path.name.replace("decoder", "encoder"))
    return encoder if path.name.startswith("decoder") and encoder.is_file() else None


def with_states(session: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a session reads: of ``inputs``, and where they lack it an empty cache and a mask that hides nothing; the first call of a model with a cache.

    Args:
        session: an ``onnxruntime.InferenceSession``.
        inputs: arrays ``[batch, ...]`` by name; those that the session does not read are left out.
    """
    batch = len(next(iter(inputs.values())))
    complete: dict[str, Any] = {}
    for wanted in session.get_inputs():
        if wanted.name in inputs:
            complete[wanted.name] = np.ascontiguousarray(inputs[wanted.name])
        elif wanted.name.startswith(PAST):
            complete[wanted.name] = np.zeros([batch, *(size if isinstance(size, int) else 0 for size in wanted.shape[1:])], _TYPES[wanted.type])
        elif wanted.name == "attention_mask":
            complete[wanted.name] = np.ones(inputs["input_ids"].shape, _TYPES[wanted.type])
    return complete


@dataclass
class Generated:
    """New tokens, and how long they took.

    Attributes:
        tokens: ``[batch, new]``; a text that has ended repeats its last token.
        first_token_ms: reading the prompt (and the encoder), the first token included.
        token_ms: of each further token.
    """

    tokens: Any
    first_token_ms: float
    token_ms: list[float] = field(default_factory=list)

    def statistics(self) -> dict[str, float]:
        """Time to the first token, median of the others, and tokens a second of each text while decoding."""
        found = {"first_token_ms": self.first_token_ms}
        if self.token_ms:
            found["token_ms"] = float(np.median(self.token_ms))
            found["tokens_per_second"] = 1e3 * len(self.token_ms) / sum(self.token_ms)
        return found


class Generator:
    """An exported model that generates.

    Args:
        path: ``model.onnx``, or ``decoder.onnx`` beside its encoder.
        threads: within an operator; 0 is ONNX Runtime's choice.
        providers: ONNX Runtime's, in the order of preference.

    Raises:
        ValueError: the file keeps no cache.
    """

    def __init__(self, path: Path, threads: int = 0, providers: Sequence[str] = ("CPUExecutionProvider",)) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        encoder = encoder_beside(path)
        self._values = onnxruntime.OrtValue.ortvalue_from_numpy
        self.session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
        self._encoder = onnxruntime.InferenceSession(str(encoder), options, providers=list(providers)) if encoder else None
        self._outputs = [o.name for o in self.session.get_outputs()]
        if not any(name.startswith(PRESENT) for name in self._outputs):
            note = self.session.get_modelmeta().custom_metadata_map.get("compareto.note", "it is no model that generates")
            raise ValueError(f"{path.name} keeps no cache: {note}")
        longest = self.session.get_modelmeta().custom_metadata_map.get("compareto.longest")
        self.longest = int(longest) if longest else None
        self.tokens_name = "input_ids" if self._encoder is None else "decoder_input_ids"

    def generate(self, inputs: Mapping[str, Any], new_tokens: int, *, temperature: float = 0.0, seed: int = 0, stop: Sequence[int] = ()) -> Generated:
        """Continue texts.

        Args:
            inputs: ``input_ids`` ``[batch, sequence]``; of texts of several lengths also ``attention_mask``, zero where they are padded, on the left. Of an
                encoder-decoder what the encoder reads, and ``decoder_input_ids`` to start from.
            new_tokens: at most; fewer where every text has ended.
            temperature: 0 takes the likeliest token, else one is drawn.
            seed: of the draws.
            stop: tokens that end a text.

        Raises:
            ValueError: prompt and new tokens are longer than the model can count.
        """
        length = inputs[self.tokens_name].shape[1]
        if self.longest and length + new_tokens > self.longest:
            raise ValueError(f"{length} tokens and {new_tokens} new ones; accepted: at most {self.longest} together")
        random = np.random.default_rng(seed)
        start = time.perf_counter()
        feeds = self._first(inputs)
        ended = np.zeros(len(inputs[self.tokens_name]), dtype=bool)
        tokens: list[Any] = []
        times: list[float] = []
        while True:
            logits, *states = self.session.run_with_ort_values(self._outputs, feeds)
            chosen = _choose(logits.numpy()[:, -1], temperature, random)
            chosen = np.where(ended, tokens[-1] if tokens else chosen, chosen)
            tokens.append(chosen)
            ended |= np.isin(chosen, stop)
            times.append(1e3 * (time.perf_counter() - start))
            if len(tokens) == new_tokens or ended.all():
                return Generated(np.stack(tokens, axis=1), times[0], times[1:])
            start = time.perf_counter()
            feeds.update({PAST + name[len(PRESENT) :]: state for name, state in zip(self._outputs[1:], states)})  # noqa: B905 - Python 3.9
            feeds[self.tokens_name] = self._values(chosen[:, None])
            if self._encoder is None:
                mask = feeds["attention_mask"].numpy()
                feeds["attention_mask"] = self._values(np.concatenate([mask, np.ones_like(mask[:, :1])], axis=1))

    def _first(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        given = dict(inputs)
        if self._encoder is not None:
            given.update(encoded(self._encoder, inputs))
        return {name: self._values(value) for name, value in with_states(self.session, given).items()}


def encoded(encoder: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """An encoder's output as inputs of its decoder, the mask of the encoder's texts included."""
    complete = with_states(encoder, inputs)
    states = dict(zip((PAST + o.name[len(PRESENT) :] for o in encoder.get_outputs()), encoder.run(None, complete)))  # noqa: B905 - Python 3.9
    return {**{name: value for name, value in complete.items() if name == "attention_mask"}, **states}


def _choose(logits: Any, temperature: float, random: Any) -> Any:
    if temperature <= 0:
        return logits.argmax(-1).astype(np.int64)
    # The largest of logits with Gumbel noise is a draw from their softmax.
    return (logits / temperature + random.gumbel(size=logits.shape)).argmax(-1).astype(np.int64)
