"""Every state of a tiny world with an actor whose process is hired: as in test_hires.py, with one trouble more.

A call may come early, while another is open. An actor's call runs once at most, whatever happens, and later ones run
later: that is looked at with every call that begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest
from tests.engine.wire import FUNCTION, Host
from tests.marks import later
from tests.sim.test_hired_actors import (
    calls_overtake_what_is_with_the_node,
    later_calls_do_not_wait,
)
from tests.worlds.test_hires import CALLS, HONEST, Little, Wrong, explore

from stealmesh_engine import effects as fx
from stealmesh_engine.events import ChunkDone, HireEnded, Retracted, WorkerLost, WorkerReady
from stealmesh_protocol.messages import JobKind, JobSpec

TROUBLE = ("die", "late", "fence", "early")


class LittleActor(Little):
    """The same world, whose worker is the process of an actor. Another life gets another process."""

    troubles: ClassVar[tuple[str, ...]] = TROUBLE
    retries: ClassVar[int] = 0

    def __init__(self, budgets: dict[str, int]) -> None:
        self.process = 0
        """By which number its node knows the process; 0: there is none."""
        self.last = 0
        """The number of the last one that there was. Orders for one that has died are read by nobody."""
        super().__init__(budgets)

    def spec(self) -> JobSpec:
        return JobSpec(
            self.job,
            JobKind.SUBMIT,
            self.client.id,
            "f",
            FUNCTION,
            life=1,
            restarts=9,
            retries=self.retries,
        )

    def perform(self, host: Host, effect: fx.Effect) -> None:
        if isinstance(effect, fx.RunChunk) and effect.worker != self.process:
            if self.process:
                raise Wrong("two processes of one actor")
            if effect.worker == self.last:
                return
            self.process = self.last = effect.worker
            self.node.inbox.append(WorkerReady(effect.worker))
        if isinstance(effect, fx.StopWorker):
            if effect.worker == self.process:
                self._ends(effect.reason)
        elif isinstance(effect, fx.Retract):
            chunk = self.queue.pop().chunk if self.queue else None
            self.node.inbox.append(Retracted(effect.worker, chunk))
        elif isinstance(effect, fx.HireOut) and effect.worker != self.process:
            self.node.inbox.append(HireEnded(effect.worker, effect.chunk))  # it has died
        else:
            super().perform(host, effect)

    def enabled(self) -> list[str]:
        may = super().enabled()
        if not self.process and "die" in may:
            may.remove("die")
        if self.fed == CALLS and "early" in may:
            may.remove("early")
        return may

    def _early(self) -> None:
        """The program does not wait for the call that is open."""
        self.budgets["early"] -= 1
        self.feed()

    def _order(self) -> None:
        before = dict(self.ran)
        super()._order()
        for item, times in self.ran.items():
            if times == before.get(item, 0):
                continue
            if times > 1 + self.retries:
                raise Wrong(f"call {item} runs again")
            if item < max(before, default=-1) and not self.retries:
                raise Wrong(f"call {item} runs after a later one")

    def _done(self) -> None:
        if self.hired is not None:
            super()._done()
            return
        assert self.runs is not None
        number, self.runs = self.runs[0], None
        self.hear(self.node, ChunkDone(self.process, number, 0, b"result", 0.001))

    def _hire_ends(self) -> None:
        for ended in self._end_of_hire():
            self.hear(self.node, ended)

    def _end_of_hire(self) -> list[HireEnded]:
        if self.hired is None:
            return []
        number, self.hired = self.hired.chunk, None
        self.orders.clear()
        _, lid, item = self.runs or (0, 0, -1)
        return [HireEnded(self.process, number, lid, item)]

    def _die(self) -> None:
        self.budgets["die"] -= 1
        self._ends("killed by signal 9")

    def _ends(self, reason: str) -> None:
        """With all that it had. Its node hears so in a moment."""
        self.node.inbox.extend(self._end_of_hire())
        running, self.runs = self.runs, None
        number = None if running is None else running[0]
        self.queue.clear()
        self.node.inbox.append(WorkerLost(self.process, number, reason, number is not None))
        self.process = 0

    def finish(self) -> None:
        self.run(HONEST, until=lambda: len(self.delivered) == CALLS)

    def key(self) -> object:
        lives = self.client.core.owner.jobs[self.job].lives
        here = self.node.core.holder.actors.lives
        assert lives is not None
        return super().key(), self.process, lives.number, lives.home, tuple(here.values())


class LittleRetried(LittleActor):
    """A call that had begun when its life ended runs once more."""

    retries: ClassVar[int] = 1


def test_every_state_without_trouble() -> None:
    assert explore({}, 2000, LittleActor) > 5


@pytest.mark.timeout(900)
@pytest.mark.parametrize("trouble", ["die", "early", *later("late", "fence")])
def test_every_state_with_one_trouble(trouble: str) -> None:
    assert explore({trouble: 1}, 20_000, LittleActor) > explore({}, 2000, LittleActor)


def test_every_state_with_a_death_and_another_try() -> None:
    assert explore({"die": 1}, 20_000, LittleRetried) > explore({}, 2000, LittleRetried)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    "troubles",
    [("die", "early"), ("early", "late"), ("early", "fence"), ("die", "late"), ("die", "fence")],
)
def test_every_state_with_two_troubles(troubles: tuple[str, str]) -> None:
    explore(dict.fromkeys(troubles, 1), 200_000, LittleActor)


# ---------------------------------------------------------------- mutants


@pytest.mark.parametrize(
    ("mutate", "troubles"),
    [
        (later_calls_do_not_wait, ("early",)),
        (calls_overtake_what_is_with_the_node, ("early", "late")),
    ],
    ids=lambda each: each.__name__ if callable(each) else "+".join(each),
)
def test_a_mutant_is_found(
    mutate: Callable[[pytest.MonkeyPatch], None],
    troubles: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutate(monkeypatch)
    with pytest.raises(Wrong):
        explore(dict.fromkeys(troubles, 1), 50_000, LittleActor)
