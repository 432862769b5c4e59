"""What an exported program takes."""

from __future__ import annotations

import pytest
import torch

from compressors.errors import UserError
from compressors.targets.signature import BATCH, PAST, PAST_AND_SEQUENCE, SEQUENCE, Input, Signature

STEP = Signature(
    (
        Input("input_ids", (BATCH, SEQUENCE), torch.int64),
        Input("attention_mask", (BATCH, PAST_AND_SEQUENCE), torch.int64),
        Input("past_key_values.0.key", (BATCH, 4, PAST, 8), torch.float32, state=True),
    ),
    note="a reason",
)


def test_what_is_not_given_is_an_empty_cache_and_a_mask_that_hides_nothing() -> None:
    ids, mask, cache = STEP.arguments({"input_ids": torch.zeros(3, 5, dtype=torch.long)})
    assert ids.shape == (3, 5)
    assert mask.tolist() == [[1] * 5] * 3
    assert (cache.shape, cache.dtype) == ((3, 4, 0, 8), torch.float32)


def test_a_given_cache_counts_for_the_mask() -> None:
    given = {"input_ids": torch.zeros(3, 1, dtype=torch.long), "past_key_values.0.key": torch.zeros(3, 4, 6, 8)}
    assert STEP.arguments(given)[1].shape == (3, 7)


def test_no_two_axes_of_examples_are_alike_and_none_is_a_constant_for_torch() -> None:
    ids, mask, cache = STEP.examples({"input_ids": torch.ones(1, 1, dtype=torch.long), "attention_mask": torch.ones(1, 1, dtype=torch.long)})
    batch, sequence, past = ids.shape[0], ids.shape[1], cache.shape[2]
    assert min(batch, sequence, past) >= 2
    assert past not in (batch, sequence)
    assert mask.shape == (batch, past + sequence)


@pytest.mark.parametrize("shape", [(3, 5, 6, 8), (3, 4, 6)])
def test_another_size_is_said(shape: tuple[int, ...]) -> None:
    given = {"input_ids": torch.zeros(3, 1, dtype=torch.long), "past_key_values.0.key": torch.zeros(shape)}
    said = "x".join(map(str, shape))
    with pytest.raises(UserError, match=rf"past_key_values.0.key is {said}; the exported model takes batchx4xpastx8 \(a reason\)"):
        STEP.arguments(given)
