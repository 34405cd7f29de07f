"""What a process asks the kernel for itself (prctl): who may look into it, and when it is to end.

Decides nothing. Where there is no such call (another system), nothing is asked for.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4


def prctl() -> Callable[..., int] | None:
    """The kernel's call, if there is one."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None
    return function


def close_to_others() -> None:
    """From now on no other process of this user reads this one's memory, environment and descriptors, and it
    leaves no core file: it holds the mesh key, and user code runs as the same user. Root still may. What we
    start with exec is open again."""
    call = prctl()
    if call is not None:
        call(PR_SET_DUMPABLE, 0, 0, 0, 0)
