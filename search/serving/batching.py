"""Questions that come at about the same time are run together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from search.serving.validation import Question

__all__ = ["Batcher"]


@dataclass(frozen=True, slots=True)
class _Waiting:
    question: Question
    answer: asyncio.Future[Any]
    since: float


class Batcher:
    """Gathers questions until there are enough, or the first has waited for long enough; while every replica is at work, they gather by themselves.

    Args:
        run: questions to as many answers.
        max_batch: inputs that are run together; a question of more is run alone.
        max_wait_s: that a question waits for others where a replica is free.
        concurrent: batches at a time.
    """

    def __init__(self, run: Callable[[Sequence[Question]], Awaitable[Sequence[Any]]], max_batch: int, max_wait_s: float, concurrent: int) -> None:
        self._run, self._max_batch, self._max_wait_s, self._concurrent = run, max_batch, max_wait_s, concurrent
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []

    async def ask(self, question: Question) -> Any:
        """The answer; what ``run`` raises is raised for each question of the batch."""
        loop = asyncio.get_running_loop()
        if not self._workers:
            self._workers = [loop.create_task(self._work()) for _ in range(self._concurrent)]
        one = _Waiting(question, loop.create_future(), loop.time())
        self._waiting.append(one)
        self._arrived.set()
        return await one.answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._waiting:
                await self._another(None)
            # Another worker may take them meanwhile.
            while self._waiting and sum(one.question.count for one in self._waiting) < self._max_batch:
                left = self._waiting[0].since + self._max_wait_s - loop.time()
                if left <= 0:
                    break
                await self._another(left)
            batch = self._taken()
            if not batch:
                continue
            try:
                answers = await self._run([one.question for one in batch])
            except Exception as error:  # noqa: BLE001 - it belongs to those who wait for the answers
                for one in batch:
                    if not one.answer.done():
                        one.answer.set_exception(error)
                continue
            for one, answer in zip(batch, answers, strict=True):
                if not one.answer.done():
                    one.answer.set_result(answer)

    async def _another(self, seconds: float | None) -> None:
        self._arrived.clear()
        try:
            await asyncio.wait_for(self._arrived.wait(), seconds)
        except TimeoutError:
            return

    def _taken(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        count = 0
        while self._waiting and (not batch or count + self._waiting[0].question.count <= self._max_batch):
            one = self._waiting.popleft()
            # Whoever asked may have given up.
            if not one.answer.done():
                batch.append(one)
                count += one.question.count
        return batch
