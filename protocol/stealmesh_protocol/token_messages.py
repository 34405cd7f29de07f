"""What is said about tokens: the page of `messages.py` on them.

Refuses to know who holds a token, and what it allows (passes.py).

Shape of a revocation: a program that holds the mesh key tells a node which names count no more (BARRED). A peer
that learns a new name tells all nodes that it is linked with, and tells each node that it meets what it knows. The
record is a set of names that only grows, to a bound; a new mesh key makes it void.
"""

from __future__ import annotations

from typing import ClassVar

from stealmesh_protocol.message import Message


class Barred(Message):
    """Tokens of these names count no more."""

    TAG: ClassVar[int] = 104
    CUSTODY: ClassVar[bool] = True
    names: list[str]
    """Each with the fingerprint of the mesh key that the tokens were made with, `name@0123abcd`, in order."""
