"""How our own processes are started: which interpreter, with which flags, path and environment.

A node and its fork server must come up in any working directory, and the processes that tasks start
must see nothing of ours. So we take back all that we hand over in the environment (`Surroundings`), and
a process of ours gets its `sys.path` before it imports anything:

* the standard library comes first, so that no random.py beside the program and no `pathlib` from
  PyPI can stand in its place;
* then the program's own path, in its order, so that the same packages are found as there.

A worker gets the program's path as it is (`program_path`): user code must find what the program
finds, in the same order.

The flags are the program's own (-O, -W, -X dev): `multiprocessing` does the same. Refuses to know
what those processes do.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from stealmesh_protocol.errors import CannotStart

HASH_SEED = "PYTHONHASHSEED"
SECRETS = frozenset({"STEALMESH_TOKEN", "STEALMESH_KEY", "STEALMESH_KEY_FILE"})
"""A token is a key; the other two say where one is."""
IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
FIRST_DESCRIPTOR = 3


def command(
    paths: Iterable[str], entry: str, *arguments: object, surroundings: Surroundings | None = None
) -> list[str]:
    """The argv of a process that calls `entry` ("module:function") with these plain arguments.

    `paths` is what it is to have as sys.path. It is set by code and not by a variable, because
    tasks would inherit a variable; and before the first import, because the working directory is
    the first place in which an interpreter that runs a command looks.
    """
    if not sys.executable:
        raise CannotStart(
            "cannot start processes: this program does not know its Python (sys.executable is "
            "empty); set sys.executable to the path of the interpreter"
        )
    module, function = entry.split(":")
    given = ", ".join(map(ascii, arguments))
    code = (
        f"import sys; sys.path[:] = {list(paths)!a}; "
        f"from {module} import {function}; sys.exit({function}({given}))"
    )
    flags = _flags() if surroundings is None else surroundings.flags
    return [sys.executable, *flags, "-c", code]


def cannot_start(what: str, error: OSError) -> CannotStart:
    """The error for a process that the system refuses to start, with the remedy."""
    remedy = _REMEDIES.get(error.errno or 0, "see that this user may start processes here")
    return CannotStart(f"cannot start {what} ({error.strerror or error}): {remedy}")


_FILES = "raise the limit of open files with `ulimit -n`"
_REMEDIES = {
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.EAGAIN: "raise the limit of processes with `ulimit -u`, or start fewer workers",
    errno.EFBIG: "raise the limit of the size of files with `ulimit -f`",
    errno.ENOMEM: "free some memory, or start fewer workers",
    errno.ENOENT: "sys.executable must name the interpreter of this program",
}


def program_path() -> list[str]:
    """This process's sys.path, absolute, in its order.

    The empty entry means the working directory, which may have been deleted: then it finds nothing.
    What is no text is ignored, as the import system does.
    """
    found = []
    for entry in cast("list[object]", sys.path):
        if not isinstance(entry, str):
            continue
        try:
            found.append(os.path.abspath(entry))
        except FileNotFoundError:
            continue
    return list(dict.fromkeys(found))


def start_path(paths: Iterable[str]) -> list[str]:
    """The same with the standard library first, and with the places of our own packages."""
    own = [*paths, *_own_places()]
    return sorted(dict.fromkeys(own), key=lambda path: not _is_standard(path))


def _own_places() -> list[str]:
    import stealmesh
    import stealmesh_engine
    import stealmesh_protocol

    return [
        os.path.dirname(os.path.dirname(os.path.abspath(module.__file__ or "")))
        for module in (stealmesh, stealmesh_engine, stealmesh_protocol)
    ]


def _is_standard(path: str) -> bool:
    library = os.path.dirname(os.path.abspath(os.__file__))
    archive = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    return path == library or os.path.basename(path) in (archive, "lib-dynload")


def _flags() -> list[str]:
    """This interpreter's flags, by the private function that `multiprocessing` uses for its children."""
    return list(subprocess._args_from_interpreter_flags())  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The environment of a new process, and what it restores once its interpreter runs.

    Only a variable can set the seed of hashes, so we cannot tell an interpreter of ours to ignore
    variables (-E, -I). Where the program ignores them, we leave out those that Python reads, and give
    the other flags that -I stands for.
    """

    flags: list[str]
    variables: dict[str, str]
    restored: dict[str, str | None]
    """Name → what the program has there; None: nothing."""

    @classmethod
    def of_this_process(
        cls, extra: Mapping[str, str] | None = None, hash_seed: int | None = None
    ) -> Surroundings:
        """`extra` stays, and tasks see it. The hash seed is taken back, unless the user has chosen one. What
        opens a mesh is left out for good: user code is going to run there."""
        known = {name: value for name, value in os.environ.items() if name not in SECRETS}
        ours, flags = dict(known), _flags()
        if sys.flags.isolated:
            flags += ["-s", "-P"]
        if sys.flags.ignore_environment:
            ours = {name: value for name, value in ours.items() if not name.startswith("PYTHON")}
        if hash_seed is not None and not ours.get(HASH_SEED, "").isdecimal():
            ours[HASH_SEED] = str(hash_seed)
        restored = {
            name: known.get(name)
            for name in ours.keys() | known.keys()
            if ours.get(name) != known.get(name)
        }
        flags = [flag for flag in flags if flag not in ("-E", "-I")]
        return cls(flags, {**ours, **(extra or {})}, restored)


def restore_environment(restored: Mapping[str, str | None]) -> None:
    """Undo the changes of the environment that only the start of this interpreter needed."""
    for name, value in restored.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def hash_seed(derive: Callable[[str, int], bytes]) -> int:
    """One seed for all workers of a mesh, on all hosts, from what its members share.

    The program's own seed cannot be had: an interpreter that chose it by itself keeps 24 octets,
    and a new one can only be given four.
    """
    return int.from_bytes(derive("hash seed", 4), "big")


# ---------------------------------------------------------------- in the new process


def fresh_signals() -> None:
    """Signals as in a process that a shell starts, with none of our parent's blocked or ignored."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - IGNORED_BY_PYTHON:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def fill_standard_files() -> None:
    """Open descriptors 0 to 2: otherwise the next socket gets such a number, and prints go into it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < FIRST_DESCRIPTOR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def above_standard_files(sock: socket.socket) -> socket.socket:
    """The same socket under a number above the standard files' (the program may have closed those)."""
    if sock.fileno() >= FIRST_DESCRIPTOR:
        return sock
    with sock:
        descriptor = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR)
    return socket.socket(fileno=descriptor)
