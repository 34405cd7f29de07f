"""The log of a replica of durable jobs: what is on the disk after a crash, and nothing else.

Does what the engine's Write and Rewrite say and tells when it is sure (Written); refuses to know
what the records mean. `records` says how a record lies in the file and reads what is damaged,
`logfile` opens, appends and writes anew, on `files`; `log` has the thread that writes.
"""

from stealmesh.store.log import Log, LogUnusable
from stealmesh.store.logfile import LogFile
from stealmesh.store.records import Identity, read, written

__all__ = ["Identity", "Log", "LogFile", "LogUnusable", "read", "written"]
