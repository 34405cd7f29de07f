"""Is there a file descriptor left for the next caller?

libzmq does not say when it cannot accept: it tries again and again, and the caller waits in silence. So we
try ourselves, now and then. Decides when people are told, and counts. Refuses to know connections.
"""

from __future__ import annotations

import os
import resource
from collections import Counter

from stealmesh.host.saying import say
from stealmesh.transport.sockets import FILES_REMEDY


class DescriptorWatch:
    """Looks at most as often as it is asked; says each shortage once, and its end."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._short = False

    def look(self) -> None:
        try:
            os.close(os.eventfd(0, os.EFD_CLOEXEC))
        except OSError as error:
            self._counts["refused:no-descriptor"] += 1
            if not self._short:
                self._short = True
                most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
                say(
                    f"cannot accept connections ({error.strerror}; limit {most}): new peers wait, "
                    f"those that are here go on; {FILES_REMEDY}"
                )
        else:
            if self._short:
                self._short = False
                say("accepts connections again")
