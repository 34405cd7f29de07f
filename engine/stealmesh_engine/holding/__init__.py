"""Work of others that this node holds: its bags, its workers, and what it reports.

Decides what a worker runs next, when a chunk is divided, what a dead worker means and what is reported to
whom. Refuses to know where the work came from (`stealing`) and what the ledger makes of a report.

Invariant: an item that is here is untouched, with one worker, or finished and waiting to be reported.

Start reading at `holder.py`, then `dispatcher.py` and `bags.py`.
"""
