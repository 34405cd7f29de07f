"""What a peer lets the others know of itself: its heartbeats, and its goodbye.

Decides who hears a beat and what is in it, when a peer that leaves may go, and when a program is told that
no node is in reach. Refuses to know what the hearers make of it.

Invariant: a peer that has said goodbye says nothing more.

Start reading at `heartbeats.py`.
"""
