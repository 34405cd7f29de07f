"""Jobs that outlive their program: replicas, a primary under a term, elections, and the write-ahead log.

Decides where the replicas of a job live, which one leads, what is safe, and how a job that lost all
replicas is put together again. Refuses to know files (the host writes) and what a value means.

Invariant: what was called safe is on two replicas, so any n-1 of the n replicas of a configuration have
it together; and a pair (term, primary) never names two primaries.

README.md tells the life of a job. Start reading at `replica.py`, then `replication.py`, `primary.py`,
`state.py` and the deciders on it, and `client.py` for the program's side.
"""
