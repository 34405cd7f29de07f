"""A program's looks at jobs and workers, and its wish that another program's job ends: questions go to the core, and
answers come back as plain data.

Decides nothing. Refuses to know whom the core asks (the engine's `looks.py`), and how people are shown it (`cli`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from stealmesh.futures import Future
from stealmesh_engine.effects import LookReady
from stealmesh_engine.events import AskCallOff, AskLook, Event
from stealmesh_engine.looks import Answer, story_of
from stealmesh_protocol.ids import JobId, PeerId, owner_of
from stealmesh_protocol.messages import Topic

ANSWER_SECONDS_MAX = 5.0
"""The core answers within a second; this is for a program that does not run."""


class Looking:
    """The questions of one program."""

    def __init__(
        self,
        post: Callable[[Event], None],
        condition: threading.Condition,
        nonces: Iterator[int],
    ) -> None:
        self._post = post
        self._condition = condition
        self._nonces = nonces
        self._open: dict[int, Future[list[Answer]]] = {}
        self._closed: BaseException | None = None
        self.refusal: Exception | None = None
        """Why this program may not end the jobs of others; None: it may."""

    def explain(self, job: JobId, item: int = -1) -> dict[str, Any]:
        """What has become of the job, or of the item, and what it waits for. Raises TimeoutError."""
        return story_of(self._ask(Topic.EXPLAIN, job, item), job, item)

    def stacks(self, job: JobId = b"", item: int = -1, peer: PeerId = b"") -> list[Answer]:
        """The stacks of the workers that run the item, or the job, or of all of one node. Raises TimeoutError."""
        return self._ask(Topic.STACKS, job, item, peer)

    def call_off(self, job: JobId) -> bool:
        """Have another program's job end. True: that program says that it does it. Raises NotAllowed,
        TimeoutError."""
        if self.refusal is not None:
            raise self.refusal
        answers = self._answers(lambda nonce: AskCallOff(nonce, job))
        return any(each.owns and each.id == owner_of(job).hex() for each in answers)

    def came(self, effect: LookReady) -> None:
        future = self._open.pop(effect.nonce, None)
        if future is not None:
            future.set_result(
                [msgspec.msgpack.decode(each, type=Answer) for each in effect.answers]
            )

    def close(self, error: BaseException) -> None:
        """Nothing will come any more. A question that is entered later is refused."""
        self._closed = error
        while self._open:
            _, future = self._open.popitem()
            future.set_exception(error)

    def _ask(self, topic: Topic, job: JobId, item: int, peer: PeerId = b"") -> list[Answer]:
        return self._answers(lambda nonce: AskLook(nonce, topic, job, item, peer))

    def _answers(self, question: Callable[[int], Event]) -> list[Answer]:
        future: Future[list[Answer]] = Future(self._condition)
        nonce = next(self._nonces)
        self._open[nonce] = future
        if self._closed is not None:
            self._open.pop(nonce, None)
            raise self._closed
        self._post(question(nonce))
        return future.result(timeout=ANSWER_SECONDS_MAX)
