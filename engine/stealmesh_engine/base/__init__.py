"""Small machines that every other package uses: interval sets, blocks, orders of ids, counters, journals.

Decides nothing about nodes, jobs or links. Refuses to know any other package of the engine but the
configuration.

Invariant: two equal sets of integers look alike, and every choice follows from its arguments alone.

Start reading at `intervals.py`.
"""
