"""What a measurement says, where it was made, and the file that remembers it.

One row is one figure of one peer: the median of its runs, unless it says otherwise. A ratio is the median of the ratios
of runs that were made next to each other, which a noisy machine disturbs far less than either
figure. `bench/results.jsonl` grows by one line a row and is never rewritten.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal


@dataclass(frozen=True)
class Target:
    """What Stealmesh wants to reach with a figure."""

    of: Literal["value", "ratio"]
    at: Literal["least", "most"]
    bound: float

    def is_met(self, value: float | None) -> bool:
        if value is None:
            return False
        return value >= self.bound if self.at == "least" else value <= self.bound

    def __str__(self) -> str:
        sign = "≥" if self.at == "least" else "≤"
        return f"{sign} {self.bound:g}{' × PPE' if self.of == 'ratio' else ''}"


def more_is_better(unit: str, target: str) -> bool:
    """Which way a figure should go: as its target says, else as its unit does."""
    return target.startswith("≥") if target else unit.endswith("/s")


SUMMARIES: dict[str, Callable[[Sequence[float]], float]] = {
    "median": median,
    "max": max,
    "sum": sum,
}


@dataclass(frozen=True)
class Row:
    """One figure of one peer."""

    workload: str
    peer: str
    unit: str
    values: Sequence[float]
    """One a run."""
    ratios: Sequence[float] = ()
    """To ProcessPoolExecutor, run by run; empty where there is nothing to compare with."""
    summary: Literal["median", "max", "sum"] = "median"
    """What the runs amount to: one wrong answer in twenty runs must not vanish in a median."""
    target: Target | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    """More that belongs to this figure: seeds, curves, parameters."""

    @property
    def value(self) -> float:
        return float(SUMMARIES[self.summary](self.values))

    @property
    def ratio_to_ppe(self) -> float | None:
        return median(self.ratios) if self.ratios else None

    @property
    def is_met(self) -> bool | None:
        """Whether the target is reached; None without one."""
        if self.target is None:
            return None
        return self.target.is_met(self.value if self.target.of == "value" else self.ratio_to_ppe)

    def plain(self) -> dict[str, Any]:
        return {
            "workload": self.workload,
            "peer": self.peer,
            "value": _short(self.value),
            "unit": self.unit,
            "summary": self.summary,
            "ratio_to_ppe": None if self.ratio_to_ppe is None else _short(self.ratio_to_ppe),
            "runs": len(self.values),
            "value_min": _short(min(self.values)),
            "value_max": _short(max(self.values)),
            "ratio_min": _short(min(self.ratios)) if self.ratios else None,
            "ratio_max": _short(max(self.ratios)) if self.ratios else None,
            "values": [_short(value) for value in self.values],
            "target": None if self.target is None else str(self.target),
            "met": self.is_met,
            "more": dict(self.more),
        }


def _short(value: float) -> float:
    return float(f"{value:.6g}")


# ---------------------------------------------------------------- where it was made


def machine() -> dict[str, Any]:
    """What a figure means nothing without."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def load_average() -> float:
    """Of the last minute, rounded."""
    return round(os.getloadavg()[0], 2)


def commit() -> str | None:
    """The commit that was measured, with a + when files were changed since; None outside a clone."""
    here = Path(__file__).parent
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=here, capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip()


# ---------------------------------------------------------------- the file


def default_path() -> Path:
    """bench/results.jsonl of the clone that runs; where there is none, a file here."""
    room = Path(__file__).parents[1]
    in_a_clone = room.name == "bench" and (room.parent / "pyproject.toml").exists()
    return room / "results.jsonl" if in_a_clone else Path("stealmesh-bench.jsonl")


@dataclass(frozen=True)
class Setting:
    """The circumstances of one measurement."""

    machine: Mapping[str, Any]
    commit: str | None
    load_before: float
    load_after: float
    quick: bool


def as_objects(rows: Iterable[Row], setting: Setting) -> list[dict[str, Any]]:
    """What is recorded and what `--json` prints."""
    about = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {
            **setting.machine,
            "load_before": setting.load_before,
            "load_after": setting.load_after,
        },
        "commit": setting.commit,
        "quick": setting.quick,
    }
    return [row.plain() | about for row in rows]


def append(objects: Iterable[Mapping[str, Any]], path: Path) -> None:
    with path.open("a", encoding="utf-8") as file:
        for each in objects:
            file.write(json.dumps(each, ensure_ascii=False) + "\n")
