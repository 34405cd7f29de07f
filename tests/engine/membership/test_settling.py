"""Among very many nodes a burst of news is one look at everybody, a moment later."""

from __future__ import annotations

import pytest
from tests.engine.wire import ring

from stealmesh_engine.membership import life as life_module
from stealmesh_engine.view.observers import Table, table_of
from stealmesh_protocol.messages import Member, PeerState, Role

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

    monkeypatch.setattr(life_module, "MANY", 0)
    monkeypatch.setattr(life_module, "table_of", counted)
    wire, _, nodes = ring(1)
    life, now = nodes[0].core.life, wire.now
    life.settle(now)
    life.settled_at = now
    made.clear()
    for number in range(BURST):
        life.learn([_supernode(number)], now)
    assert made == []
    assert life.look_at is not None
    assert life.look_at <= now + life_module.SETTLE_SECONDS
    life.look(life.look_at)
    assert made == [life.view.supers_count]
    assert life.view.supers_count >= BURST
