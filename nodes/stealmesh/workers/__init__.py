"""The processes that run user code, and the node's hold on them.

``pool`` is the node's side, ``nursery`` forks, ``process`` is a worker's life, ``runner`` does
the work, ``wire`` says how they talk. Importing this package imports none of them.
"""
