"""Sequence to sequence: a text becomes another, such as a summary or a translation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.errors import DivergedError
from evaluators.hub import local_or_hub
from evaluators.metric import Estimate, Metric
from evaluators.model_spec import ModelSpec
from evaluators.models import load_model
from evaluators.tasks.array_task import ArrayTask, module_predict
from evaluators.tasks.causal_lm import CausalLanguageModelling
from evaluators.tasks.intervals import interval_of
from evaluators.tasks.quality import QUALITY
from evaluators.tasks.specification import DataSpec, GenerationSpec
from evaluators.tasks.task import Predict

__all__ = ["SequenceToSequence", "judged_by_outputs", "pairs", "start_token"]


@dataclass
class SequenceToSequence(CausalLanguageModelling):
    """Texts as ``input_ids`` and ``attention_mask``; ``decoder_input_ids`` are the targets moved on by one, ``labels`` the targets, -100 behind their end.

    Attributes:
        generation: how many texts are told whole, and how long.
        references: texts that they should be, by split.
        tokenizer: from tokens to texts.
        start: the token that begins a target.
    """

    name: str = "seq2seq"
    quality: tuple[Metric, ...] = QUALITY["seq2seq"]

    generation: GenerationSpec = field(default_factory=GenerationSpec)
    references: dict[str, list[str]] = field(default_factory=dict)
    tokenizer: Any = None
    start: int = 0

    def per_example(self, predict: Predict, split: str) -> dict[str, NDArray[Any]]:
        """For each metric its contributions: of perplexity and loss each text's, of the others those that were told whole."""
        names = [metric.name for metric in self.quality]
        found = {name: values for name, values in super().per_example(predict, split).items() if name in names}
        if not self.references:
            return found
        from evaluators.tasks.measures.texts import TEXTS

        said = self.told(predict, split)
        return {**{name: TEXTS[name](said, self.references[split][: len(said)]) for name in names if name in TEXTS}, **found}

    def told(self, predict: Predict, split: str) -> list[str]:
        """Whole texts, the most probable next token each time, until they end.

        Raises:
            DivergedError: outputs that are not finite.
        """
        data = {name: value[: self.generation.prompts] for name, value in self.arrays[split].items()}
        tokens = np.full_like(data["decoder_input_ids"], self.tokenizer.pad_token_id)
        tokens[:, 0] = self.start
        ends, said = np.zeros(len(tokens), dtype=bool), np.full_like(tokens, self.tokenizer.pad_token_id)
        for at in range(tokens.shape[1]):
            inputs = {"input_ids": data["input_ids"], "attention_mask": data["attention_mask"], "decoder_input_ids": tokens}
            last = np.asarray(predict(inputs)["logits"])[:, at]
            if not np.isfinite(last).all():
                raise DivergedError(f"the model's outputs on {split} are not finite")
            following = np.where(ends, self.tokenizer.pad_token_id, last.argmax(-1))
            said[:, at] = following
            ends |= following == self.tokenizer.eos_token_id
            if ends.all():
                break
            if at + 1 < tokens.shape[1]:
                tokens[:, at + 1] = following
        return list(self.tokenizer.batch_decode(said, skip_special_tokens=True))

    def summarise(self, values: Mapping[str, NDArray[Any]]) -> dict[str, Estimate]:
        """Perplexity as ever; of the others the mean."""
        usual = super().summarise(values)
        return {name: usual[name] if name in usual else interval_of(found) for name, found in values.items()}


def start_token(model: ModelSpec, folder: Path) -> int:
    """What a pretrained model begins targets with."""
    from transformers import AutoConfig

    with local_or_hub("model.pretrained", str(model.pretrained), folder) as source:
        return int(AutoConfig.from_pretrained(source).decoder_start_token_id or 0)


def pairs(tokenizer: Any, texts: list[str], targets: list[str], lengths: tuple[int, int], start: int) -> dict[str, NDArray[np.int64]]:
    """Arrays of texts and their targets, ``[texts, tokens]`` each; ``lengths`` are the most tokens of either."""
    options = {"padding": "max_length", "truncation": True, "return_tensors": "np"}
    encoded = tokenizer(texts, max_length=lengths[0], **options)
    wanted = tokenizer(text_target=targets, max_length=lengths[1], **options)
    ids = wanted["input_ids"].astype(np.int64)
    before = np.concatenate([np.full((len(ids), 1), start, dtype=np.int64), ids[:, :-1]], axis=1)
    labels = np.where(wanted["attention_mask"] == 1, ids, -100)
    return {
        "input_ids": encoded["input_ids"].astype(np.int64),
        "attention_mask": encoded["attention_mask"].astype(np.int64),
        "decoder_input_ids": before,
        "labels": labels,
    }


def judged_by_outputs(task: ArrayTask, data: DataSpec, model: ModelSpec, folder: Path) -> ArrayTask:
    """The task itself, or, where a metric needs them, with references: the targets, or what the uncompressed model says."""
    if not {"rouge_l", "bleu", "exact_match"} & {metric.name for metric in task.quality}:
        return task
    assert isinstance(task, SequenceToSequence)
    if data.generation.references == "uncompressed":
        predict = module_predict(load_model(model, folder, task))
        task.references = {split: task.told(predict, split) for split in ("search", "report")}
    else:
        # As far as a model may tell them, and without what ends them.
        for split, parts in task.arrays.items():
            wanted = parts["labels"][: data.generation.prompts]
            tokens = np.where(wanted == -100, task.tokenizer.pad_token_id, wanted)
            task.references[split] = list(task.tokenizer.batch_decode(tokens, skip_special_tokens=True))
    said = json.dumps([task.fingerprint, data.generation.model_dump(mode="json"), task.references], sort_keys=True)
    task.fingerprint = hashlib.sha256(said.encode()).hexdigest()[:16]
    return task
