"""What an owner hands to a hired worker, and what it does when several things are told at once."""

from __future__ import annotations

from tests.engine.wire import CODE, FUNCTION, Host, Wire, pair

from stealmesh_engine.effects import Effect, OrderHired, Send
from stealmesh_engine.events import Event, Feed, HiredAnswer, OpenJob
from stealmesh_engine.ledger.hired_hand import HiredHand
from stealmesh_engine.ledger.owned_job import OwnedJob
from stealmesh_protocol.ids import JobId, job_id
from stealmesh_protocol.messages import Block, Grant, JobKind, JobSpec, Part


def opened(client: Host, node: Host, number: int) -> OwnedJob:
    """A job with a hired worker."""
    job = job_id(client.id, number)
    spec = JobSpec(job, JobKind.SUBMIT, client.id, f"f{number}", FUNCTION)
    client.step(OpenJob(spec, open_ended=True, functions={FUNCTION: CODE}))
    owned = client.core.owner.jobs[job]
    owned.hire = HiredHand(number, job, node.id, client.wire.now, hired=True, here=True)
    client.core.hires._hired[number] = owned
    return owned


def call(job: JobId, item: int) -> Feed:
    return Feed(job, Block(item, item + 1, 0), b"argument")


def told(client: Host, *events: Event) -> list[Effect]:
    return client.core.steps(client.wire.now, list(events))


def leased(effects: list[Effect]) -> list[str]:
    """How each lease of these effects goes out."""
    found = []
    for effect in effects:
        if isinstance(effect, OrderHired):
            found.append("hired")
        elif isinstance(effect, Send) and isinstance(effect.message, Grant):
            found.append("granted")
    return found


def answer(effects: list[Effect], node: Host) -> HiredAnswer:
    (order,) = (effect for effect in effects if isinstance(effect, OrderHired))
    lease = order.lease
    part = Part(lease.lid, lease.lo, lease.hi, 0, 0.001)
    return HiredAnswer(order.hire, order.job, node.id, part, b"result")


def unaudited() -> tuple[Wire, Host, Host]:
    """As in life: audits do what the shortest step leaves out."""
    wire, client, node = pair()
    for host in wire.hosts:
        host.core.auditing = False
    return wire, client, node


def test_calls_of_two_jobs_in_one_step() -> None:
    """The worker of the first takes one; the second has a worker that is being dismissed."""
    _, client, node = unaudited()
    first, second = opened(client, node, 1), opened(client, node, 2)
    assert second.hire is not None
    second.hire.dismissed = True
    effects = told(client, call(first.spec.job, 0), call(second.spec.job, 0))
    assert sorted(leased(effects)) == ["granted", "hired"]


def test_an_answer_and_the_next_call_in_one_step() -> None:
    _, client, node = unaudited()
    owned = opened(client, node, 1)
    effects = told(client, call(owned.spec.job, 0))
    assert owned.hire is not None
    owned.hire.dismissed = True
    effects = told(client, answer(effects, node), call(owned.spec.job, 1))
    assert leased(effects) == ["granted"]


def test_the_shortest_step_is_the_only_one_that_plans_no_time() -> None:
    wire, client, node = unaudited()
    owned = opened(client, node, 1)
    ordered = told(client, call(owned.spec.job, 0))
    planned = client.core.next_deadline()
    client.core.hires.due = wire.now + 1e-6
    told(client, answer(ordered, node))
    assert client.core.next_deadline() == planned
    told(client, call(owned.spec.job, 1), call(owned.spec.job, 2))
    assert client.core.next_deadline() == wire.now + 1e-6
