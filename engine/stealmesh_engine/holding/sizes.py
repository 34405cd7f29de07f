"""How blobs that came together are cut into messages of a bearable size.

Decides where to cut; refuses to know what is in the blobs. One that is too large by itself goes
alone: whether it may travel at all was decided where it was made.
"""

from __future__ import annotations

from collections.abc import Sequence


def cut_by_size(sizes: Sequence[int], octets_max: int) -> list[tuple[int, int]]:
    """[lo, hi) of neighbours that together stay within `octets_max`, or are one that is larger."""
    cuts: list[tuple[int, int]] = []
    lo, octets = 0, 0
    for at, size in enumerate(sizes):
        if at > lo and octets + size > octets_max:
            cuts.append((lo, at))
            lo, octets = at, 0
        octets += size
    if lo < len(sizes):
        cuts.append((lo, len(sizes)))
    return cuts
