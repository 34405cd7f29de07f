"""What a node knows of a durable job beside its ledger: who keeps it, and whether it has a primary.

A pure function of the copies here, and of what a program here has launched. Asked only when a person looks.
Decides nothing. Refuses to know single items: the ledger of the primary has them (`ledger/why_owned.py`).
"""

from __future__ import annotations

from stealmesh_engine.durable.client import DurableClient
from stealmesh_engine.durable.state import DurableState
from stealmesh_engine.ledger.why import Fact, Why, how_it_ended, short_text
from stealmesh_protocol.ids import JobId


def why_kept(state: DurableState, client: DurableClient, job: JobId) -> list[Fact]:
    """Nothing, if this peer has no part in the job or all is well."""
    if job in state.gone:
        return [Fact(Why.JOB_OVER, text=short_text(state.gone[job]))]
    followed = client.jobs.get(job)
    if followed is not None and followed.launch is not None:
        return [Fact(Why.NOT_ACCEPTED)]
    primary = state.primaries.get(job)
    if primary is not None and primary.gathering is not None:
        return [Fact(Why.GATHERING)]
    replica = state.replicas.get(job)
    if replica is None:
        return []
    if primary is not None and job not in state.owner.jobs and replica.ended:
        return [Fact(Why.JOB_OVER, text=how_it_ended(replica.line()), many=replica.done_items)]
    return [Fact(Why.NO_PRIMARY)] if job in state.candidacies else []
