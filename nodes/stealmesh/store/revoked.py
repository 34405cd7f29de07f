"""The names of revoked tokens, in a small file beside the log: so that a restart forgets none.

Decides whether what it finds is what it wrote. A file that was changed or cut is refused, because a name that is
missing would let a revoked token in again; one that was written under a mesh key that no node takes any more is void.
Refuses to know what the names mean (the engine's links/guests.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from stealmesh_protocol.errors import CannotStart
from stealmesh_protocol.passes import PassSecrets, is_barred

NAME = "revoked"
FILE_OCTETS_MAX = 256 * 1024


class RevokedFile:
    def __init__(self, directory: Path, secrets: PassSecrets) -> None:
        self.path = directory / NAME
        self._secrets = secrets

    def load(self) -> list[str]:
        """Raises CannotStart for a file that cannot be believed."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                text = file.read(FILE_OCTETS_MAX).decode("ascii", "replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable(f"cannot be read ({error.strerror})") from None
        first, _, body = text.partition("\n")
        mark, _, seal = first.partition(" ")
        known = dict(self._secrets)
        if len(mark) == 8 and mark.isalnum() and mark not in known:
            return []
        names = body.split()
        if mark not in known or seal != _seal(known[mark], body) or not all(map(is_barred, names)):
            raise self._unusable("is damaged")
        return names

    def save(self, names: list[str]) -> None:
        """Whole, or not at all."""
        mark, secret = self._secrets[0]
        body = "".join(f"{name}\n" for name in names)
        draft = self.path.with_suffix(".draft")
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{mark} {_seal(secret, body)}\n{body}")
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self.path)

    def _unusable(self, why: str) -> CannotStart:
        return CannotStart(
            f"the names of revoked tokens in {self.path} {why}: remove the file, and revoke them once more with "
            "`stealmesh token --revoke`"
        )


def _seal(secret: bytes, body: str) -> str:
    return hashlib.blake2b(body.encode(), key=secret, person=b"revoked", digest_size=16).hexdigest()
