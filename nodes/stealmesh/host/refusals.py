"""Why a mesh would not have us, as an error with a remedy that fits.

The core reports every connection that never came to be as unreachable; only the transport's
words tell a silent host from one that holds another key. Reads those words, knows nothing else.
"""

from __future__ import annotations

from stealmesh_engine.effects import JoinFailed
from stealmesh_protocol.errors import JoinRefused

FINAL_CODES = frozenset({"expired", "revoked", "role"})
"""Refusals that no other node takes back, and that waiting does not change."""

KEY_WORDS = ("did not accept this mesh key", "other security")
"""What the transport says when both sides are alive and cannot prove themselves to each other."""


def refusal(effect: JoinFailed) -> JoinRefused:
    is_about_keys = any(words in effect.text for words in KEY_WORDS)
    return JoinRefused("key" if is_about_keys else effect.code, effect.text)
