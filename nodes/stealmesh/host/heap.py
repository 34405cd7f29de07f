"""What the C library does with memory that a node has freed.

Decides that it is kept for the next time. Pieces of values are 256 KiB each. glibc gives such a piece back to the
kernel and takes the next one from it; the kernel clears all of it each time, and that was a fourth of the work of
sending a value. A node keeps up to 32 MiB instead. Not for programs: what their heap does is theirs to say.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
KEPT_OCTETS = 32 << 20
MAPPED_FROM_OCTETS = 4 << 20
"""A larger piece of memory comes from the kernel, and goes back to it."""


def keep_freed_memory() -> None:
    """Where there is no glibc, nothing happens."""
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:
        tune(_MMAP_THRESHOLD, MAPPED_FROM_OCTETS)
        tune(_TRIM_THRESHOLD, KEPT_OCTETS)
