"""Breadth-first search over every state of a finite world, and what cannot end well from there.

Decides nothing about leases: a world names its first state, its steps and its ends. A step is
*honest* when progress may rest on it; a fault is not, nor is anything that we refuse to count
on. A state is *stuck* when no sequence of honest steps leads from it to an end.

Idea: explicit-state model checking; liveness by walking the honest steps backwards from all
ends, which for worlds without fairness assumptions is exact ("it can always still end").
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

import numpy as np

State = tuple[int, ...]


class Violation(AssertionError):
    """Something happened that must never happen; the text says what."""

    trace: list[str]
    """The steps that led there, the first one first."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.trace = []

    def __str__(self) -> str:
        return "\n  ".join([super().__str__(), *self.trace])


class World(Protocol):
    def first(self) -> State: ...

    def steps(self, state: State) -> Iterable[tuple[State, bool, str]]:
        """Every (next state, honest?, what happens). Raises Violation when safety is broken."""

    def is_end(self, state: State) -> bool: ...

    def is_hopeless(self, state: State) -> bool:
        """No side is left that could get anywhere: such a state need not make progress."""


@dataclass(slots=True)
class Found:
    """The whole of a world in figures."""

    states: int = 0
    transitions: int = 0
    ends: int = 0
    hopeless: int = 0
    stuck: int = 0
    seconds: float = 0.0
    stuck_example: list[str] = field(default_factory=list)
    """The shortest way into a stuck state."""

    @property
    def states_a_second(self) -> float:
        return self.states / self.seconds if self.seconds else 0.0


class TooLarge(Exception):
    """The world has more states than the search was allowed to see."""


def explore(world: World, *, states_max: int = 5_000_000) -> Found:
    """See every state once; count the stuck ones. Raises Violation (with its trace) or TooLarge."""
    started = perf_counter()
    first = world.first()
    states: list[State] = [first]
    number: dict[State, int] = {first: 0}
    parents = array("I", [0])
    sources, targets = array("I"), array("I")
    transitions = 0
    at = 0
    try:
        while at < len(states):
            for after, honest, _ in world.steps(states[at]):
                transitions += 1
                to = number.get(after)
                if to is None:
                    to = number[after] = len(states)
                    states.append(after)
                    parents.append(at)
                if honest:
                    sources.append(at)
                    targets.append(to)
            at += 1
            if len(states) > states_max:
                raise TooLarge(f"more than {states_max:,} states")
    except Violation as violation:
        violation.trace = [*trace_to(world, states, parents, at), *violation.trace]
        raise
    found = Found(len(states), transitions)
    ends = np.fromiter(map(world.is_end, states), bool, len(states))
    hopeless = np.fromiter(map(world.is_hopeless, states), bool, len(states))
    stuck = ~(_reaching(ends, sources, targets) | hopeless)
    found.ends, found.hopeless, found.stuck = int(ends.sum()), int(hopeless.sum()), int(stuck.sum())
    if found.stuck:
        found.stuck_example = trace_to(world, states, parents, int(np.argmax(stuck)))
    found.seconds = perf_counter() - started
    return found


def trace_to(world: World, states: list[State], parents: array[int], at: int) -> list[str]:
    """What happened on the shortest way to this state."""
    told: list[str] = []
    while at:
        before = parents[at]
        told.append(
            next(what for after, _, what in world.steps(states[before]) if after == states[at])
        )
        at = before
    return told[::-1]


def _reaching(ends: Any, sources: array[int], targets: array[int]) -> Any:
    """Which states have a way to an end."""
    source = np.frombuffer(sources, np.uint32) if sources else np.empty(0, np.uint32)
    target = np.frombuffer(targets, np.uint32) if targets else np.empty(0, np.uint32)
    order = np.argsort(target, kind="stable")
    source, target = source[order], target[order]
    starts = np.searchsorted(target, np.arange(len(ends) + 1))
    reached = ends.copy()
    front = np.flatnonzero(ends)
    while len(front):
        lengths = starts[front + 1] - starts[front]
        # All edges into the front, as one flat range of ranges.
        offsets = np.repeat(starts[front] - np.cumsum(lengths) + lengths, lengths)
        before = np.unique(source[offsets + np.arange(int(lengths.sum()))])
        front = before[~reached[before]]
        reached[front] = True
    return reached


class Names:
    """Gives every distinct value a small number, so that states are short tuples of integers."""

    __slots__ = ("_numbers", "values")

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def __call__(self, value: Any) -> int:
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = len(self.values)
            self.values.append(value)
        return number

    def __len__(self) -> int:
        return len(self.values)


def guarded(call: Callable[[], Any], what: str) -> Any:
    """Run the engine's code; an assertion that fails in it is a violation with a trace."""
    try:
        return call()
    except Violation as violation:
        violation.trace.append(what)
        raise
    except AssertionError as error:
        broken = Violation(f"an assertion of the engine failed: {error}")
        broken.trace.append(what)
        raise broken from error
