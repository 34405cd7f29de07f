"""Everything that can go wrong, as types that a program can tell apart.

Decides the family tree, what each error carries, and what its reader should do about it.
Refuses to know when any of them is raised. Every one survives pickling with all that it
carries, since failures travel between processes.

Which side is at fault? ``LocalProtocolError`` is a defect on this side, ``RemoteProtocolError`` one on
the other: the split is h11's. The remote traceback as a cause is concurrent.futures'.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from enum import StrEnum
from pickle import PicklingError
from typing import Any

from stealmesh_protocol.limits import DEFER_SECONDS_MAX


def _restore(cls: type[MeshError], args: tuple[Any, ...], state: dict[str, Any]) -> MeshError:
    """Rebuild an error without calling its __init__: its parameters are not its args."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class MeshError(Exception):
    """Ancestor of every error that is Stealmesh's own."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, dict(self.__dict__))


# ---------------------------------------------------------------- tasks


class TaskFailed(MeshError):
    """The task raised an exception that could not be sent; this one speaks for it."""


class WorkerDied(MeshError, BrokenExecutor):
    """The task ended its worker process every time that it was tried."""

    def __init__(self, text: str, attempts: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.attempts = list(attempts)
        """How each attempt ended."""


class ActorDied(MeshError, BrokenExecutor):
    """An actor's process or node ended, and with it the object. The call had begun there, or may have; or
    the actor is not made again, and no later call runs."""

    def __init__(self, text: str, deaths: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.deaths = list(deaths)
        """How each of its lives ended, so far."""


class TaskTimeout(MeshError, TimeoutError):
    """The task ran longer than it was allowed to, and was stopped."""


class TaskOutOfMemory(MeshError, MemoryError):
    """The task needed more memory than its worker may have. The text says the limit and the item."""

    def __reduce__(self) -> tuple[Any, ...]:
        # CPython makes a MemoryError only by calling its type.
        return type(self), self.args, dict(self.__dict__)


class TaskStopped(MeshError):
    """The task was stopped because its future was."""


class Defer(MeshError):
    """A task raises it to be put off: it runs again after `seconds`, on any node, and holds no worker
    meanwhile. That is neither a failure nor an attempt. For tasks of `submit` and `map`.

    A task may be put off 10,000 times. After that, this is its exception.
    """

    def __init__(self, seconds: float) -> None:
        """Raises TypeError and ValueError for what is no time from 0 s to a day."""
        seconds = float(seconds)
        if not 0.0 <= seconds <= DEFER_SECONDS_MAX:
            raise ValueError(
                f"a task can be put off for 0 to {DEFER_SECONDS_MAX:.0f} seconds at once, not "
                f"{seconds:g}: it may raise Defer again when it runs after that"
            )
        super().__init__(f"put off for {seconds:g} s")
        self.seconds = seconds


class CannotShip(MeshError, PicklingError):
    """A value or function cannot be sent to another process; `culprit` is the part that refuses."""

    def __init__(self, text: str, culprit: str = "") -> None:
        super().__init__(text)
        self.culprit = culprit


class CannotLoad(MeshError):
    """A value or function arrived, but opening it failed here (the cause says how)."""


class ResourcesMissing(MeshError):
    """No node of the mesh declares the resources that the item asks for. It says which node has what."""


class ValueLost(MeshError):
    """A value that lives on the mesh is gone: nothing holds a copy any more. `value` is its name, as in
    the `repr` of its Ref; the text says why. Scatter it again."""

    def __init__(self, text: str, value: str = "") -> None:
        super().__init__(text)
        self.value = value


class StoreFull(MeshError):
    """A value does not fit into what this process keeps in memory and on disk. The text says the limits."""


class NotRegistered(MeshError):
    """Data-only mode: nothing is unpickled, and no function is registered under this name."""

    def __init__(self, name: str = "", text: str = "") -> None:
        super().__init__(
            text
            or f"{name} is not registered here: data-only nodes run functions that they have by name, on "
            "plain data; put it into a module as a public function, and name that module with "
            "--functions where nodes are started, and in Mesh(functions=[...])"
        )
        self.name = name


# ---------------------------------------------------------------- jobs and the mesh


class OtherVersionWarning(UserWarning):
    """A node has another version of an installed package than the program that uses it."""


class JobLost(MeshError):
    """Work was lost for good: its owner and its holder are gone. Names what is missing."""

    def __init__(self, missing: Sequence[tuple[int, int]], job: str = "", why: str = "") -> None:
        shown = ", ".join(f"[{lo}, {hi})" for lo, hi in missing[:8])
        more = f" and {len(missing) - 8} more intervals" if len(missing) > 8 else ""
        because = f" ({why})" if why else ""
        super().__init__(
            f"job {job or 'of unknown name'} lost the items {shown or 'none'}{more}{because}"
        )
        self.missing = [(lo, hi) for lo, hi in missing]
        self.job = job


class CannotStart(MeshError):
    """A process of the mesh cannot be started on this machine; the text ends with the remedy."""


class JobRefused(MeshError):
    """No node would keep a durable job: the text says why."""


class NotAllowed(MeshError, PermissionError):
    """The token with which this program joined does not allow this. The text says what does."""


class MeshClosed(MeshError, BrokenExecutor):
    """The mesh was shut down, or can no longer be reached."""


class JoinRefused(MeshError):
    """A mesh would not have us: `code` for programs, `remedy` for people."""

    def __init__(self, code: str, text: str = "", remedy: str = "") -> None:
        self.code = code
        self.remedy = remedy or REMEDIES.get(code) or _LOCAL_REMEDIES.get(code, _ASK)
        super().__init__(f"{text or code} ({self.remedy})")


REMEDIES = {
    "version": "upgrade the older side",
    "mesh": "use this mesh's key: check --key-file or paste its join line again",
    "self": "nothing to do: the address is this peer's own",
    "wrong-node": "nothing to do: another process lives at this address now; dial it as a stranger",
    "no-session": "introduce yourself again: the peer does not remember this connection",
    "role": "use a token that allows this",
    "runtime": "use the same Python version on both sides",
    "busy": "try again after the time it names",
    "limits": "send less at once",
    "key": "name the key file with --key-file, or paste the mesh's join line",
    "expired": "make a new token with `stealmesh token`, where the mesh key is",
    "revoked": "ask the person who runs the mesh for a new token",
    "shutting-down": "join through another node",
    "duplicate": "give each node a life of its own: two processes use one id",
}
"""Code of a REFUSED → what the refused side should do. Codes are never given another meaning."""

_LOCAL_REMEDIES = {
    "no-answer": "check the address, and that a node runs there which this host can reach",
    "unreachable": "check the address, and that a node runs there which this host can reach",
    "no-such-host": "check the spelling of the name, or write the host's address in numbers",
}
"""The same for reasons that no peer told us."""

_ASK = "ask the person who runs the mesh"


# ---------------------------------------------------------------- protocol


class ProtocolError(MeshError):
    """Somebody does not speak the protocol. `reason` is a short word for counters."""

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(f"{reason}: {text}" if text else reason)
        self.reason = reason


class LocalProtocolError(ProtocolError):
    """We were about to say something that the protocol does not allow: a defect of ours."""


class Severity(StrEnum):
    DROP = "drop"
    """Count it and go on with the link."""
    QUARANTINE = "quarantine"
    """Count it, end the session and read nothing more from that connection."""


class RemoteProtocolError(ProtocolError):
    """A peer said something that the protocol does not allow."""

    def __init__(
        self, reason: str, text: str = "", severity: Severity = Severity.QUARANTINE
    ) -> None:
        super().__init__(reason, text)
        self.severity = severity


# ---------------------------------------------------------------- tracebacks


class RemoteTraceback(Exception):
    """Stands as the cause of a task's exception: where it was raised, in the worker.

    `text` is the traceback as the worker told it. If the exceptions have their frames themselves
    (`__traceback__`), this one only says the node (`brief`), so that nothing is printed twice.
    """

    brief = ""
    """What it prints instead of the text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return self.brief or f'\n"""\n{self.text.rstrip()}\n"""'
