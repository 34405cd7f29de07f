"""Worlds in which the holder of a token misbehaves: the same lies as an insider's, and nothing is excused.

A submit token may submit jobs of its own, a view token may look. So whatever such a guest says, no job of others may
be wrong, late without end or lost, also where an insider with the mesh key may spoil it: as a keeper of a durable job,
by claiming to lead one, by cancelling. Refuses to know how lies are made (`lies.py`) and judged (`insider.py`).
"""

from __future__ import annotations

from random import Random
from typing import Any

from stealmesh_engine.effects import Dial
from stealmesh_engine.events import CameBy
from stealmesh_protocol.messages import Grant, Launch, Message
from stealmesh_protocol.passes import NONCE_OCTETS, KeyRole, Pass, life_id, proof_of, sealed
from stealmesh_sim.insider import InsiderOutcome, InsiderWorld, Overhearing
from stealmesh_sim.network import Station
from stealmesh_sim.process import Process
from stealmesh_sim.value_checks import ValueChecks

MARK, SECRET = "0a0b0c0d", bytes(range(32))
"""The mesh key's fingerprint, and what passes are sealed with."""


class GuestWire(Overhearing):
    """A network that says of the guest's connections with which key they were made."""

    role = KeyRole.VIEW

    def _shake_hands(self, dialler: Station, target: Station, effect: Dial, until: float) -> None:
        before = self._numbers
        super()._shake_hands(dialler, target, effect, until)
        if dialler is self.insider and self._numbers > before:
            connection = self.connections[self._numbers]
            pipe = connection.pipes[0]
            pipe.link = target.next_accepted()
            target.ends[pipe.link] = (connection, 1)
            target.hear(CameBy(pipe.link, self.role))

    def _claims(self, message: Message) -> None:
        if isinstance(message, Grant | Launch):
            self.forged.add(message.spec.job)


class _OneId(Random):
    """Draws this id, and no other."""

    def __init__(self, life: bytes) -> None:
        super().__init__()
        self._life = life

    def randbytes(self, n: int) -> bytes:
        assert n == len(self._life), "the length of an id"
        return self._life


class GuestWorld(InsiderWorld):
    """A small world with one guest that lies."""

    wire_class = GuestWire

    def __init__(
        self, seed: int, recipes: list[int] | None = None, known: set[str] | None = None
    ) -> None:
        super().__init__(seed, recipes, known)
        # It has one id, by its proof, and it is nobody's keeper: nothing is excused.
        self.introduces, self.claims, self.wire.welcomes = False, True, None
        self.checkers.values = ValueChecks(self)

    def _start(self, *told: Any, **options: Any) -> Process:
        process = super()._start(*told, **options)
        guests = process.core.links.guests
        guests._secrets, guests._marks = ((MARK, SECRET),), frozenset({MARK})
        return process

    def _insider(self, rng: Random, seeds: list[str]) -> Process:
        role = rng.choice((KeyRole.SUBMIT, KeyRole.SUBMIT, KeyRole.VIEW))
        assert isinstance(self.wire, GuestWire)
        self.wire.role = role
        told = Pass(role, "laptop")
        seal, nonce = sealed(SECRET, told), rng.randbytes(NONCE_OCTETS)
        ids, self._ids = self._ids, _OneId(life_id(seal, nonce))
        guest = self.client("x", seeds=seeds)
        self._ids = ids
        guest.core.links.introductions._proof = proof_of(told, seal, nonce)
        return guest


def play_guest(
    seed: int, recipes: list[int] | None = None, known: set[str] | None = None
) -> InsiderOutcome:
    """One world to its end."""
    return GuestWorld(seed, recipes, known).play()
