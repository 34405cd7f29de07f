"""Search tiny worlds and print what was seen: ``python -m tests.worlds [--large] [--states-max N]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / room) for room in ("protocol", "engine")]

from tests.worlds.explorer import Found, TooLarge, Violation, explore  # noqa: E402
from tests.worlds.model import Setting, TinyWorld  # noqa: E402
from tests.worlds.settings import LARGE, STANDARD  # noqa: E402

HEAD = (
    f"{'world':30} {'items':>5} {'nodes':>5} {'network':>8} {'trouble':54} {'backstop':>8}"
    f" {'states':>10} {'transitions':>12} {'stuck':>6} {'seconds':>8}"
)


def line(setting: Setting, found: Found) -> str:
    size = len(setting.tree) if setting.tree is not None else setting.items
    trouble = ", ".join(
        f"{count} {name}"
        for name in setting.__dataclass_fields__
        if name in TROUBLE and (count := getattr(setting, name))
    )
    return (
        f"{setting.name:30} {size:5} {setting.nodes:5} {setting.network.name.lower():>8} {trouble:54}"
        f" {'yes' if setting.backstop else 'no':>8} {found.states:10,} {found.transitions:12,}"
        f" {found.stuck:6} {found.seconds:8.1f}"
    )


TROUBLE = {
    "crashes", "suspicions", "doubts", "steals", "losses", "repeats", "expiries", "cancels",
    "returns", "mishaps", "divisions",
}  # fmt: skip


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.worlds", description=__doc__)
    options.add_argument("--large", action="store_true", help="the large worlds (minutes)")
    options.add_argument("--states-max", type=int, default=5_000_000)
    chosen = options.parse_args()
    print(HEAD)
    wrong = 0
    for setting in LARGE if chosen.large else STANDARD:
        try:
            found = explore(TinyWorld(setting), states_max=chosen.states_max)
        except TooLarge as large:
            print(f"{setting.name:30} not exhausted: {large}; no violation up to there", flush=True)
            continue
        except Violation as violation:
            print(f"{setting.name:30} VIOLATION: {violation}", flush=True)
            wrong += 1
            continue
        print(line(setting, found), flush=True)
        if found.stuck:
            wrong += 1
            print("  " + "\n  ".join(found.stuck_example))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
