"""One line of the doctor's: what was looked at, what was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Diagnosis:
    what: str
    text: str
    remedy: str = ""
    """What to do; empty: nothing, all is well."""

    @property
    def is_well(self) -> bool:
        return not self.remedy

    def line(self) -> str:
        mark, end = ("ok  ", "") if self.is_well else ("TODO", f": {self.remedy}")
        return f"{mark} {self.what}: {self.text}{end}"


def report(findings: Iterable[Diagnosis]) -> dict[str, Any]:
    """For programs."""
    found = list(findings)
    return {
        "well": all(each.is_well for each in found),
        "findings": [asdict(each) for each in found],
    }


def in_words(octets: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if octets >= size:
            return f"{octets / size:.1f} {unit}"
    return f"{octets:,} octets"
