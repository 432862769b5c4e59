import pytest

from evaluators.tasks.measures.texts import TEXTS

TEXTS_SAID = ["the cat sat on the mat", "a dog ran far away from home", "it was very happy and wanted to play"]
REFERENCES = ["the cat sat on the mat", "a dog ran away from its home", "it was happy and it wanted to sleep"]


def test_bleu_is_that_of_the_corpus():
    from sacrebleu.metrics import BLEU

    expected = BLEU().corpus_score(TEXTS_SAID, [REFERENCES]).score / 100
    assert TEXTS["bleu"](TEXTS_SAID, REFERENCES).mean() == pytest.approx(expected)
    assert 0.2 < expected < 0.9


def test_rouge_l_is_f1_of_the_longest_common_subsequence():
    first, second, _ = TEXTS["rouge_l"](TEXTS_SAID, REFERENCES)
    assert first == pytest.approx(1)
    # "a dog ran away from home": six words in order, of seven on either side.
    assert second == pytest.approx(6 / 7)


def test_what_is_the_same_is_perfect():
    for name in ("bleu", "rouge_l", "exact_match"):
        assert TEXTS[name](REFERENCES, REFERENCES).mean() == pytest.approx(1)


def test_a_text_matches_exactly_or_not_at_all():
    assert TEXTS["exact_match"](["positive ", "negative", "Positive"], ["positive", "positive", "positive"]).tolist() == [1, 0, 0]
