"""Journals of other nodes: a peer asks for pages of their rings, and a node answers.

Start with `journals.py`. What is in a ring is decided in `base/rings.py`.
"""
