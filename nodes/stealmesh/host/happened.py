"""What an entry of a journal means, in words and as plain data.

Decides the words. Refuses to know where the entry comes from, when it was in time of day, and where it is shown
(`terminal.py`: at the node; `cli/events.py`: for the whole mesh).
"""

from __future__ import annotations

from typing import Any

from stealmesh.host.saying import printable
from stealmesh_protocol.journal_messages import NO_WORKER, JournalEntry, RingKind

ECHOES = {"is told dead": "is declared dead", "is told stalled": "is found stalled"}
"""Verdicts that others have spoken, and what these said."""
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def kind_of(entry: JournalEntry) -> str:
    """Its name; a newer version may have kinds that we do not know."""
    return RingKind(entry.kind).name.lower() if entry.kind < len(RingKind) else str(entry.kind)


def words_of(entry: JournalEntry) -> str:
    """One line for people, without time and node."""
    known = entry.kind < len(RingKind)
    return printable(_WORDS[RingKind(entry.kind)](entry) if known else f"{entry.what} {entry.name}")


def facts_of(entry: JournalEntry) -> dict[str, Any]:
    """The same as plain data; what means nothing for this kind is left out."""
    facts: dict[str, Any] = {
        "kind": kind_of(entry),
        "what": entry.what,
        "name": entry.name,
        "peer": entry.peer.hex(),
        "value" if entry.kind == RingKind.VALUE else "job": entry.about.hex(),
        "count": entry.count,
        "detail": entry.detail,
    }
    if entry.hi:
        facts |= {"lo": entry.lo, "hi": entry.hi}
    if entry.worker != NO_WORKER:
        facts["worker"] = entry.worker
    if entry.kind == RingKind.CHUNK:
        facts["seconds"] = round(entry.at - entry.begun, 6)
    kept = ("count",) if entry.kind in (RingKind.CHUNK, RingKind.REFUSED) else ()
    return {name: fact for name, fact in facts.items() if name in kept or fact not in ("", 0)} | {
        name: facts[name] for name in ("lo", "worker") if name in facts
    }


def octets_in_words(octets: int) -> str:
    size, unit = float(octets), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if size >= 10 or not unit else f"{size:.1f} {_UNITS[unit]}"


# ---------------------------------------------------------------- one kind each


def _items(entry: JournalEntry) -> str:
    if not entry.hi:
        return ""
    return f" {entry.lo}" if entry.hi == entry.lo + 1 else f" {entry.lo}:{entry.hi}"


def _because(entry: JournalEntry) -> str:
    return f": {entry.detail}" if entry.detail else ""


def _chunk(entry: JournalEntry) -> str:
    took = f"{entry.at - entry.begun:.3f} s"
    failed = f", {entry.count:,} failed" if entry.count else ""
    return f"{entry.what} {entry.name}{_items(entry)} in {took}, worker {entry.worker}{failed}{_because(entry)}"


def _steal(entry: JournalEntry) -> str:
    if not entry.about:
        again = f" ({entry.count:,} times)" if entry.count > 1 else ""
        return f"{entry.what} from {entry.name}{again}"
    items = f" {entry.count:,} item{'' if entry.count == 1 else 's'}"
    return f"{entry.what}{items}{_items(entry)} {'to' if entry.what == 'gave' else 'from'} {entry.name}"


def _value(entry: JournalEntry) -> str:
    size = f" ({octets_in_words(entry.count)})" if entry.count else ""
    return f"value {entry.about.hex()[-8:]} {entry.what}{size}{_because(entry)}"


def _death(entry: JournalEntry) -> str:
    busy = f" at {entry.name}{_items(entry)}" if entry.name else ""
    if entry.worker == NO_WORKER:
        return f"{entry.what}{_because(entry)}"
    return f"{entry.what.replace('worker', f'worker {entry.worker}', 1)}{busy}{_because(entry)}"


def _verdict(entry: JournalEntry) -> str:
    return f"{entry.name} {entry.what}{_because(entry)}"


def _member(entry: JournalEntry) -> str:
    nodes = f" ({entry.count:,} node{'' if entry.count == 1 else 's'})" if entry.count else ""
    return f"{entry.name} {entry.what}{_because(entry)}{nodes}"


def _refused(entry: JournalEntry) -> str:
    """Connections that the transport turned away have a colon in their reason, as counters have."""
    reason = entry.what.removeprefix("refused:").removeprefix("refused-")
    sender = f" of {entry.name}" if entry.name else ""
    thing = "message" if reason.startswith("rude-") else "connection"
    many = "" if entry.count == 1 else "s"
    return f"refused {entry.count:,} {thing}{many}{sender}: {reason}"


def _lease(entry: JournalEntry) -> str:
    return f"lease of {entry.name} {entry.what}{_because(entry)}"


_WORDS = {
    RingKind.CHUNK: _chunk,
    RingKind.STEAL: _steal,
    RingKind.VALUE: _value,
    RingKind.DEATH: _death,
    RingKind.VERDICT: _verdict,
    RingKind.MEMBER: _member,
    RingKind.REFUSED: _refused,
    RingKind.LEASE: _lease,
}
