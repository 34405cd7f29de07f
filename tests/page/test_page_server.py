"""The server over a mesh that is none: what it answers, refuses, counts, and when it asks."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from tests.page.stand import JOB, ONE, StillMesh, job, node, page, until
from tests.page.test_page_gate import KEY, token

from stealmesh.host.issuing import pass_secrets
from stealmesh.page import gathering, requests, server
from stealmesh.page.gate import LOOPBACK_NAMES, PageGate
from stealmesh.page.server import first_of
from stealmesh_engine.base import counters
from stealmesh_protocol.journal_messages import JournalEntry

EVIL = "Host: evil.example"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "EVERY_SECONDS", 0.05)
    monkeypatch.setattr(gathering, "FRESH_SECONDS", 0.0)


async def events(reader: asyncio.StreamReader, *wanted: str) -> dict[str, object]:
    """Read a stream until all of these have come; their latest data."""
    found: dict[str, object] = {}
    name = ""
    while not all(each in found for each in wanted):
        line = (await asyncio.wait_for(reader.readline(), 30)).decode()
        assert line, f"the stream ended after {list(found)}"
        if line.startswith("event: "):
            name = line[7:].strip()
        elif line.startswith("data: "):
            found[name] = json.loads(line[6:])
    return found


async def test_every_answer_forbids_what_is_not_ours() -> None:
    async with page() as told:
        for path in ("/", "/page.js", "/vendor/uPlot.js", "/meanings", "/metrics", "/nothing"):
            _, head, _ = await told.get(path)
            assert "Content-Security-Policy: default-src 'none'" in head
            assert "unsafe" not in head
            assert "Access-Control" not in head
            assert "nosniff" in head


async def test_the_page_and_its_parts_are_there_and_no_other_file_is() -> None:
    async with page() as told:
        status, head, body = await told.get("/")
        assert (status, "text/html" in head) == (200, True)
        for name in ("/page.css", "/page.js", "/vendor/uPlot.js", "/vendor/uPlot.css", "/icon.svg"):
            assert name in body or name in (await told.get("/page.js"))[2] or name == "/icon.svg"
            assert (await told.get(name))[0] == 200
        for path in (
            "/../gate.py",
            "/vendor/../../gate.py",
            "/%2e%2e/gate.py",
            "/vendor/LICENSE.htm",
            "//x/y",
        ):
            assert (await told.get(path))[0] in (400, 404)
        assert told.counted["page-requests-refused"] == 5
        assert told.mesh.asked == [], "files cost the mesh nothing"


async def test_every_counter_has_its_meaning_from_the_registry() -> None:
    async with page() as told:
        found = json.loads((await told.get("/meanings"))[2])
    assert found == {"names": counters.MEANINGS, "families": counters.FAMILIES}
    assert {name for name in found["names"] if name.startswith("page-")} == {
        f"page-{what}"
        for what in ("connections-refused", "looks-refused", "readers-dropped", "requests-refused")
    }


async def test_only_gets_of_bounded_size_are_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "HEAD_SECONDS_MAX", 0.3)
    host = "Host: localhost"
    async with page() as told:
        for text, status in (
            (f"POST / HTTP/1.1\r\n{host}\r\n\r\n", 405),
            (f"GET / HTTP/1.1\r\n{host}\r\nContent-Length: 3\r\n\r\nabc", 400),
            (f"GET / HTTP/1.1\r\n{host}\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (f"GET / HTTP/1.1\r\n{host}\r\n{EVIL}\r\n\r\n", 400),
            (f"GET / HTTP/1.1\r\n{host}\r\n folded: x\r\n\r\n", 400),
            (f"GET http://localhost/ HTTP/1.1\r\n{host}\r\n\r\n", 400),
            (f"GET / HTTP/2\r\n{host}\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: é\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n" + "a: b\r\n" * 65 + "\r\n", 431),
            ("GET /" + "a" * 9000 + " HTTP/1.1\r\n\r\n", 431),
            ("GET / HTTP/1.1\r\nHost: loc", 408),
            (f"GET / HTTP/1.1\r\n{EVIL}\r\n\r\n", 421),
        ):
            assert (await told.say(text))[0] == status, text[:60]
        assert told.counted == {"page-requests-refused": 12}


async def test_nothing_is_asked_while_nobody_looks() -> None:
    async with page() as told:
        await told.get("/")
        assert told.mesh.asked == []
        reader, writer = await told.listen("/live")
        assert (await events(reader, "hello", "frame"))["hello"] == {"name": "here", "host": "h"}
        assert set(told.mesh.asked) == {"status"}, "no journal is read for who sees none"
        writer.close()
        await until(lambda: not told.gathering.viewers, "it has left")
        asked = len(told.mesh.asked)
        for _ in range(5):  # rounds that would have been
            await asyncio.sleep(0.05)
        assert len(told.mesh.asked) <= asked + 1, "the round that was under way"


async def test_many_visitors_cost_the_mesh_as_much_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "FRESH_SECONDS", 0.5)
    async with page() as told:
        visitors = [await told.listen("/live") for _ in range(8)]
        for reader, _ in visitors:
            await events(reader, "frame")
        assert len(told.mesh.asked) <= told.gathering.latest.number + 1, "one for all"


async def test_scrapes_within_a_moment_are_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "FRESH_SECONDS", 1000.0)
    async with page() as told:
        assert {(await told.get("/metrics"))[0] for _ in range(5)} == {200}
        assert told.mesh.asked == ["status"]


async def test_the_task_stream_is_read_for_who_sees_it() -> None:
    mesh = StillMesh(node(jobs=[job()]))
    mesh.entries[ONE] = [
        JournalEntry(0, 4.9, 0, "done", "<script>", JOB, worker=0, lo=0, hi=1, begun=4.8)
    ]
    async with page(mesh) as told:
        reader, _writer = await told.listen("/live?first=0")
        found = await events(reader, "frame", "stream")
        stream = found["stream"]
        assert isinstance(stream, dict)
        assert stream["rows"] == [["n1", ONE.hex()]]
        assert stream["chunks"] == [1]
        assert stream["bars"][0][4] == "<script>", "as text: what draws it escapes"


async def test_a_reader_that_takes_nothing_is_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "SLOW_SECONDS", 0.2)
    # Large frames, so that the kernel's buffers are soon full.
    nodes = [
        node(at.to_bytes(16, "big"), "n" * 120, worker_memory=[2**52] * 64, page="")
        for at in range(200)
    ]
    async with page(StillMesh(*nodes)) as told:
        await told.listen("/live")
        await until(lambda: told.counted.get("page-readers-dropped"), "it is dropped")
        assert not told.gathering.viewers
        assert (await told.get("/meanings"))[0] == 200, "others are served"


async def test_connections_and_streams_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 3)
    monkeypatch.setattr(server, "STREAMS_MAX", 1)
    async with page() as told:
        reader, _writer = await told.listen("/live")
        await events(reader, "hello")
        assert (await told.get("/live"))[0] == 503
        for _ in range(3):
            await told.open()
        await until(lambda: told.counted["page-connections-refused"] == 2, "the fourth is refused")


async def test_the_place_of_a_visitor_that_leaves_is_free_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gathering, "EVERY_SECONDS", 1000.0)
    async with page() as told:
        for _ in range(20):  # the first ones while their frame is written
            reader, writer = await told.listen("/live")
            await events(reader, "frame" if told.gathering.latest.frame else "hello")
            writer.close()
        await until(lambda: told.gathering.latest.frame, "the round that was under way")
        await until(lambda: not told.gathering.viewers, "it is known without another frame")


async def test_looks_are_text_and_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "LOOKS_MAX", 1)
    mesh, begun, go_on = StillMesh(node(jobs=[job()])), threading.Event(), threading.Event()
    async with page(mesh) as told:
        _, _, body = await told.get(f"/look?job={JOB.hex()}&item=3")
        assert json.loads(body)["story"]["told"] == "it is free\\x1b[31m"
        assert json.loads((await told.get("/look?name=f/3"))[2]) == {"job": JOB.hex(), "item": "3"}
        for wrong in (
            "job=zz",
            "job=",
            "node=1",
            "name=g",
            "name=f/x",
            "job=aa&item=-1",
            f"job={'a' * 500}",
        ):
            assert (await told.get(f"/look?{wrong}"))[0] in (400, 404), wrong

        def hold() -> None:
            begun.set()
            go_on.wait(30)

        mesh.on_explain = hold
        first = asyncio.create_task(told.get(f"/look?job={JOB.hex()}"))
        await asyncio.to_thread(begun.wait, 30)
        assert (await told.get(f"/look?job={JOB.hex()}"))[0] == 503
        go_on.set()
        assert (await first)[0] == 200
        assert told.counted["page-looks-refused"] == 1


async def test_a_mesh_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "ANSWER_SECONDS", 0.05)
    mesh = StillMesh()
    mesh.silent = True
    async with page(mesh) as told:
        assert (await told.get("/metrics"))[0] == 504
        reader, _writer = await told.listen("/live")
        assert "trouble" in await events(reader, "trouble")
        mesh.silent = False
        await events(reader, "frame")


async def test_a_locked_page_shows_nothing_of_the_mesh_before_the_login() -> None:
    gate = PageGate(LOOPBACK_NAMES, "c", True, pass_secrets(KEY))
    async with page(gate=gate) as told:
        assert (await told.get("/"))[0] == 200, "the form itself"
        for path in ("/live", "/look?name=f", "/metrics", "/meanings"):
            status, head, _ = await told.get(path)
            assert (status, "WWW-Authenticate: Bearer" in head) == (401, True)
        assert told.mesh.asked == []
        assert (await told.get("/login", "Authorization: Bearer stealmesh1-x"))[0] == 401
        status, head, _ = await told.get("/login", f"Authorization: Bearer {token()}")
        assert status == 204
        (cookie,) = [line for line in head.split("\r\n") if line.startswith("Set-Cookie: ")]
        assert "HttpOnly; SameSite=Strict" in cookie
        value = cookie.removeprefix("Set-Cookie: ").partition(";")[0]
        assert (await told.get("/metrics", f"Cookie: {value}"))[0] == 200
        assert (await told.get("/metrics", f"Authorization: Bearer {token()}"))[0] == 200


async def test_a_revoked_token_ends_open_streams() -> None:
    gate, mesh = PageGate(LOOPBACK_NAMES, "c", True, pass_secrets(KEY)), StillMesh()
    bearer = f"Authorization: Bearer {token()}"
    async with page(mesh, gate) as told:
        reader, _ = await told.listen("/live", bearer)
        await events(reader, "frame")
        mesh.nodes = [node(revoked=["eye"])]
        await events(reader, "login")
        assert (await asyncio.wait_for(reader.read(), 30)).strip() == b"", "and nothing more"
        assert (await told.get("/metrics", bearer))[0] == 401


def test_the_first_node_is_a_number() -> None:
    assert [first_of(each) for each in ("", "x", "-1", "16", "9" * 30)] == [-1, -1, -1, 16, -1]
