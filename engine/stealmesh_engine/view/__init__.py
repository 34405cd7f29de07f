"""Which nodes are in the mesh, as this node knows it, and which supernodes watch over which nodes.

Decides how two records of one node are merged, which nodes are neighbours, and which supernodes observe
a node. Refuses to know how a record arrived, and which nodes are reachable or dead (`links`, `membership`).

Invariant: merging is commutative, associative and idempotent, so all nodes that have heard the same
records, in any order and any number of times, have the same view.

Start reading at `membership_view.py`.
"""
