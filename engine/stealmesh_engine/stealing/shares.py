"""How much a victim gives of a job, and how much a job is worth to a thief.

Decides what is worth the journey. Refuses to know thieves, links and ledgers: it is asked with plain
numbers. Idea: half of the untouched rest, after Hendler and Shavit.
"""

from __future__ import annotations

from stealmesh_engine.config import Config
from stealmesh_engine.holding.bags import Bags

FOLLOWED_FACTOR = 5
"""What other items follow is worth a journey only if it waits that many times longer: all that follows it, here and at
other nodes, is withdrawn and leased anew."""


def share_of(
    bags: Bags,
    *,
    sharers: int,
    nodes: int,
    config: Config,
    tried: bool = True,
    busy: bool = False,
    workers: bool = True,
) -> int:
    """Untouched items for one of `sharers` hungry thieves in a mesh of `nodes`; 0: not worth it.

    Known cost: an equal share with the victim itself, if that is worth the journey. What is not goes
    whole if it would wait for workers that are `busy` with something long.
    Unknown cost: 1/(2 nodes), as the first report will soon tell. But an equal share if the report is long in
    coming, or if our own workers have not even `tried` these items, having better things to do.
    A victim without `workers` (they died, and others are not up yet) has no share itself.
    """
    queued = bags.queued_items
    if not queued:
        return 0
    if not workers:
        return -(-queued // sharers)
    if bags.opaque:
        return max(1, queued // 2)
    worth_it = bags.queued_seconds >= worth_moving_seconds(bags, config)
    if not bags.cost.known and tried and not worth_it:
        return max(1, queued // (2 * nodes))
    if bags.cost.known and not worth_it:
        return queued if busy else 0
    return max(1, queued - queued // (sharers + 1) if sharers == 1 else queued // (sharers + 1))


def worth_of(bags: Bags, config: Config) -> tuple[int, float]:
    """How much a thief gains by it, greater is better: (2, queued seconds) if these are worth a journey,
    (1, queued items) if the cost is unknown, (0, queued seconds) for the rest."""
    seconds = bags.queued_seconds
    if seconds >= worth_moving_seconds(bags, config) and not bags.opaque:
        return 2, seconds
    if bags.opaque or not bags.cost.known:
        return 1, float(bags.queued_items)
    return 0, seconds


def worth_moving_seconds(bags: Bags, config: Config) -> float:
    """How much work of a job has to wait here before some of it is worth a journey."""
    return config.steal_seconds_min * (FOLLOWED_FACTOR if bags.some_follow else 1)
