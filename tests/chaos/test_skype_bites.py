"""Skype's scenarios bite: with a guard switched off, the suite fails.

On 22 December 2010 supernodes shut themselves down because they were loaded. Each test takes one
guard away and names the scenario, and the figure, that notices. At ten thousand nodes:
`stealmesh chaos --sim --nodes 10000 --scenario skype-card`.

The other guards are missed in worlds that are built for them:

* in tests/sim/test_guards_in_herds.py: deadlines (who has gone is not served), full jitter,
  letting newcomers in bit by bit;
* in tests/sim/test_guards_of_the_living.py: inbox first, the chance to answer, self-doubt of a
  program, probation, tombstones;
* in tests/sim/test_supernodes.py: votes (a cut between a leaf and one home), self-doubt of a
  supernode (cut off, or late), stalled is not dead, the rate at which newcomers are let in;
* in tests/sim/test_mutants.py: refuting, incarnations (of two records the newer one holds);
* in tests/engine/links/test_introductions.py: another life at the same address is named and refused;
* in tests/transport/test_flow.py and test_hostile.py, on sockets: beats pass bulk.

One is not missed in any herd or catastrophe that we have tried: asking for supernodes in waves.
ARCHITECTURE.md has the figures.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.marks import later

from stealmesh_bench.chaos import simulated
from stealmesh_bench.chaos.named import Wanted, draw
from stealmesh_bench.chaos.report import ChaosReport
from stealmesh_engine.membership.supernodes import Supernodes
from stealmesh_engine.view.observers import LEAF_OBSERVERS, supers_wanted
from stealmesh_protocol.messages import Role

NODES = 20
SECONDS = 8.0
TOO_MANY_GUESTS = int(1.3 * LEAF_OBSERVERS * NODES / supers_wanted(NODES))


def play(name: str, *, silent: bool = False) -> ChaosReport:
    wanted = Wanted(name, 1, NODES, SECONDS, silent=silent)
    return simulated.play(draw(wanted), "")


def the_loaded_resign(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Skype's supernodes did."""
    right = Supernodes.tend

    def tend(self: Supernodes, now: float) -> None:
        right(self, now)
        view = self.view
        if view.me.role is Role.SUPER and len(self.news.guests) > TOO_MANY_GUESTS:
            view.renew(role=Role.PLAIN, incarnation=view.me.incarnation + 1)
            self.news.tell(view.me, now)
            self.charges.settle(now)

    monkeypatch.setattr(Supernodes, "tend", tend)


def who_is_asked_declines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supernodes, "asked", lambda self, now: None)


def nobody_serves_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Supernodes, "_serve_the_unobserved", lambda self, now, since: None)


@pytest.mark.parametrize(
    ("guard", "name", "silent", "notices"),
    [
        (who_is_asked_declines, "skype-card", False, "supernodes_restored_s"),
        *later(
            (the_loaded_resign, "skype-herd", False, "resigned"),
            (nobody_serves_unasked, "skype-super", True, "supernodes_restored_s"),
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_without_this_guard_the_suite_fails(
    monkeypatch: pytest.MonkeyPatch,
    guard: Callable[[pytest.MonkeyPatch], None],
    name: str,
    silent: bool,
    notices: str,
) -> None:
    assert play(name, silent=silent).verdict == "pass"
    guard(monkeypatch)
    broken = play(name, silent=silent)
    assert any(each.startswith(notices) for each in broken.breaches), broken.verdict
