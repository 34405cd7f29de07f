"""Work of others that this node holds: its bags, its workers, and what it reports.

Decides what a worker runs next, when a chunk is divided, what a dead worker means and what owners hear.
Refuses to know where the work came from (`stealing`) and what the ledger makes of a report.

Invariant: an item that is here is untouched, with one worker, or finished and waiting to be reported.

State: `held_job.py`, `bags.py` (indexed, explore, and lanes of bounded jobs), `slots.py` (workers), `stock.py`. Deciders above it:
`dispatcher.py`, `reports.py`, `handover.py`, `answers.py`, and `holder.py` on top, where to start reading.
"""
