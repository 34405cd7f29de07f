"""What ends a virtual world: a promise that was broken. Decides nothing."""

from __future__ import annotations


class Breach(AssertionError):
    """A promise was broken. `kind` names the check that found it."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
