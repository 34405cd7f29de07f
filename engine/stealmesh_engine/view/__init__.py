"""Who is in the mesh, as this node knows it, and which supernodes watch over whom.

Decides how two records of one node are merged and which supernodes observe a leaf. Refuses to know how a
record arrived, who is reachable and who is dead: that is the business of `links` and `membership`.

Invariant: merging is commutative, associative and idempotent, so all nodes that have heard the same
records, in any order and any number of times, have the same view.

Start reading at `view.py`.
"""
