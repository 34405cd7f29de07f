"""What encryption costs: ``python -m stealmesh_bench.encryption``.

Two local meshes alike, on local sockets, in processes of their own; one of them without CURVE. That is no mode of the
product: a file that Python reads when it starts takes the keys out of the transport as it is imported. The two take
turns. Shown: small tasks a second, and what a caller waits for one result, as ratios of the runs beside each other.
Exit status 1 if either is above PRICE_MAX. Refuses to know whose sockets they are (decision 057).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median, quantiles

from stealmesh_bench.compare import alternate
from stealmesh_bench.latency import round_trips
from stealmesh_bench.peers import STEALMESH, BenchPeer, Stealmesh
from stealmesh_bench.single import tasks_per_second
from stealmesh_bench.stand import Stand, check

PRICE_MAX = 0.10
WITH, WITHOUT = "with", "without"
NO_KEYS = """
import sys
from importlib.machinery import PathFinder, SourceFileLoader

class Loader(SourceFileLoader):
    def source_to_code(self, data, path, **_):
        keys = b"self._keys = None if key is None else keys_of(key, listens=bool(addresses))"
        assert keys in data, "the transport has changed: so must this"
        return compile(data.replace(keys, b"self._keys: Keys | None = None"), path, "exec")
    def get_code(self, name):
        return self.source_to_code(self.get_data(self.path), self.path)

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "stealmesh.transport.transport":
            return None
        spec = super().find_spec(name, path, target)
        spec.loader = Loader(name, spec.origin)
        return spec

sys.meta_path.insert(0, Finder)
"""


def is_encrypted(peer: BenchPeer) -> bool:
    """Has the program's own end keys?"""
    assert isinstance(peer, Stealmesh)
    return peer.mesh._driver.transport._keys is not None


@contextmanager
def found_first(directory: Path) -> Iterator[None]:
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(directory), *([before] if before else [])])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def measured(pairs: int, tasks: int, trips: int) -> int:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        (Path(name) / "sitecustomize.py").write_text(NO_KEYS)
        stands = {WITH: stack.enter_context(Stand(STEALMESH))}
        with found_first(Path(name)):
            stands[WITHOUT] = stack.enter_context(Stand(STEALMESH))
        for kind, stand in stands.items():
            check(stand.run(is_encrypted) is (kind == WITH), f"the mesh {kind} encryption is none")
            stand.run(tasks_per_second, tasks=tasks)  # to warm up
        rate = alternate(
            {kind: partial(stand.run, tasks_per_second, tasks=tasks) for kind, stand in stands.items()},
            pairs,
        )  # fmt: skip
        waits = alternate(
            {kind: partial(stand.run, round_trips, series=1, trips=trips) for kind, stand in stands.items()},
            pairs,
        )  # fmt: skip
    p50 = {kind: [each["p50"] for each in said] for kind, said in waits.items()}
    told = [
        shown("small tasks a second, without / with", rate[WITHOUT], rate[WITH]),
        shown("one submit, one result, p50, with / without", p50[WITH], p50[WITHOUT]),
    ]
    return int(max(told) > 1 + PRICE_MAX)


def shown(what: str, above: list[float], below: list[float]) -> float:
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    print(
        f"{what}: {median(above):,.0f} / {median(below):,.0f}, median of {len(ratios)} ratios "
        f"{median(ratios):.3f} (quartiles {low:.3f} to {high:.3f}; at most {1 + PRICE_MAX:.2f} is wanted)",
        flush=True,
    )
    return median(ratios)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m stealmesh_bench.encryption", description=__doc__
    )
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--trips", type=int, default=500)
    told = parser.parse_args(arguments)
    return measured(told.pairs, told.tasks, told.trips)


if __name__ == "__main__":
    from stealmesh_bench import encryption  # stands find functions by the name of their module

    sys.exit(encryption.main())
