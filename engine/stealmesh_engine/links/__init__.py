"""Links to peers: dialling, introductions, and messages that arrive once and in order.

Decides whom to dial and when, who is let in, what is said again after a break, and when a link is over.
Refuses to know what custody messages mean.

Invariant: of the messages of one session a peer is told each once and in order; a gap ends the link and
everything unacknowledged is said again.

Start reading at `custody.py` (one peer's numbers), then `links.py` (all peers).
"""
