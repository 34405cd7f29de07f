"""Jobs that outlive their program: replicas, a primary under a term, elections, and the write-ahead log.

Decides where the copies of a job's ledger live, who leads, what is safe, and how a job that lost all its
copies is put together again. Refuses to know files (the host writes) and what a value means.

Invariant: what was said to be safe is at every replica of the configuration, and a term has one primary.

Start reading at `replica.py`, then `primary.py`, `election.py`, and `client.py` for the program's side.
"""
