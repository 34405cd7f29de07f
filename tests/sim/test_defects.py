"""Defects that no network has: a host that tells things out of order, a holder that forgets."""

from __future__ import annotations

import pytest

from stealmesh_sim.faults import forget
from stealmesh_sim.random_worlds import RandomWorld, WorldOutcome, draw

from .scenes import scene


@pytest.mark.parametrize("messages", [1, 3, 20])
def test_what_is_told_out_of_order_is_said_again(messages: int) -> None:
    """A later custody message passed for a repeat, and with it everything that the peer said from then on:
    reports were dropped for ever, with both sides alive and linked."""
    told = scene(3)
    program = told.map(4000)
    for connection in told.world.network.open_connections():
        told.world.network.disorder(connection, messages)
    told.until(lambda: program.done, within=12.0)  # shorter than a lease
    told.finish()
    gaps = [told.counted("custody-gaps", each) for each in (told.client, *told.nodes)]
    assert sum(gaps), "nobody noticed: the host was not out of order"


def test_a_holder_that_forgets_all_it_is_given_is_not_given_it_for_ever() -> None:
    """Its lease expired and went to it again: it was the least laden of all."""
    told = scene(2)
    bad, good = told.nodes
    program = told.map(400)
    lease_seconds = told.client.core.config.lease_seconds

    def forgets() -> None:
        held = bad.core.holder.jobs.get(program.job)
        for lid in list(held.bags.leases) if held is not None else ():
            forget(bad, program.job, lid)
        told.world.after(0.0001, forgets)

    def seeks_nothing(now: float) -> None:
        """Or each time half of what is left would be lost with it."""
        bad.core.thief.seek_at = None

    bad.core.thief.seek = seeks_nothing  # type: ignore[method-assign]
    forgets()
    told.until(lambda: program.done, within=3 * lease_seconds + 10.0)
    assert told.counted("leases-expired")
    assert good.items > 0


def test_a_forgotten_lease_is_given_to_somebody_else() -> None:
    told = scene(3)
    program = told.map(1500)
    told.until(lambda: any(told.holds(node, program) for node in told.nodes))
    holder = next(node for node in told.nodes if told.holds(node, program))
    held = holder.core.holder.jobs[program.job]
    forget(holder, program.job, next(iter(held.bags.leases)))
    told.finish(within=told.client.core.config.lease_seconds + 25.0)


@pytest.mark.parametrize("seed", [7, 8, 9, 10])
def test_worlds_with_defects(seed: int) -> None:
    plan = draw(seed)
    plan.mixture.counts |= {"disorder": 4, "forget": 2}
    RandomWorld(plan).run(WorldOutcome(seed))
