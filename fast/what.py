"""Which modules are compiled, which are not, and why.

Left out:

* `effects.py`, `events.py` and the messages of the protocol are msgspec's structs. A compiler has nothing to gain
  there, and `msgspec.field` fails in a compiled class body.
* `protocol/errors.py` and `apart.py`: native classes cannot have Python's exceptions as ancestors.
* `ledger/verdicts.py`: a struct there has a descendant. To mypyc a class that is none of its own has none, so
  `isinstance(x, Credited)` was False for a `Stepped`, and durable explore jobs stood still. `compiling.py` refuses
  such modules.
* `protocol/given.py`: msgspec finds no types in a struct of a compiled module, and decodes lists where tuples were
  asked for. `config.py`: a compiled dataclass takes True for a number.
* `ledger/owned_job.py`: its classes narrow the field `ledger`, which has one layout in a native class.
* `durable`, and what people alone ask for (`looks.py`, `why*.py`, `trails.py`, `printed.py`): seldom run.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = {"stealmesh_protocol": "protocol", "stealmesh_engine": "engine", "stealmesh_sim": "bench"}

PROTOCOL = ("checks", "codec", "conversation", "field_checks", "ids", "key_roles")
SIMULATOR = (
    "checkers", "kernel", "later", "network", "placing", "process", "programs", "shelves", "trace",
    "value_checks", "work", "workers",
)  # fmt: skip
NOT_OF_THE_ENGINE = {
    "config.py", "effects.py", "events.py", "looks.py", "holding/why_here.py", "ledger/owned_job.py", "ledger/verdicts.py",
    "ledger/why.py", "ledger/why_owned.py",
}  # fmt: skip

ANCESTORS = {
    "stealmesh_sim.checkers.Checkers", "stealmesh_sim.kernel.Kernel", "stealmesh_sim.later.LaterItems",
    "stealmesh_sim.network.Network", "stealmesh_sim.programs.VirtualProgram",
    "stealmesh_sim.value_checks.ValueChecks", "stealmesh_sim.work.Work",
    "stealmesh_sim.workers.VirtualWorker",
}  # fmt: skip
"""Classes with descendants that stay Python."""


def modules() -> list[str]:
    """The names of all modules that are compiled, in order."""
    engine = ROOT / "engine/stealmesh_engine"
    found = [
        ".".join(path.relative_to(engine.parent).with_suffix("").parts)
        for path in engine.rglob("*.py")
        if path.relative_to(engine).as_posix() not in NOT_OF_THE_ENGINE
        and path.name != "__init__.py"
        and path.parent.name != "durable"
    ]
    found.append("stealmesh_engine.durable.bag_ledger")  # its ancestor is compiled
    found += [f"stealmesh_protocol.{name}" for name in PROTOCOL]
    found += [f"stealmesh_sim.{name}" for name in SIMULATOR]
    return sorted(found)


def source_of(module: str) -> Path:
    package = module.partition(".")[0]
    return ROOT.joinpath(ROOMS[package], *module.split(".")).with_suffix(".py")
