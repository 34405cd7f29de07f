"""The account that the owner of a job keeps: which items are where, and which are done.

Decides which node gets a lease, what a report is worth, and when a lease has expired. Refuses to know what
an item computes and how a holder runs it.

Invariant: every item is in exactly one place (unleased, in one lease, or credited), and is credited once.

Start reading at `job_ledger.py` (what both ledgers answer), then `owner.py`. A report goes through
`crediting.py`, a grant through `placement.py`, which asks `candidates.py` for the node, `requirements.py`
whether it has what the job needs, and `dealing.py` how many leases a bounded or an urgent job may have.
What is done later or twice has files of its own: `put_off.py` (retries), `lacking.py` (items whose inputs are made again), `speculation.py` (second copies),
`lives.py` (actors that begin again). Work that depends on work: `graph.py` (what is free when an input comes, and
whether it follows its inputs to their node), `edges.py` (who waits for whom), `queues.py` (where it begins sooner),
`staying.py` (results that stay on nodes).
"""
