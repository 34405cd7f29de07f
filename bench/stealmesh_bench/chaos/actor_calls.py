"""`--job actors`: calls of actors. Some actors are made again after a death; each call ends once.

A call returns what its object has come to: the fold of all calls of this life. So the calls that returned must
be those that the life ran, in order, none left out and none twice. What does not return must be an ActorDied,
and only if a life has ended meanwhile. Decides which actors there are. Refuses to know what is broken.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import Any

from stealmesh import ActorDied
from stealmesh_bench.chaos.ledger import Ledger, answer, noted_sleep
from stealmesh_bench.chaos.workload import Stuck, WorkloadRun

CALL_SECONDS = 0.005
BURST = 20
"""Calls that are made before the first one is waited for."""
RESTARTS = (0, 3, 1, 100)
"""Of the actors, in turn; one that is not made again any more is replaced by a new one."""
DEATH_TOLD_SECONDS = 5.0
"""Within this time after a call failed with its actor, the handle knows of the death."""


@dataclass(frozen=True, slots=True)
class Folded:
    """What a call returns."""

    item: int
    life: tuple[int, float]
    """The object's process, and when it was made."""
    calls: int
    """How many calls this life has run, with this one."""
    fold: int
    """Of their numbers, in order."""


class Folder:
    """The object: it folds the numbers of its calls."""

    def __init__(self, log: str, seconds: float) -> None:
        self.log = log
        self.seconds = seconds
        self.life = os.getpid(), time.monotonic()
        self.calls = self.fold = 0

    def add(self, item: int) -> Folded:
        noted_sleep(self.log, self.seconds, item)
        self.calls, self.fold = self.calls + 1, folded(self.fold, item)
        return Folded(item, self.life, self.calls, self.fold)


def folded(fold: int, item: int) -> int:
    return answer(fold ^ answer(item))


class SequentialFold:
    """What the calls of one actor must return, one after the other."""

    def __init__(self) -> None:
        self.life = (0, 0.0)
        self.calls = self.fold = 0

    def is_right(self, found: Folded, item: int) -> bool:
        """Is this what the next call that returned must have come to?"""
        if found.life != self.life:
            if found.life[1] < self.life[1]:
                return False  # a later call ran in an earlier life
            self.life, self.calls, self.fold = found.life, 0, 0
        self.calls, self.fold = self.calls + 1, folded(self.fold, item)
        return (found.item, found.calls, found.fold) == (item, self.calls, self.fold)


class ActorCaller:
    """A thread that makes the calls of one actor after the other, all with the same number of restarts."""

    def __init__(self, run: WorkloadRun, restarts: int, lock: threading.Lock) -> None:
        assert run.account.ledger is not None
        self.run = run
        self.ledger: Ledger = run.account.ledger
        self.restarts = restarts
        self.lock = lock
        """Held while the account is changed."""
        self.stuck = ""
        self.died = self.deaths = 0
        """Calls that failed with their actor, and lives that ended."""
        self.actor: Any = None
        self.sequence = SequentialFold()
        self.thread = threading.Thread(target=self._call_on, name="chaos-actor", daemon=True)

    def _call_on(self) -> None:
        try:
            while self.run.lasting:
                self._burst()
            self._replace()
        except Stuck as stuck:
            self.stuck = str(stuck)
        except Exception as error:  # noqa: BLE001 - it is told as a breach
            self._fails(f"the program that calls an actor: {error!r}")

    def _burst(self) -> None:
        """Some calls of a living actor. Each must end."""
        before = len(self.actor.deaths) if self.actor is not None else 0
        if self.actor is None or before > self.restarts:
            self._replace()
            view = self.run.mesh.options(restarts=self.restarts)
            self.actor, before = view.actor(Folder, self.run.log, CALL_SECONDS), 0
            self.sequence = SequentialFold()
        with self.lock:
            items = self.ledger.take(BURST)
        calls = [(item, self.actor.add(item)) for item in items]
        died = [item for item, future in calls if not self._ended(item, future)]
        if died and not self._more_deaths(before):
            self._fails(f"calls {died[:5]} failed with an actor that has not died since")

    def _ended(self, item: int, future: Any) -> bool:
        """Did this call return anything, or fail in its own right? False: its actor died. Raises Stuck."""
        error = self.run.error_of(future, f"call {item} of an actor")
        if isinstance(error, ActorDied):
            with self.lock:
                self.died += 1
                self.ledger.came(item, right=True)
            return False
        if error is not None:
            self._fails(f"call {item} of an actor raised {error!r}")
            return True
        found = future.result()
        with self.lock:
            self.ledger.came(found.item, right=self.sequence.is_right(found, item))
            self.run.account.goodput.add(self.run.account.now())
        return True

    def _more_deaths(self, than: int) -> bool:
        """Has another life ended? The handle hears of it about when the calls do."""
        until = time.monotonic() + DEATH_TOLD_SECONDS
        while len(self.actor.deaths) <= than:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def _replace(self) -> None:
        actor, self.actor = self.actor, None
        if actor is not None:
            self.deaths += len(actor.deaths)
            actor.shutdown(wait=False)

    def _fails(self, text: str) -> None:
        with self.lock:
            self.run.account.fails(text)


def perform(run: WorkloadRun) -> None:
    """Calls of as many actors as there are nodes, at least four, for as long as the scenario lasts."""
    account, lock = run.account, threading.Lock()
    account.even, account.only_once = False, True
    callers = [
        ActorCaller(run, RESTARTS[number % len(RESTARTS)], lock)
        for number in range(max(len(RESTARTS), run.nodes))
    ]
    for caller in callers:
        caller.thread.start()
    for caller in callers:
        caller.thread.join()
    died, deaths = (sum(getattr(each, what) for each in callers) for what in ("died", "deaths"))
    account.notes.append(f"{died} calls failed by name with their actors; {deaths} lives ended")
    stuck = [caller.stuck for caller in callers if caller.stuck]
    if stuck:
        raise Stuck(f"{len(stuck)} actors: {stuck[0]}")
