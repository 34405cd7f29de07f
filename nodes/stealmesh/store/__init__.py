"""The log of a keeper of durable jobs: what is on the disk after a crash, and nothing else.

Does what the engine's Write and Rewrite say and tells when it is sure (Written); refuses to know
what the records mean. `records` says how a record lies in the file, `log` has the thread that
writes.
"""

from stealmesh.store.log import Log
from stealmesh.store.records import framed, opening, read

__all__ = ["Log", "framed", "opening", "read"]
