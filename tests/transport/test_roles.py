"""With which key a connection was made, as the inbox knows it; and two keys at once while a mesh key is changed."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from stealmesh.host.issuing import issued
from stealmesh.host.security import AnyKey, FormerKey, MeshKey
from stealmesh.transport import zap
from stealmesh.transport.keys import LetIn, curve_keys, keys_of
from stealmesh_engine.events import CameBy, LinkUp
from stealmesh_protocol.errors import NotAllowed
from stealmesh_protocol.messages import Ack
from stealmesh_protocol.passes import KeyRole

from .sides import KEY, Side, link_between, until

MakeSide = Callable[..., Side]
HOUR = 3600.0


def speaks(listener: Side, dialler: Side) -> list[CameBy]:
    """What the listener knows of the dialler's connection once it has said something."""
    before = len(listener.told(CameBy))
    heard = len(listener.heard())
    link = link_between(dialler, listener)
    dialler.transport.send(link, Ack())
    until(lambda: len(listener.heard()) > heard, dialler, listener)
    return listener.told(CameBy)[before:]


def is_refused(listener: Side, dialler: Side) -> str:
    link = dialler.dial(listener.endpoint)
    until(lambda: dialler.down_reason(link), dialler, listener)
    assert not dialler.told(LinkUp, link)
    return str(dialler.down_reason(link))


@pytest.mark.parametrize("role", [KeyRole.SUBMIT, KeyRole.VIEW])
def test_the_inbox_knows_the_role_of_a_connection(make_side: MakeSide, role: KeyRole) -> None:
    listener = make_side("tcp://127.0.0.1:0")
    guest = make_side(key=issued(KEY, role, "laptop"))
    (came,) = speaks(listener, guest)
    assert (came.role, came.until) == (role, 0.0)
    places = [listener.events.index(each) for each in (came, listener.heard(came.link)[0])]
    assert places == sorted(places), "before its first message"
    assert not speaks(listener, make_side()), "of a holder of the mesh key there is nothing to say"


def test_a_token_of_another_mesh_is_refused_and_named(make_side: MakeSide) -> None:
    listener = make_side("tcp://127.0.0.1:0")
    stranger = make_side(key=issued(MeshKey(b"o" * 32), KeyRole.SUBMIT, "laptop"))
    why = is_refused(listener, stranger)
    assert "did not accept this mesh key" in why
    assert "submit token 'laptop'" in why


def test_a_token_cannot_listen() -> None:
    with pytest.raises(NotAllowed, match="be a node"):
        Side(["tcp://127.0.0.1:0"], key=issued(KEY, KeyRole.SUBMIT, "laptop"))


def test_a_token_has_no_secret_of_nodes_or_of_other_roles() -> None:
    octets = issued(KEY, KeyRole.VIEW, "screen").packed()
    for label in ("server", "peer", "submit", "passes"):
        assert KEY.derive(label) not in octets
    assert KEY.derive("view") in octets
    own = curve_keys(KEY)
    assert own.server_public == keys_of(KEY, listens=False).ways[0].server


def test_what_the_zap_handler_says_comes_back() -> None:
    for each in (LetIn(KeyRole.PEER), LetIn(KeyRole.VIEW, 1.75e9 + 1 / 3)):
        assert LetIn.of(each.user_id().decode()) == each


# ---------------------------------------------------------------- two keys at once


def old_and_new(until: float) -> tuple[MeshKey, MeshKey]:
    return KEY, KEY.rotated(until)


def test_in_the_window_each_reaches_each(make_side: MakeSide) -> None:
    """A node that is not restarted yet has the old key only."""
    old, new = old_and_new(time.time() + HOUR)
    before, after = (make_side("tcp://127.0.0.1:0", key=key) for key in (old, new))
    ring: list[AnyKey] = [old, new]
    for key in ring:
        for listener in (before, after):
            came = speaks(listener, make_side(key=key))
            assert [each.role for each in came] == (
                [KeyRole.PEER] if key is old and listener is after else []
            )
    assert [each.until for each in after.told(CameBy)] == [new.former.until]  # type: ignore[union-attr]
    (earlier,) = speaks(after, make_side(key=issued(old, KeyRole.VIEW, "old")))
    assert earlier.until > 0
    (later,) = speaks(after, make_side(key=issued(new, KeyRole.VIEW, "new")))
    assert later.until == 0
    assert "did not accept" in is_refused(before, make_side(key=issued(new, KeyRole.VIEW, "new")))


def test_what_was_let_in_is_tried_first_the_next_time(make_side: MakeSide) -> None:
    old, new = old_and_new(time.time() + HOUR)
    before, dialler = make_side("tcp://127.0.0.1:0", key=old), make_side(key=new)
    for _ in range(3):
        speaks(before, dialler)
    assert before.transport.counters["refused:unknown-client-key"] == 1


def test_after_the_window_the_old_key_is_refused_at_the_door(
    make_side: MakeSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = old_and_new(time.time() + HOUR)
    after, lesser = make_side("tcp://127.0.0.1:0", key=new), issued(old, KeyRole.SUBMIT, "old")
    assert speaks(after, make_side(key=old))
    assert speaks(after, make_side(key=lesser))
    late = time.time() + HOUR + 1
    monkeypatch.setattr(zap.time, "time", lambda: late)  # type: ignore[attr-defined]
    assert "did not accept" in is_refused(after, make_side(key=old))
    assert "did not accept" in is_refused(after, make_side(key=lesser))
    assert not speaks(after, make_side(key=new))


def test_a_node_that_starts_after_the_window_has_the_new_server_key(make_side: MakeSide) -> None:
    old, new = old_and_new(time.time() - 1)
    late = make_side("tcp://127.0.0.1:0", key=new)
    assert "did not accept" in is_refused(late, make_side(key=old))
    assert not speaks(late, make_side(key=new))
    assert not speaks(late, make_side(key=new.alone()))
    assert keys_of(new, listens=True).server_secret == curve_keys(new).server_secret
    # One that was started in the window and lives on keeps the old server key: a later start reaches it, too.
    long_ago = MeshKey(new.secret, new.mesh, FormerKey(old.secret, time.time() + HOUR))
    earlier = make_side("tcp://127.0.0.1:0", key=long_ago)
    assert not speaks(earlier, make_side(key=new))
