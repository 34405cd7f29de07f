"""What notebooks show of a mesh, a job, a future and progress.

`card.py` makes HTML of words and numbers, `looks.py` says which words and numbers an object has, `cell.py` keeps
one output of a notebook up to date. None of it needs IPython: a notebook brings it.
"""
