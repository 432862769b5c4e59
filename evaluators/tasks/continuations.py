"""What a language model says, against what it should: ROUGE-L and BLEU of its continuations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.errors import DivergedError, UserError
from evaluators.metric import Estimate
from evaluators.model_spec import ModelSpec
from evaluators.models import load_model
from evaluators.tasks.array_task import ArrayTask, module_predict
from evaluators.tasks.causal_lm import CausalLanguageModelling
from evaluators.tasks.intervals import mean_interval
from evaluators.tasks.specification import DataSpec, GenerationSpec
from evaluators.tasks.task import Predict

__all__ = ["Continuations", "continued", "judged_by_continuations"]


@dataclass
class Continuations(CausalLanguageModelling):
    """Blocks of tokens, of which some are continued from their start.

    Attributes:
        generation: how.
        references: tokens that should follow the prompt, ``[prompts, new_tokens]`` a split.
        tokenizer: from tokens to texts.
    """

    generation: GenerationSpec = field(default_factory=GenerationSpec)
    references: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    tokenizer: Any = None

    def per_example(self, predict: Predict, split: str) -> dict[str, NDArray[Any]]:
        """For each metric its contributions: of perplexity and loss a block each, of the others a prompt each."""
        from evaluators.tasks.measures.texts import TEXTS

        names = [metric.name for metric in self.quality]
        found = {name: values for name, values in super().per_example(predict, split).items() if name in names}
        wanted = [name for name in names if name in TEXTS]
        said = continued(predict, self._prompts(split), self.generation, self.arrays[split]["input_ids"].shape[1])
        texts, references = (self.tokenizer.batch_decode(tokens) for tokens in (said, self.references[split][: len(said)]))
        return {**{name: TEXTS[name](texts, references) for name in wanted}, **found}

    def _prompts(self, split: str) -> NDArray[np.int64]:
        chosen: NDArray[np.int64] = self.arrays[split]["input_ids"][: self.generation.prompts, : self.generation.prompt_tokens]
        return chosen

    def summarise(self, values: Mapping[str, NDArray[Any]]) -> dict[str, Estimate]:
        """Perplexity as ever; of the others the mean."""
        usual = super().summarise(values)
        return {name: usual[name] if name in usual else mean_interval(found) for name, found in values.items()}


def judged_by_continuations(task: ArrayTask, data: DataSpec, model: ModelSpec, folder: Path) -> ArrayTask:
    """The task itself, or, where a metric needs them, with continuations and their references.

    Raises:
        UserError: prompts longer than the blocks.
    """
    if not {"rouge_l", "bleu"} & {metric.name for metric in task.quality}:
        return task
    assert isinstance(task, CausalLanguageModelling)
    how, sequence = data.generation, task.arrays["train"]["input_ids"].shape[1]
    if how.prompt_tokens + how.new_tokens > sequence:
        total = f"{how.prompt_tokens} tokens of the prompt and {how.new_tokens} new ones"
        raise UserError(f"data.generation: {total}; accepted: at most {sequence} together (data.preprocessing.sequence)")
    from evaluators.tasks.making import tokenizer_of

    copied = {name: getattr(task, name) for name in CausalLanguageModelling.__dataclass_fields__}
    made = Continuations(**copied, generation=how, tokenizer=tokenizer_of(data, model, folder))
    stop = how.prompt_tokens + how.new_tokens
    if how.references == "data":
        made.references = {split: parts["input_ids"][: how.prompts, how.prompt_tokens : stop] for split, parts in task.arrays.items()}
    else:
        predict = module_predict(load_model(model, folder, task))
        made.references = {split: continued(predict, made._prompts(split), how, sequence) for split in ("search", "report")}  # noqa: SLF001 - made here
    digest = hashlib.sha256(f"{task.fingerprint}{json.dumps(how.model_dump(mode='json'), sort_keys=True)}".encode())
    for split in sorted(made.references):
        digest.update(made.references[split].tobytes())
    made.fingerprint = digest.hexdigest()[:16]
    return made


def continued(predict: Predict, prompts: NDArray[np.int64], how: GenerationSpec, sequence: int, batch: int = 64) -> NDArray[np.int64]:
    """The most probable next token, again and again, ``[prompts, new_tokens]``.

    Every pass is over ``sequence`` tokens, those to come masked: a runtime may have been given no other length.

    Raises:
        DivergedError: outputs that are not finite.
    """
    parts = []
    for start in range(0, len(prompts), batch):
        some = prompts[start : start + batch]
        tokens, mask = np.zeros((len(some), sequence), np.int64), np.zeros((len(some), sequence), np.int64)
        tokens[:, : some.shape[1]], mask[:, : some.shape[1]] = some, 1
        for at in range(some.shape[1], some.shape[1] + how.new_tokens):
            last = np.asarray(predict({"input_ids": tokens, "attention_mask": mask})["logits"])[:, at - 1]
            if not np.isfinite(last).all():
                raise DivergedError("the model's outputs are not finite while it tells a continuation")
            tokens[:, at], mask[:, at] = last.argmax(-1), 1
        parts.append(tokens[:, some.shape[1] : some.shape[1] + how.new_tokens])
    return np.concatenate(parts)
