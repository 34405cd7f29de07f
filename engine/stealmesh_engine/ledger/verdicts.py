"""What a ledger says about a contribution, and how it shows itself in numbers.

Decides nothing. Knows intervals and lease ids, and no ledger.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from stealmesh_protocol.ids import LeaseId
from stealmesh_protocol.messages import Block


class Credited(msgspec.Struct):
    """The contribution counts for these intervals (explore: the step counts, `intervals` is empty)."""

    intervals: list[tuple[int, int]] = []


class Stepped(Credited):
    """A step of a durable explore job: `intervals` has the bag that it used up, `made` those that it made."""

    made: list[tuple[Block, bytes]] = []


@dataclass(slots=True)
class Repeated:
    """The ledger has this already. It changes nothing, and the holder need not be told."""


@dataclass(slots=True)
class Stale:
    """The holder does not have these leases (they were fenced, or split off): tell it, so that it lets go."""

    lids: list[LeaseId]


Verdict = Credited | Repeated | Stale


@dataclass(slots=True)
class Figures:
    """A ledger in numbers, for status and for the checkers."""

    total: int
    done: int
    leased: int
    free: int
    leases: int
