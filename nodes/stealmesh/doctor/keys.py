"""The key or token that commands here would use: is it there, private, whole, and still good?

Shows the fingerprint, never the key. Refuses to know whether a node takes it (`mesh.py`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from stealmesh.doctor.diagnosis import Diagnosis
from stealmesh.host.guest_key import GuestKey
from stealmesh.host.security import AnyKey, KeyRefused, load_key

SOON_SECONDS = 86400.0
NEW_TOKEN = "make a new one with `stealmesh token`, where the mesh key is"


def findings(path: str, token: AnyKey | None, now: float) -> Iterator[Diagnosis]:
    """`token`: what STEALMESH_TOKEN brings, which comes before the file."""
    if token is not None:
        yield of_key(token, "in STEALMESH_TOKEN", now)
        return
    if not os.path.lexists(path):
        yield Diagnosis(
            "key", f"none at {path} yet: `stealmesh start` or `stealmesh join` brings one"
        )
        return
    try:
        key = load_key(path)
    except (KeyRefused, OSError) as error:
        text, _, remedy = str(error).rpartition(": ")
        yield Diagnosis("key", text or str(error), remedy or "name another one with --key-file")
        return
    yield of_key(key, path, now)
    yield directory(Path(path).parent)


def of_key(key: AnyKey, where: str, now: float) -> Diagnosis:
    text = f"{key.fingerprint()} ({where})"
    if not isinstance(key, GuestKey):
        return Diagnosis("key", f"mesh key {text}")
    text = f"{key}, of the mesh key {text}"
    if key.told.expires and key.told.expires <= now:
        return Diagnosis("key", f"{text} has expired", NEW_TOKEN)
    if key.told.expires and key.told.expires - now < SOON_SECONDS:
        return Diagnosis("key", f"{text} expires within a day", NEW_TOKEN)
    return Diagnosis("key", text)


def directory(path: Path) -> Diagnosis:
    """Others who may write there may put another key in this one's place."""
    facts = path.stat()
    if facts.st_uid not in (os.geteuid(), 0):
        remedy = f"move the key file into a directory of yours, and remove {path}"
        return Diagnosis("key directory", f"{path} belongs to user {facts.st_uid}", remedy)
    if facts.st_mode & 0o022 and not facts.st_mode & stat.S_ISVTX:
        return Diagnosis("key directory", f"others may write to {path}", f"run `chmod go-w {path}`")
    return Diagnosis("key directory", f"{path} is this user's")
