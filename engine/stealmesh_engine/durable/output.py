"""For a program: what an item of a durable job has printed, as far as the job's primary still has it.

Decides whom to ask, and which answer belongs to which question. Refuses to know what the primary keeps
(`ledger/output.py`). It is a question without memory on the other side: no answer, and the program asks again.
"""

from __future__ import annotations

from collections import OrderedDict

from stealmesh_engine.durable.client import DurableClient
from stealmesh_engine.durable.slices import slice_items_of
from stealmesh_engine.effects import Effect, ItemPrinted
from stealmesh_engine.events import AskOutput
from stealmesh_protocol.ids import JobId, PeerId, slice_id
from stealmesh_protocol.messages import Printed, PrintedGet

QUESTIONS_MAX = 1024


class AskedOutput:
    """The questions that are open."""

    def __init__(self, client: DurableClient, effects: list[Effect]) -> None:
        self._client = client
        self._effects = effects
        self._questions: OrderedDict[tuple[JobId, int], AskOutput] = OrderedDict()

    def ask(self, event: AskOutput, now: float) -> None:
        job, item, size = event.job, event.item, slice_items_of(event.job)
        if size is not None:
            number, item = divmod(item, size)
            job = slice_id(event.job, size.bit_length() - 1, number)
        mine = self._client.jobs.get(job)
        if mine is None or mine.primary is None:
            return  # the program asks again
        self._questions[job, item] = event
        while len(self._questions) > QUESTIONS_MAX:
            self._questions.popitem(last=False)
        self._client.links.send(mine.primary, PrintedGet(job, item), now)

    def told(self, peer: PeerId, message: Printed) -> bool:
        """False: it is no answer to us."""
        mine = self._client.jobs.get(message.job)
        if message.asked < 0 or mine is None or peer not in mine.asked:
            return False
        question = self._questions.pop((message.job, message.asked), None)
        if question is not None:
            dropped = sum(text.dropped for text in message.texts)
            text = b"".join(message.blobs)
            self._effects.append(ItemPrinted(question.job, question.item, text, dropped))
        return True
