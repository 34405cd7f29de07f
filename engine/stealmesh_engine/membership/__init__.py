"""Who is alive: heartbeats, suspicion, verdicts, and the supernodes that pass the word on.

Decides when a silent peer is suspected, when it is dead, which records are
told to which peers, and when a node is promoted. Refuses to know jobs: it returns what has changed
(changes.py), and the core moves the work.

Invariant: a verdict names an incarnation. A living peer refutes it with the next one, and is never counted
among the dead under the old one again.

    state and measures    detector (silence), leaf (our observers), charges (peers we observe), suspicion
    verdicts              verdicts (dead, stalled, or our own fault), reach (alive, but not for us)
    the word of it        dissemination, rates
    roles and repair      supernodes, reconnect

Start reading at `membership.py`, the door, then `suspicion.py` and `verdicts.py`.
"""
