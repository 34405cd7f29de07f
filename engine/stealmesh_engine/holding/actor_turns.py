"""What the processes of actors are given next: in order, one chunk that runs and one behind it.

Decides when an actor may begin, and when a chunk may follow another: never one that has been asked to give
something back, since that would come too late. Refuses to know how large a chunk is (`dispatcher.py`), and
lives (`actors.py`).
"""

from __future__ import annotations

from math import inf
from typing import Protocol

from stealmesh_engine.config import Config
from stealmesh_engine.holding.held_job import HeldJob, HeldJobs
from stealmesh_engine.holding.slots import ActorSlot, Chunk, Slot, Slots
from stealmesh_engine.holding.stock import Stock


class Orders(Protocol):
    """What is asked of the dispatcher."""

    def order(self, held: HeldJob, worker: int, now: float) -> Chunk | None:
        """Order a chunk to run there."""

    def may_queue(self, held: HeldJob) -> bool:
        """Is it known to be cheap?"""

    def plan_patrol_of(self, slot: Slot, now: float) -> None:
        """Look after this process in time."""


class ActorTurns:
    """The calls of all actors at a node, on their way to their processes."""

    def __init__(
        self, config: Config, jobs: HeldJobs, slots: Slots, stock: Stock, orders: Orders
    ) -> None:
        self._config = config
        self._jobs = jobs
        self._slots = slots
        self._stock = stock
        self._orders = orders

    def hand_out(self, now: float) -> None:
        """Calls of each actor to its own process, in order."""
        for job in list(self._stock.actors):
            held = self._jobs[job]
            for slot in self._slots.actors_of(job):
                if slot.hired:
                    continue
                if slot.running is None and not self._may_begin(held, slot):
                    continue
                behind = slot.running is not None
                if behind and not self._may_follow(held, slot, now):
                    continue
                chunk = self._orders.order(held, slot.worker, now)
                if chunk is None:
                    continue
                if behind:
                    slot.queued = chunk
                else:
                    slot.running = chunk
                self._orders.plan_patrol_of(slot, now)

    def ready(self, worker: int, now: float) -> None:
        """The process of an actor is up: what it was ordered begins."""
        slot = self._slots.actors.get(worker)
        if slot is None:
            return
        slot.up = True
        chunk = slot.running
        held = None if chunk is None else self._jobs.get(chunk.job)
        if chunk is not None and held is not None:
            timeout = held.spec.timeout
            chunk.started = now
            chunk.begins(awaited=True, timeout_at=now + timeout if timeout else None)
            self._orders.plan_patrol_of(slot, now)

    def _may_begin(self, held: HeldJob, slot: ActorSlot) -> bool:
        """An actor takes up its resources from its first call to its end."""
        if self._stock.is_held_up(held, taken_up=bool(slot.resources)):
            return False
        slot.resources = held.spec.resources
        return True

    def _may_follow(self, held: HeldJob, slot: ActorSlot, now: float) -> bool:
        """May another chunk wait behind the running one?"""
        return (
            slot.queued is None
            and not slot.retracting
            and slot.running is not None
            and slot.running.asked_at == -inf
            and self._orders.may_queue(held)
            and is_short(slot.running, 2 * self._config.prefetch_seconds_max, now)
            and not self._stock.is_held_up(held, taken_up=True)
        )


def is_short(chunk: Chunk | None, most: float, now: float) -> bool:
    """Will it end soon for sure?"""
    return (
        chunk is not None
        and chunk.expected_seconds is not None
        and chunk.expected_seconds <= most
        and not chunk.is_overdue(now)
    )
