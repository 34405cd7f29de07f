"""What the browser is told: exact sums, bounded rows, and nothing that a peer could break it with."""

from __future__ import annotations

import json
from math import inf, nan
from typing import Any

import pytest
from tests.page.stand import job, node

from stealmesh.page.frames import JOBS_MAX, NODES_MAX, PAGES_MAX, frame_of, pages_of
from stealmesh.page.server import json_of

NOW = 2000.0


def frame(nodes: list[dict[str, Any]], jobs: list[dict[str, Any]], **counters: int) -> Any:
    status = {"nodes": nodes, "jobs": jobs, "counters": counters}
    return json.loads(json_of(frame_of(status, NOW)))


def test_sums_count_what_rows_leave_out() -> None:
    nodes = [node(at.to_bytes(16, "big"), f"n{at:04}", busy=at % 2) for at in range(1000)]
    jobs = [job(id=at.to_bytes(20, "big").hex()) for at in range(500)]
    told = frame([*nodes, node(b"\xff" * 16, "c", role="client")], jobs)
    assert len(told["nodes"]) == NODES_MAX
    assert len(told["jobs"]) == JOBS_MAX
    totals = told["totals"]
    assert (totals["nodes"], totals["clients"], totals["jobs"]) == (1000, 1, 500)
    assert (totals["workers"], totals["busy"], totals["executed"]) == (2000, 500, 10_000)
    assert (totals["total"], totals["done"], totals["free"]) == (15_000, 10_000, 2_000)
    assert all(each["busy"] for each in told["nodes"]), "those that work come first"
    assert len(json_of(told)) < 200_000, "docs/limits.md says so"


def test_nodes_that_are_not_well_are_never_left_out() -> None:
    nodes = [node(at.to_bytes(16, "big"), f"n{at:04}") for at in range(1000)]
    nodes.append(node(b"\xfe" * 16, "zz", state="unreadable", busy=0))
    told = frame(nodes, [])
    assert "zz" in [each["name"] for each in told["nodes"]]


def test_counts_beyond_a_browsers_numbers_travel_as_text() -> None:
    told = frame([node()], [job(total=10**18 + 1, done=2**53 - 1)])
    assert told["jobs"][0]["total"] == "1000000000000000001"
    assert told["jobs"][0]["done"] == 2**53 - 1
    assert told["totals"]["total"] == "1000000000000000001"


@pytest.mark.parametrize("lie", [nan, inf, -inf, True, "7", None, [1]])
def test_a_figure_that_is_none_breaks_nothing(lie: Any) -> None:
    """The status says that these are figures for those that this version knows; others it passes on as they are."""
    claims = {"links": lie, "memory": lie, "worker_memory": [lie], "values": lie, "leads": lie}
    told = frame([node(page=lie, **claims)], [job(rate=lie)])
    assert told["nodes"][0]["links"] == 0
    assert told["jobs"][0]["rate"] == 0
    assert told["totals"]["memory"] == 0
    assert told["pages"] == []


def test_texts_of_peers_are_cut_and_move_no_terminal() -> None:
    told = frame([node(name="\x1b]0;x\x07" + "a" * 500)], [job(name="<script>\u202e\0")])
    name = told["nodes"][0]["name"]
    assert len(name) == 120
    assert "\x1b" not in name
    assert told["jobs"][0]["name"] == "<script>\\x202e\\x00", "a browser is given text, never HTML"


@pytest.mark.parametrize(
    ("page", "counts"),
    [
        ("http://127.0.0.1:80/", True),
        ("http://[::1]:8787/", True),
        ("https://host-1.example:443/", True),
        ("javascript:alert(1)//", False),
        ("http://a:1/x", False),
        ("http://u@a:1/", False),
        ("http://a:1/\n", False),
        ("http://" + "a" * 200 + ":1/", False),
    ],
)
def test_a_peer_cannot_make_a_link_to_anything_but_a_page(page: str, counts: bool) -> None:
    assert bool(pages_of([node(page=page)])) is counts


def test_lists_of_pages_and_counters_are_bounded() -> None:
    assert len(pages_of(node(page=f"http://a:{at}/") for at in range(1, 999))) == PAGES_MAX
    assert len(frame([node()], [], **{f"c{at}": 1 for at in range(5000)})["counters"]) == 300


def test_what_runs_longest_comes_first() -> None:
    def runs(seconds: float) -> dict[str, Any]:
        return {"job": "aa", "name": "f", "lo": 1, "hi": 2, "worker": 0, "seconds": seconds}

    told = frame([node(running=[runs(1.0)]), node(running=[runs(9.0)] * 60)], [])
    assert told["slow"][0]["seconds"] == 9.0
    assert (len(told["slow"]), told["slow_of"]) == (50, 61)
