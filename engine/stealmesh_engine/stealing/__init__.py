"""How idle nodes find work: whom a thief asks, and what a victim gives.

Decides the order of victims, the patience between two attempts and the size of a share. Refuses to know
what the work is, and who is alive.

Invariant: what a victim gives leaves its bags in the same step in which the ledger is told, so an item is
never at two nodes under one lease.

Start reading at `trade.py`, then `shares.py`.
"""
