"""Where a node's local socket lives: a directory for this user only, named after the process.

Decides which directory. The path of a socket has room for 107 octets, and a TMPDIR may need them
all (batch systems make one a job). Peers hear the path as an address, and take no blank and no letter
beyond ASCII in one. Then another place is taken. If there is none, the node has no local socket and is
reached by its network address: slower, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stealmesh.host.machine import temporary_directory
from stealmesh_protocol.field_checks import endpoint_fault

PATH_OCTETS_MAX = 107
"""The kernel's bound on the path of a socket."""
INBOX = "inbox"


@contextlib.contextmanager
def hideout() -> Iterator[str | None]:
    """The path for the local socket; None if this machine has no place for one."""
    directory = _make()
    try:
        yield None if directory is None else os.path.join(directory, INBOX)
    finally:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)


def _make() -> str | None:
    prefix = f"stealmesh-{os.getpid()}-"
    for base in bases():
        _sweep(base)
        if not _can_be_dialled(os.path.join(base, prefix + "12345678", INBOX)):
            continue
        with contextlib.suppress(OSError):  # not there, not ours, full: the next one
            return tempfile.mkdtemp(prefix=prefix, dir=base)
    return None


def _can_be_dialled(path: str) -> bool:
    return len(os.fsencode(path)) <= PATH_OCTETS_MAX and not endpoint_fault(f"ipc://{path}")


def bases() -> list[str]:
    """Where such a directory may be, the best place first."""
    found = [temporary_directory(), os.environ.get("XDG_RUNTIME_DIR", "")]
    found += ["/tmp", "/var/tmp", "/dev/shm"]
    return list(dict.fromkeys(path for path in found if os.path.isabs(path)))


def sweep() -> None:
    """Remove what killed nodes of this user left behind."""
    for base in bases():
        _sweep(base)


def _sweep(base: str) -> None:
    for left in dead_in(base):
        shutil.rmtree(left, ignore_errors=True)  # it follows no link


def dead_in(base: str) -> list[Path]:
    """The directories there that this user's nodes and programs had, and that they cannot clear up any more.
    A link is none: another user may have planted it."""
    found = []
    with contextlib.suppress(OSError):
        for left in Path(base).glob("stealmesh-*-*"):
            with contextlib.suppress(OSError, ValueError):
                pid, facts = int(left.name.split("-")[1]), left.lstat()
                own = stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid()
                if own and not _is_running(pid):
                    found.append(left)
    return found


def _is_running(pid: int) -> bool:
    """One that has ended and that nobody has waited for (a container may have nobody who does) runs no more."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:1]
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it runs, as another user; or this system does not say more
    return state != [b"Z"]
