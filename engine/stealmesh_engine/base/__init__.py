"""Small machines that every other package uses: sets of integers, orders of ids, journals, functions.

Decides nothing about nodes, jobs or links. Refuses to know any other package of the engine but the
configuration.

Invariant: two equal sets of integers look alike, whatever was done to reach them, and every choice
follows from its arguments alone.

Start reading at `intervals.py`.
"""
