"""Calls that the program cancels one after the other go to the core together.

A program that cancels a thousand futures says so a thousand times. Each withdrawal would travel by itself, and
nodes would begin many of those that are still to come. Decides which ones are one event. Refuses to know futures.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from stealmesh_engine.events import CancelItems, Event

INTERVALS_MAX = 1000


def together(events: Iterable[Event]) -> list[Event]:
    """The same events. Cancellations of one job that follow each other are one."""
    merged: list[Event] = []
    for event in events:
        last = merged[-1] if merged else None
        if type(event) is CancelItems and type(last) is CancelItems and _go_together(last, event):
            _append(last.intervals, event.intervals)
        else:
            merged.append(event)
    return merged


def _go_together(last: CancelItems, event: CancelItems) -> bool:
    room = len(last.intervals) + len(event.intervals) <= INTERVALS_MAX
    return room and replace(last, intervals=event.intervals) == event


def _append(intervals: list[tuple[int, int]], more: list[tuple[int, int]]) -> None:
    for lo, hi in more:
        if intervals and intervals[-1][1] == lo:
            intervals[-1] = (intervals[-1][0], hi)
        else:
            intervals.append((lo, hi))
