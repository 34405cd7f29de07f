"""Among very many nodes a burst of news is one look at everybody, a moment later."""

from __future__ import annotations

import pytest
from tests.engine.wire import ring

from stealmesh_engine.membership import charges, dissemination
from stealmesh_engine.view.observers import Table, table_of
from stealmesh_protocol.messages import Member, PeerState, Role

pytestmark = pytest.mark.pure  # stand-ins: compiled classes take no others than they name

BURST = 20


def _supernode(number: int) -> Member:
    return Member(
        bytes([200, number]) * 8, f"s{number}", "far", Role.SUPER, [], 1, PeerState.ALIVE, 1
    )


def test_a_burst_of_supernodes_is_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(supers: list[bytes], before: Table | None = None) -> Table:
        made.append(len(supers))
        return table_of(supers, before)

    monkeypatch.setattr(charges, "MANY", 0)
    monkeypatch.setattr(dissemination, "table_of", counted)
    wire, _, nodes = ring(1)
    core, now = nodes[0].core, wire.now
    settled = core.membership.charges
    settled.settle(now)
    settled.settled_at = now
    made.clear()
    for number in range(BURST):
        core.consequences.learn([_supernode(number)], now)
    assert made == []
    assert core.detector.look_at is not None
    assert core.detector.look_at <= now + charges.SETTLE_SECONDS
    core.membership.look(core.detector.look_at)
    assert made == [core.view.supers_count]
    assert core.view.supers_count >= BURST
