"""What is said about hired workers: the page of `messages.py` on them.

Refuses to know how an order gets to a hired worker, and its answer back: octets go between two processes of one
host, and no peer hears of them.

Shape of a hire: the owner of a job asks a node of its host for a worker (HIRE). The node gives it one that has
nothing to do (HIRED), or none (HIRE_OVER). From then on the owner's ledger leases single items to that node as ever,
but the GRANT and the REPORT go between owner and worker, past the node. The owner ends the hire with DISMISS; the
node and the worker end it when they need to. In each case the node says HIRE_OVER, which names what it goes on with
itself: the item that its worker was at. All else of the hire was not begun.
"""

from __future__ import annotations

from typing import ClassVar

from stealmesh_protocol.ids import JobId
from stealmesh_protocol.message import Message
from stealmesh_protocol.parts import Lease


class Hire(Message):
    """The owner of a job wants a worker of the receiver's for single items. No custody message: a node of an
    earlier version does not know it, and is not hired from."""

    TAG: ClassVar[int] = 107
    job: JobId
    hire: int
    """Counts the hires of this owner."""


class Hired(Message):
    """It has one from now on, and finds it under this number."""

    TAG: ClassVar[int] = 108
    CUSTODY: ClassVar[bool] = True
    job: JobId
    hire: int


class HireOver(Message):
    """The hire is over, or there is none."""

    TAG: ClassVar[int] = 109
    CUSTODY: ClassVar[bool] = True
    job: JobId
    hire: int
    taken: list[Lease] = []
    """What the node goes on with: at most one item."""


class Dismiss(Message):
    """The owner needs the worker no more."""

    TAG: ClassVar[int] = 110
    CUSTODY: ClassVar[bool] = True
    job: JobId
    hire: int
