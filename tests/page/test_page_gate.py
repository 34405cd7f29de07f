"""Who may look: Host headers, other sites, tokens and cookies."""

from __future__ import annotations

import time

import pytest

from stealmesh.host.issuing import issued, pass_secrets
from stealmesh.host.security import JoinToken, MeshKey
from stealmesh.page import gate as gates
from stealmesh.page.gate import LOOPBACK_NAMES, PageGate, host_of
from stealmesh.page.place import PagePlace, place_of
from stealmesh.page.requests import Request, RequestRefused
from stealmesh_protocol.passes import KeyRole

KEY, OTHER = MeshKey.generate(), MeshKey.generate()
NOW = time.time()


def token(key: MeshKey = KEY, name: str = "eye", expires: float = 0.0) -> str:
    return JoinToken(issued(key, KeyRole.VIEW, name, expires)).encode()


def request(**headers: str) -> Request:
    return Request("/live", {}, {name.replace("_", "-"): value for name, value in headers.items()})


def locked() -> PageGate:
    return PageGate(LOOPBACK_NAMES, "c", True, pass_secrets(KEY))


def status_of(refuses: object) -> int:
    with pytest.raises(RequestRefused) as refused:
        refuses()  # type: ignore[operator]
    return refused.value.status


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:8787", "LOCALHOST", "[::1]:80", "localhost."]
)
def test_names_of_ours_are_heard_at_any_port(host: str) -> None:
    locked().check_origin(request(host=host), data=True)


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost:80:80", "[::1", "127.0.0.1 "[::-1], "0.0.0.0"]
)  # fmt: skip
def test_a_name_that_was_rebound_to_us_is_refused(host: str) -> None:
    assert status_of(lambda: locked().check_origin(request(host=host), data=False)) == 421


def test_another_site_gets_no_data_but_may_have_a_link_to_the_page() -> None:
    asked = request(host="localhost", sec_fetch_site="cross-site")
    locked().check_origin(asked, data=False)
    assert status_of(lambda: locked().check_origin(asked, data=True)) == 403
    same_site = request(host="localhost", sec_fetch_site="same-site")
    assert status_of(lambda: locked().check_origin(same_site, data=True)) == 403


def test_a_page_for_this_host_alone_wants_nothing_and_any_other_a_token() -> None:
    PageGate(LOOPBACK_NAMES, "c").check_visitor(request(), NOW)
    assert status_of(lambda: locked().check_visitor(request(), NOW)) == 401
    locked().check_visitor(request(authorization=f"Bearer {token()}"), NOW)


def test_a_cookie_stands_for_the_token_until_it_ends() -> None:
    gate = locked()
    value = gate.enter(token(), NOW)
    gate.check_visitor(request(cookie=f"other=1; c={value}"), NOW)
    for wrong in (f"c={value[:-1]}", f"d={value}", "c=", "c"):
        assert status_of(lambda wrong=wrong: gate.check_visitor(request(cookie=wrong), NOW)) == 401
    late = NOW + gates.SESSION_SECONDS_MAX + 1
    assert status_of(lambda: gate.check_visitor(request(cookie=f"c={value}"), late)) == 401


def test_a_cookie_ends_with_its_token() -> None:
    gate = locked()
    value = gate.enter(token(expires=NOW + 60), NOW)
    gate.check_visitor(request(cookie=f"c={value}"), NOW + 50)
    late = NOW + 60 + gates.LATE_SECONDS + 1
    assert status_of(lambda: gate.check_visitor(request(cookie=f"c={value}"), late)) == 401


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("", "no token"),
        ("stealmesh1-aaaa", "no token"),
        (token(OTHER), "another mesh"),
        (token(expires=NOW - 1000), "expired"),
        (JoinToken(KEY).encode(), "mesh key"),
    ],
    ids=["empty", "short", "of another mesh", "expired", "the mesh key"],
)
def test_what_is_no_good_token_of_this_mesh_opens_nothing(wrong: str, why: str) -> None:
    with pytest.raises(RequestRefused, match=why):
        locked().enter(wrong, NOW)


def test_a_token_that_somebody_made_up_opens_nothing() -> None:
    """Right in every part but the seal."""
    good = issued(KEY, KeyRole.VIEW, "eye")
    forged = type(good)(good.told, bytes(32), good.secret, good.servers, good.mesh, good.mark)
    with pytest.raises(RequestRefused, match="another mesh"):
        locked().enter(JoinToken(forged).encode(), NOW)


def test_a_revoked_token_and_its_cookies_count_no_more() -> None:
    gate = locked()
    value, other = gate.enter(token(name="a"), NOW), gate.enter(token(name="b"), NOW)
    gate.revoke(["a"])
    assert status_of(lambda: gate.check_visitor(request(cookie=f"c={value}"), NOW)) == 401
    assert status_of(lambda: gate.enter(token(name="a"), NOW)) == 401
    gate.check_visitor(request(cookie=f"c={other}"), NOW)


def test_a_page_without_the_mesh_key_knows_its_own_token_alone() -> None:
    own = issued(KEY, KeyRole.VIEW, "eye")
    gate = PageGate(LOOPBACK_NAMES, "c", True, own=own)
    gate.enter(JoinToken(own).encode(), NOW)
    for wrong in (token(name="other"), token(OTHER)):
        assert status_of(lambda wrong=wrong: gate.enter(wrong, NOW)) == 401


def test_cookies_are_bounded() -> None:
    gate = locked()
    first = gate.enter(token(), NOW)
    for _ in range(gates.SESSIONS_MAX):
        gate.enter(token(), NOW)
    assert status_of(lambda: gate.check_visitor(request(cookie=f"c={first}"), NOW)) == 401


@pytest.mark.parametrize(
    ("said", "host", "port", "private"),
    [
        ("8787", "127.0.0.1", 8787, True),
        ("localhost:1", "127.0.0.1", 1, True),
        ("[::1]:0", "::1", 0, True),
        ("127.0.0.1", "127.0.0.1", 0, True),
        ("*:80", "0.0.0.0", 80, False),
        ("0.0.0.0:80", "0.0.0.0", 80, False),
        ("[::]:80", "::", 80, False),
        ("10.1.2.3:80", "10.1.2.3", 80, False),
        ("some-host:80", "some-host", 80, False),
    ],
)
def test_only_loopback_is_private(said: str, host: str, port: int, private: bool) -> None:
    place = place_of(said)
    assert place == PagePlace(host, port)
    assert place.is_private is private


@pytest.mark.parametrize("said", ["", ":80", "a:b", "a:99999", "a:-1"])
def test_what_is_no_place_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="no place"):
        place_of(said)


def test_a_host_is_read_as_browsers_write_it() -> None:
    assert [host_of(each) for each in ("A:1", "[FE80::1]:2", "a:", "[x]y")] == [
        "a",
        "fe80::1",
        "",
        "",
    ]
