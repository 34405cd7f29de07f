"""What Stealmesh peers say to each other: ids, messages, bytes. Imports nothing above it.

If the compiled core is installed beside it (`fast`), that decides here whether its modules come in place of
these ones, before any of them is imported.
"""

from importlib.util import find_spec

if find_spec("stealmesh_fast") is not None:
    import stealmesh_fast  # noqa: F401  with it come the modules that it has compiled
