"""Ends the future of a stopped task at once, with TaskStopped.

Decides the exception, and that it is there at once: the mesh no longer counts the task, whatever becomes of
it, so there is nothing to wait for. Refuses to know how a task is ended.
"""

from __future__ import annotations

from typing import Any

from stealmesh.client.session import ProgramLink
from stealmesh.futures import Future, settle
from stealmesh_protocol.errors import TaskStopped


def end_stopped(link: ProgramLink, future: Future[Any], what: str) -> bool:
    """End it with TaskStopped. False: it was over at this very moment."""
    error = TaskStopped(f"{what} was stopped by the program")
    return not settle(link.condition, link.tell, [(future, None, error)])
