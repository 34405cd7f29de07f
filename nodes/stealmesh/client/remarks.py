"""What nodes remark beside results: that they have other versions of packages that the program uses.

Decides that each pair of node and package is reported once, as a Python warning in the thread that opens
the result. The result comes even if the program's warning filter or hook raises. Refuses to know what is
compared (`shipping/versions.py`).
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable

from stealmesh.client import telling
from stealmesh_protocol.errors import OtherVersionWarning
from stealmesh_protocol.values import OtherVersion

TOLD_MAX = 4096
"""A program that meets more pairs may be warned of one again."""
OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep

_told: dict[tuple[str, str], None] = {}


def tell(remarks: Iterable[OtherVersion]) -> None:
    for remark in remarks:
        key = (remark.node, remark.package)
        if key in _told:
            continue
        _told[key] = None
        if len(_told) > TOLD_MAX:
            del _told[next(iter(_told))]
        _warn(
            f"node {remark.node} has {remark.package} {remark.here}, this program has "
            f"{remark.there}: what its tasks compute may differ; install the same version on both"
        )


def _warn(text: str) -> None:
    try:
        warnings.warn(text, OtherVersionWarning, stacklevel=_outside())
    except Exception:  # noqa: BLE001  a filter that makes errors of warnings, or a hook: the result must come
        telling.tell(text)


def _outside() -> int:
    """How many frames up the program's own line is, which waits for the result."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(OURS):
        frame, level = frame.f_back, level + 1
    return level
