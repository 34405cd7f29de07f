"""The core's tables: every message and every event has a part that hears it."""

from __future__ import annotations

from typing import get_args

from stealmesh_engine import core, events
from stealmesh_protocol.conversation import INTRODUCTIONS
from stealmesh_protocol.messages import MESSAGES, Piece, Taken

AT_THE_HOST = {Piece, Taken}
"""The transport deals with these: a core never hears them."""


def test_every_message_has_a_handler() -> None:
    introductions = {MESSAGES[tag] for tag in INTRODUCTIONS}
    assert core._MESSAGES.keys() == set(MESSAGES.values()) - introductions - AT_THE_HOST


def test_every_event_has_a_handler() -> None:
    assert core._EVENTS.keys() == set(get_args(events.Event))
