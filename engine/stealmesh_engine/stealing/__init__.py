"""How idle nodes find work: which peer a thief asks, and what a victim gives.

Decides the order of victims, the patience between two attempts and the size of a share. Refuses to know
what the work is, and which peers are alive.

Invariant: what a victim gives leaves its bags in the same step in which the ledger is told, so an item is
never at two nodes under one lease.

Start reading at `thief.py`, then `victim.py` and `shares.py`.
"""
