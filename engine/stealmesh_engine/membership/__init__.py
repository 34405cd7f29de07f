"""Who is alive: heartbeats, suspicion, verdicts, and the supernodes that pass the word on.

Decides who is suspected, when a verdict of death is spoken, what is told to whom, and when a node is
promoted. Refuses to know jobs.

Invariant: a verdict names an incarnation; whoever is alive refutes it with the next one, and is never
counted among the dead under it again.

Start reading at `life.py`, then `detector.py` and `supernodes.py`.
"""
