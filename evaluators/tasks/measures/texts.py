"""Of texts against references: BLEU-4 by sacrebleu, ROUGE-L by torchmetrics, and whether they are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError
from evaluators.tasks.measures.jackknife import Floats, contributions

__all__ = ["TEXTS"]

_INSTALL = 'which is not installed: pip install "compareto[text-metrics]"'


def _bleu(texts: Sequence[str], references: Sequence[str]) -> Floats:
    """Of the corpus, from 0 to 1, 4-grams at most [Papineni2002, Post2018]."""
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise UserError(f"data.metrics: bleu needs sacrebleu, {_INSTALL}") from error
    scorer = BLEU()
    each = [scorer.corpus_score([text], [[reference]]) for text, reference in zip(texts, references, strict=True)]
    # What a corpus is judged by are sums over its texts.
    counts = np.array([[*one.counts, *one.totals, one.sys_len, one.ref_len] for one in each], dtype=np.int64)

    def score(sums: NDArray[np.int64]) -> float:
        order = (len(sums) - 2) // 2
        parts = [int(n) for n in sums]
        return BLEU.compute_bleu(parts[:order], parts[order : 2 * order], parts[-2], parts[-1], smooth_method="exp").score / 100

    whole = counts.sum(0)
    return contributions(score(whole), np.array([score(whole - one) for one in counts]))


def _rouge_l(texts: Sequence[str], references: Sequence[str]) -> Floats:
    """F1 of the longest common subsequence of words, text by text [Lin2004]."""
    try:
        from torchmetrics.functional.text import rouge_score
    except ImportError as error:
        raise UserError(f"data.metrics: rouge_l needs torchmetrics, {_INSTALL}") from error
    found = [float(rouge_score(text, reference, rouge_keys="rougeL")["rougeL_fmeasure"]) for text, reference in zip(texts, references, strict=True)]
    return np.array(found, dtype=np.float64)


def _exact_match(texts: Sequence[str], references: Sequence[str]) -> Floats:
    """The share of texts that are their references, but for white space around them: the accuracy of a task that is told as a text."""
    return np.array([text.strip() == reference.strip() for text, reference in zip(texts, references, strict=True)], dtype=np.float64)


TEXTS: dict[str, Callable[[Sequence[str], Sequence[str]], Floats]] = {"bleu": _bleu, "exact_match": _exact_match, "rouge_l": _rouge_l}
"""By name: texts and references to contributions ``[texts]``."""
