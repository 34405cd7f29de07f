"""MISSING: no initial value. In a file of its own, because workers need it without the rest of a client."""

from __future__ import annotations

from typing import Any


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()
"""No initial value: an empty job is a TypeError, as with `functools.reduce`."""
