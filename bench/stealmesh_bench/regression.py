"""Whether a figure has become worse than the last one of the same machine. It says so, and decides nothing.

A ratio to ProcessPoolExecutor is compared where both records have one, since it survives noise; else the
figure. Quick runs measure nothing, so they are neither compared nor compared with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stealmesh_bench.peers import STEALMESH
from stealmesh_bench.record import more_is_better
from stealmesh_bench.table import short

WORSE_SHARE = 0.10

Recorded = Mapping[str, Any]


def remembered(path: Path) -> list[dict[str, Any]]:
    """All that the file has; nothing if there is none yet."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def regressions(new: Iterable[Recorded], before: Iterable[Recorded]) -> list[str]:
    """One sentence for each figure of Stealmesh that is more than 10 % worse than its last record."""
    last = {_what(each): each for each in before if _counts(each)}
    found = []
    for now in filter(_counts, new):
        old = last.get(_what(now))
        if old is not None and (said := _said(old, now)):
            found.append(said)
    return found


def _counts(each: Recorded) -> bool:
    return each["peer"] == STEALMESH and not each["quick"]


def _what(each: Recorded) -> tuple[str, ...]:
    """The workload and the machine; how loaded that was is no part of it."""
    machine = each["machine"]
    place = (str(machine.get(name)) for name in ("cpu", "cores", "kernel", "python"))
    return each["workload"], each["unit"], *place


def _said(old: Recorded, now: Recorded) -> str:
    by_ratio = old["ratio_to_ppe"] is not None and now["ratio_to_ppe"] is not None
    name = "ratio_to_ppe" if by_ratio else "value"
    was, is_now = old[name], now[name]
    higher = more_is_better(now["unit"], now["target"] or "")
    if not (is_now < was * (1 - WORSE_SHARE) if higher else is_now > was * (1 + WORSE_SHARE)):
        return ""
    change = f"{is_now / was - 1:+.0%}" if was else "from nothing"
    unit = "× PPE" if by_ratio else now["unit"]
    return (
        f"REGRESSION {now['workload']}: {short(was)} → {short(is_now)} {unit} ({change}); "
        f"{_where(old)} → {_where(now)}"
    )


def _where(each: Recorded) -> str:
    return f"commit {each['commit']}, load {each['machine'].get('load_before')}"
