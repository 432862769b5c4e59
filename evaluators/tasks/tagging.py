"""Words with a class each, as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError

__all__ = ["tagged"]


def tagged(tokenizer: Any, texts: Sequence[Any], labels: Sequence[Any], sequence: int, place: str) -> dict[str, NDArray[np.int64]]:
    """``input_ids``, ``attention_mask`` and ``labels``, ``[texts, sequence]`` each: a word's class stands at its first token, -100 elsewhere.

    Args:
        tokenizer: a fast one, which knows the word of a token.
        texts: lists of words.
        labels: lists of classes, one a word.
        sequence: tokens of a text.
        place: for messages.

    Raises:
        UserError: words and classes that do not fit, a slow tokenizer.
    """
    if not tokenizer.is_fast:
        raise UserError("data.preprocessing.tokenizer: classes of tokens need a fast tokenizer (tokenizer.json)")
    for i, (words, classes) in enumerate(zip(texts, labels, strict=True)):
        if not isinstance(words, list) or not isinstance(classes, list) or len(words) != len(classes):
            raise UserError(f"{place}: example {i} is {words!r:.80} with {classes!r:.80}; accepted: a list of words in text, a class of each in label")
    encoded = tokenizer(list(texts), is_split_into_words=True, padding="max_length", truncation=True, max_length=sequence, return_tensors="np")
    found = np.full(encoded["input_ids"].shape, -100, dtype=np.int64)
    for i, classes in enumerate(labels):
        before = None
        for at, word in enumerate(encoded.word_ids(i)):
            if word is not None and word != before:
                found[i, at] = classes[word]
            before = word
    return {"input_ids": encoded["input_ids"].astype(np.int64), "attention_mask": encoded["attention_mask"].astype(np.int64), "labels": found}
