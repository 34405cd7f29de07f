"""Tasks inside tasks: what `stealmesh.here()` gives.

In a worker: ``mesh`` (what a task calls; start reading here), ``family`` (the children of the tasks of one
chunk, and who runs them), ``child`` (the future of one), ``inputs`` (futures in arguments), ``local`` (maps,
reductions and explorations as loops), ``away`` (children that other workers run), ``threads``. A worker imports
none of them before a task calls `here()`.
Invariant: a child counts once; and a task's result counts when all its children are over.
"""
