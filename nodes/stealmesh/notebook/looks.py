"""How a mesh, a job, a future and progress look in a notebook.

Decides what is told of each: only what this process knows at this moment. A notebook asks while it draws, so
nothing here waits, takes a lock, asks another process, opens a result or runs code of an exception's, and it
looks as well after the end of the mesh. What changes under our eyes is read again. Refuses to know HTML
(`card.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from stealmesh.notebook import card
from stealmesh_protocol.parts import Role

T = TypeVar("T")

READS_MAX = 5
"""A dictionary that another thread fills may refuse to be read."""


def html_of(look: Callable[[T], str], thing: T) -> str:
    """Its look. What cannot be read is said in its place: a notebook shows no errors of such methods."""
    for _ in range(READS_MAX):
        try:
            return look(thing)
        except RuntimeError:  # changed while it was read
            continue
        except Exception as error:  # noqa: BLE001
            return card.framed(type(thing).__name__, f"cannot be shown: {type(error).__name__}")
    return card.framed(type(thing).__name__, "changes too quickly to be shown")


# ---------------------------------------------------------------- mesh


def mesh(thing: Any) -> str:
    link = thing._link
    is_open = not thing._submitted.closed and link.failure is None
    jobs = list(link.jobs.values()) if is_open else []
    parts = [
        card.line(f"{thing._max_workers} workers"),
        _nodes(thing) if is_open else "",
        _jobs(jobs),
    ]
    if link.failure is not None:
        parts.insert(0, card.line(str(link.failure)))
    return card.framed("stealmesh.Mesh", "open" if is_open else "closed", *parts)


def _nodes(thing: Any) -> str:
    """The nodes that this client knows."""
    members = thing._driver.core.view.members
    found = [members.get(peer) for peer in list(thing._driver.core.view.nodes())]
    rows = [
        (
            member.name,
            member.host,
            _ROLES.get(member.role, ""),
            member.workers,
            member.state.name.lower(),
        )
        for member in found
        if member is not None
    ]
    return card.table(("node", "host", "role", "workers", "state"), rows)


_ROLES = {Role.SUPER: "super", Role.PLAIN: "plain"}


def _jobs(handlers: list[Any]) -> str:
    rows = []
    for handler in handlers:
        done, total = handler.how_far()
        rows.append((handler.spec.name, handler.spec.kind.name.lower(), _of(done, total)))
    return card.table(("work of this program", "kind", "done"), rows)


# ---------------------------------------------------------------- job


def job(thing: Any) -> str:
    title = f"stealmesh.Job {thing.id[:12]}"
    latest = thing.latest()
    if latest is None:
        return card.framed(title, "no node has told of it yet")
    found, total, rate = latest
    words = [f"{found.failed:,} failed" if found.failed else "", f"{found.leased:,} with nodes"]
    return card.framed(
        title,
        f"{found.name} · {found.state}",
        _progress(found.done, total, found.name, found.failed, rate),
        card.line(" · ".join(filter(None, words)) if found.state == "running" else words[0]),
    )


def progress(thing: Any) -> str:
    """Of a `Job.progress()`."""
    words = [f"{thing.failed:,} failed" if thing.failed else "", f"{thing.running:,} running"]
    return card.framed(
        "Progress",
        "",
        _progress(thing.done, thing.total, "progress", thing.failed, thing.rate),
        card.line(" · ".join(filter(None, words))),
    )


def _progress(done: float, total: float | None, name: str, failed: int, rate: float) -> str:
    words = [_of(done, total)]
    if total and done < total and rate > 0:
        words += [f"{rate:,.1f} a second", f"{_time((total - done) / rate)} left"]
    bar = card.bar(done, total, name, card.RED if failed else card.GREEN)
    return bar + card.line(" · ".join(words))


def _of(done: float, total: float | None) -> str:
    """Shares of items that run count, and are not shown."""
    return f"{int(done):,}" if total is None else f"{int(done):,} of {int(total):,}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


# ---------------------------------------------------------------- future


def future(thing: Any) -> str:
    words = [f"item {thing.index}"] if thing.index >= 0 else []
    if thing._state == "FINISHED":
        if thing._parcel is not None:
            words.append("its result is here, and not opened yet")
        elif thing._exception is not None:
            words.append(f"raised {type(thing._exception).__name__}")
        elif thing.grip is not None:
            words.append("its result is on the mesh")
        else:
            words.append(f"returned {type(thing._result).__name__}")
    state = {"CANCELLED_AND_NOTIFIED": "cancelled"}.get(thing._state, thing._state.lower())
    return card.framed(
        f"stealmesh.Future of {thing.task_name}", state, card.line(" · ".join(words))
    )


# ---------------------------------------------------------------- a bar that moves


def moving(name: str, done: float, total: float | None, seconds: float, state: str) -> str:
    """A progress bar. `state`: what it came to; empty while it moves."""
    rate = done / seconds if seconds > 0 else 0.0
    colour = card.GREY if state else card.GREEN
    words = [_of(done, total), _time(seconds)]
    if total and done < total and rate > 0 and not state:
        words.append(f"{_time((total - done) / rate)} left")
    return card.framed(
        name, state, card.bar(done, total, name, colour if total != done else card.GREEN),
        card.line(" · ".join(words)),
    )  # fmt: skip
