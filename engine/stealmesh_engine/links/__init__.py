"""Links to peers: dialling, introductions, and messages that arrive once and in order.

Decides which peers are dialled and when, which are let in, what is said again after a break, and when a
link is over. Refuses to know what custody messages mean. Calls nothing above it: `Happened` is returned.

Invariant: of the custody messages of one session a peer is told each once and in order; a gap ends the
link, and everything unacknowledged is said again.

Start reading at `custody.py` (one peer's numbers), then `state.py` (what is known of all links); on these
stand `dialling.py`, `sending.py` and `introductions.py`, and above them `links.py`, the package's face.
"""
