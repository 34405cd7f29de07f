"""A night of chaos: `python -m stealmesh_bench.chaos.nightly` (also `make chaos-nightly`).

Every scenario in virtual time and on real processes, among them five minutes of killers; then 20,000
random worlds, and 2,000 of each other family: durable jobs, jobs in slices, graphs, durable graphs.
Every part runs, even if one before it failed; exit status 1 if any of them broke a promise. What
failed prints the command that repeats it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence

from stealmesh_bench.chaos.jobs import VIRTUAL_JOBS
from stealmesh_bench.chaos.named import DISKS
from stealmesh_bench.seeds import FAMILIES

PYTHON = sys.executable
CHAOS = ("-m", "stealmesh_bench.chaos")


def parts(worlds: int, seed: int) -> list[list[str]]:
    """The commands of a night, the cheapest first."""
    chaos = [PYTHON, *CHAOS, "--seed", str(seed)]
    seeds = [PYTHON, "-m", "stealmesh_bench.seeds", "--seed", str(seed)]
    targets = ("supernode", "seed", "entry", "victim", "submitter", "durable-submitter", "any")
    return [
        [*chaos, "--sim", "--scenario", "all", "--nodes", "16"],
        [*chaos, "--sim", "--scenario", "all", "--nodes", "64", "--silent"],
        *([*chaos, "--sim", "--target", each, "--runs", "20", "--nodes", "16"] for each in targets),
        [*chaos, "--scenario", "all", "--nodes", "12"],
        *([*chaos, "--target", each, "--runs", "20", "--nodes", "8"] for each in targets),
        *(
            [*chaos, "--target", each, "--job", job, "--runs", "20", "--nodes", "8"]
            for each in ("supernode", "seed", "entry", "victim")
            for job in ("uts-t1", "tasks")
        ),
        *(
            [*chaos, *sim, "--scenario", name, "--job", job, "--runs", "10", "--nodes", "8"]
            for job in VIRTUAL_JOBS
            for name in ("kill-one", "killers", "pauses", "partition")
            for sim in (["--sim"], [])
        ),
        [*chaos, "--scenario", "full-stop", "--runs", "20", "--nodes", "8"],
        [*chaos, "--sim", "--scenario", "full-stop", "--runs", "20", "--nodes", "16"],
        *([*chaos, *_disks(each), "--runs", "5", "--nodes", "6"] for each in ("minority", "all")),
        *([*chaos, "--sim", *_disks(each), "--runs", "10"] for each in ("minority", "all")),
        [*chaos, "--scenario", "random", "--runs", "20", "--nodes", "8"],
        [*chaos, "--scenario", "killers", "--nodes", "13", "--seconds", "300"],
        [*chaos, "--sim", "--scenario", "kill-one", "--scenario", "skype-card", "--nodes", "1000"],
        [*seeds, "--worlds", str(worlds)],
        *([*seeds, "--worlds", str(worlds // 10), f"--{each}"] for each in FAMILIES),
    ]


def _disks(target: str) -> list[str]:
    """All scenarios of failing disks, for these targets."""
    return [word for name in sorted(DISKS) for word in ("--scenario", name)] + ["--target", target]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m stealmesh_bench.chaos.nightly", description=__doc__
    )
    parser.add_argument("--worlds", type=int, default=20_000, help="random worlds to run")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()) // 86_400 * 100_000,
        help="of the first run and world (default: another one every day)",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="say what would be run, and end")
    told = parser.parse_args(arguments)
    failed = []
    for command in parts(told.worlds, told.seed):
        said = " ".join(["python", *command[1:]])
        print(f"{time.strftime('%H:%M:%S')} {said}", flush=True)
        if not told.list and subprocess.run(command).returncode != 0:
            failed.append(said)
    for said in failed:
        print(f"FAILED {said}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
