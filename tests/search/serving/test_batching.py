import asyncio

import pytest

from search.serving.batching import Batcher
from search.serving.validation import Question


def question(text, count=1):
    return Question([text] * count, 1, count)


def asked(questions, *, max_batch=4, max_wait_s=0.02, concurrent=1, busy_s=0.0, fails=False, patience=None):
    """Answers to questions that are asked at once, and the batches that they came in."""
    batches = []

    async def run(batch):
        batches.append([one.inputs[0] for one in batch])
        await asyncio.sleep(busy_s)
        if fails:
            raise RuntimeError("no replica")
        return [one.inputs[0].upper() for one in batch]

    async def everything():
        batcher = Batcher(run, max_batch, max_wait_s, concurrent)
        each = (asyncio.wait_for(batcher.ask(one), patience) for one in questions)
        return await asyncio.gather(*each, return_exceptions=True)

    return asyncio.run(everything()), batches


def test_what_comes_together_is_run_together_and_answered_apart():
    answers, batches = asked([question(t) for t in "abcdef"])
    assert answers == list("ABCDEF")
    assert batches == [["a", "b", "c", "d"], ["e", "f"]]


def test_a_batch_counts_inputs_not_questions():
    _, batches = asked([question("a", 3), question("b", 2), question("c", 9), question("d")])
    assert batches == [["a"], ["b"], ["c"], ["d"]]


def test_one_alone_does_not_wait_for_ever():
    assert asked([question("a")], max_batch=100)[0] == ["A"]
    assert asked([question("a")], max_batch=100, max_wait_s=0)[0] == ["A"]


def test_while_replicas_are_busy_questions_gather():
    _, batches = asked([question(t) for t in "abcdefgh"], max_batch=2, busy_s=0.01, concurrent=2)
    assert [len(batch) for batch in batches] == [2, 2, 2, 2]


def test_a_failure_belongs_to_its_batch_and_the_next_one_is_run():
    answers, batches = asked([question(t) for t in "abcdef"], fails=True)
    assert [str(answer) for answer in answers] == ["no replica"] * 6
    assert len(batches) == 2


def test_a_question_that_was_given_up_is_not_run():
    answers, batches = asked([question(t) for t in "ab"], max_batch=1, max_wait_s=0, busy_s=0.2, patience=0.05)
    assert all(isinstance(answer, TimeoutError) for answer in answers)
    assert batches == [["a"]]


@pytest.mark.parametrize("concurrent", [1, 2, 3])
def test_every_question_gets_its_own_answer(concurrent):
    texts = [f"t{i}" for i in range(200)]
    answers, batches = asked([question(t) for t in texts], max_batch=7, max_wait_s=0.001, concurrent=concurrent)
    assert answers == [t.upper() for t in texts]
    assert max(len(batch) for batch in batches) == 7
