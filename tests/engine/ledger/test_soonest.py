"""The sum by which an item that needs values gets its node: what travels there, and what waits there."""

from __future__ import annotations

from stealmesh_engine.ledger.indexed import IndexedLedger
from stealmesh_engine.ledger.owned_job import IndexedJob
from stealmesh_engine.ledger.soonest import ASSUMED_ITEM_SECONDS, Soonest
from stealmesh_protocol.ids import PeerId, job_id
from stealmesh_protocol.messages import JobKind, JobSpec, Needs

NEEDS: Needs = (b"v" * 24,)
HERE, THERE, ELSEWHERE = b"h" * 16, b"t" * 16, b"e" * 16
NODES = [(HERE, 2), (THERE, 2), (ELSEWHERE, 2)]


class Travels:
    """Seconds that the values travel to each node."""

    def __init__(self, seconds: dict[PeerId, float]) -> None:
        self._seconds = seconds

    def moving(self, needs: Needs) -> Travels:
        assert needs == NEEDS
        return self

    def seconds(self, peer: PeerId) -> float:
        return self._seconds[peer]


def job(number: int = 1) -> IndexedJob:
    spec = JobSpec(job_id(b"o" * 16, number), JobKind.SUBMIT, b"o" * 16, "job", b"f" * 32)
    return IndexedJob(spec, IndexedLedger(100, 100), open_ended=True)


def soonest(here: float = 0.0, there: float = 1.0, elsewhere: float = 1.0) -> Soonest:
    made = Soonest()
    made.ask(Travels({HERE: here, THERE: there, ELSEWHERE: elsewhere}))
    return made


def lease(owned: IndexedJob, holder: PeerId, items: int) -> None:
    for _ in range(items):
        owned.ledger.lease(holder, 10.0, items_max=1)


def test_it_goes_where_its_values_are() -> None:
    assert soonest().node_for(job(), NEEDS, NODES) == HERE


def test_it_goes_elsewhere_when_more_waits_there_than_travels() -> None:
    owned = job()
    lease(owned, HERE, 3)
    owned.item_seconds = 0.5  # 0.75 s wait
    assert soonest().node_for(owned, NEEDS, NODES) == HERE
    owned.item_seconds = 0.7  # 1.05 s
    assert soonest().node_for(owned, NEEDS, NODES) == THERE
    lease(owned, THERE, 1)
    assert soonest().node_for(owned, NEEDS, NODES) == ELSEWHERE


def test_items_of_unknown_cost_follow_their_values_for_a_while() -> None:
    owned, made = job(), soonest()
    follow = int(2 / ASSUMED_ITEM_SECONDS)
    lease(owned, HERE, follow - 1)
    assert made.node_for(owned, NEEDS, NODES) == HERE
    lease(owned, HERE, 2)
    assert made.node_for(owned, NEEDS, NODES) == THERE


def test_a_report_says_what_an_item_takes() -> None:
    owned, made = job(), soonest()
    lease(owned, HERE, 1)
    made.node_for(owned, NEEDS, NODES)
    for _ in range(20):
        owned.took(2, 10.0)
    assert made.node_for(owned, NEEDS, NODES) == THERE


def test_what_others_have_sent_there_counts() -> None:
    made = soonest()
    made.beat(HERE, 4.0, 2)
    assert made.node_for(job(), NEEDS, NODES) == THERE
    made.beat(HERE, 0.0, 2)
    assert made.node_for(job(), NEEDS, NODES) == HERE
    made.beat(HERE, 4.0, 2)
    made.forget(HERE)
    assert made.node_for(job(), NEEDS, NODES) == HERE


def test_other_jobs_of_the_program_count_while_they_last() -> None:
    first, second, made = job(1), job(2), soonest()
    made.node_for(first, NEEDS, NODES)
    lease(first, HERE, 10)
    first.item_seconds = 1.0
    assert made.node_for(second, NEEDS, NODES) == THERE
    first.done = True
    assert made.node_for(second, NEEDS, NODES) == HERE


def test_of_equal_nodes_the_one_with_the_fewest_leases_gets_it() -> None:
    owned = job()
    owned.item_seconds = 0.0
    lease(owned, HERE, 1)
    lease(owned, THERE, 1)
    assert soonest(0.0, 0.0, 0.0).node_for(owned, NEEDS, NODES) == ELSEWHERE


def test_no_node_no_answer() -> None:
    assert soonest().node_for(job(), NEEDS, []) is None
