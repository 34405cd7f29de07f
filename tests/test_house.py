"""The house rules, read from the source itself: what imports what, and what is never written.

The checks are functions from source text to findings, so that each can also be shown a planted
breach: a rule that cannot be broken here would guard nothing there.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from stealmesh_protocol.messages import MESSAGES

ROOT = Path(__file__).parents[1]
ROOMS = {
    "protocol": "stealmesh_protocol",
    "engine": "stealmesh_engine",
    "nodes": "stealmesh",
    "bench": "stealmesh_bench",
}
LINES_MAX = 800
CLASS_LINES_MAX = 400
CLASS_NAMES_TWICE_MAX = 8

PACKAGES = {
    "base": 0, "view": 1, "links": 2, "data": 3, "ledger": 3, "journals": 3,
    "holding": 4, "membership": 4,
    "stealing": 5, "durable": 6, "presence": 7,
}  # fmt: skip
"""The engine's packages; each imports only from those with a lower number, and from BOTTOM."""
BOTTOM = {"config", "events", "effects"}
"""Files on the engine's top level that packages may import; the others stand above all packages."""
TOP_FILES_MAX = 10

ENGINE_MAY_IMPORT = {
    "stealmesh_engine", "stealmesh_protocol",
    "msgspec",  # the messages are its structs, and structs.replace copies one
    "__future__", "abc", "array", "bisect", "collections", "copy", "dataclasses", "enum",
    "functools", "hashlib", "heapq", "itertools", "math", "operator", "struct", "types", "typing",
}  # fmt: skip
"""Everything else is a clock, a socket, a thread or chance until shown otherwise. Add with care."""

IMPURE = {
    "asyncio", "concurrent", "multiprocessing", "os", "random", "secrets", "select", "selectors",
    "signal", "socket", "ssl", "subprocess", "threading", "time", "uuid", "zmq",
}  # fmt: skip
"""What the protocol has no use for: it turns messages into bytes and back."""

TAGS = {
    "Hello": 1, "Welcome": 2, "Refused": 3, "Bye": 4,
    "Beat": 8, "Ack": 9, "View": 10, "Vote": 11, "Digests": 12, "Around": 13, "Promote": 14,
    "WhoIs": 15,
    "Steal": 16, "Nothing": 17, "Sated": 18,
    "Grant": 32, "Split": 33, "Report": 34, "Commit": 35, "Returned": 36, "Declined": 40, "Revoked": 37,
    "Withdraw": 38, "Closed": 39,
    "FnGet": 48, "FnPut": 49,
    "StatusGet": 56, "Status": 57,
    "Taken": 62, "Piece": 63,
    "Launch": 64, "Supply": 65, "Accepted": 66, "Abolish": 67, "Seek": 68, "Here": 69,
    "Keep": 70, "KeptUpto": 71, "Offer": 72, "Pull": 73, "Forget": 74, "Settled": 75, "Claim": 76,
    "Fetch": 77, "Fetched": 78,
    "ValueSeek": 80, "ValueAt": 81, "ValueGet": 82, "ValuePut": 83, "ValueHeld": 84, "ValueDrop": 85,
    "LookAt": 90, "Seen": 91, "CallOff": 95,
    "Printed": 164, "PrintedGet": 165,
    "JournalGet": 98, "JournalPage": 99,
    "Barred": 104,
    "Hire": 107, "Hired": 108, "HireOver": 109, "Dismiss": 110,
    "InputGet": 111, "InputPut": 112,
}  # fmt: skip
"""Numbers are forever. Add a line for a new message; never change one."""

PLAIN_RECORDS = {
    "Context",  # its effects: every part appends
    "Deliver", "Fact", "Happened", "Keep",
}  # fmt: skip
"""What is filled in where the news is. In other packages, objects change by their methods alone."""
CHANGING = {"add", "append", "appendleft", "clear", "extend", "pop", "popleft", "remove", "update"}
"""What changes a collection where it stands."""


# ---------------------------------------------------------------- reading


class Import(NamedTuple):
    module: str
    """Dotted, as written; for `from a import b` it is a."""
    names: tuple[str, ...]
    line: int

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def imports_of(source: str) -> Iterator[Import]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), node.lineno)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield Import(module, tuple(a.name for a in node.names), node.lineno)


def sources(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def everywhere(*rooms: str) -> pytest.MarkDecorator:
    """One test per file, so that a breach is named by its file."""
    return pytest.mark.parametrize("path", sources(*rooms), ids=lambda p: str(p.relative_to(ROOT)))


def inside(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ---------------------------------------------------------------- the rules


def wrong_imports(where: str, source: str) -> list[str]:
    """Imports in the file `where` (relative to the root) that point upwards or out of bounds."""
    room = where.partition("/")[0]
    return [
        f"{where}:{found.line}: {found.module}: {why}"
        for found in imports_of(source)
        if (why := _wrong(room, where, found))
    ]


def _wrong(room: str, where: str, found: Import) -> str | None:
    if found.module.startswith("."):
        return "relative imports hide the direction"
    if room == "protocol":
        return _wrong_in_protocol(found)
    if room == "engine":
        return _wrong_in_engine(found)
    if room == "nodes":
        return _wrong_in_nodes(where, found)
    return None


def _wrong_in_protocol(found: Import) -> str | None:
    if found.top in {"stealmesh", "stealmesh_engine", "stealmesh_bench"}:
        return "the protocol is the lowest layer"
    if found.module == "concurrent.futures" and found.names == ("BrokenExecutor",):
        return None  # a type: MeshClosed is one, so that callers of any executor know it
    if found.top in IMPURE:
        return "the protocol says, it does not do"
    return None


def _wrong_in_engine(found: Import) -> str | None:
    if found.top in {"stealmesh", "stealmesh_bench"}:
        return "the engine knows nothing above it"
    if found.top == "random":
        return None if found.names == ("Random",) else "chance is an argument: import Random alone"
    return None if found.top in ENGINE_MAY_IMPORT else "the engine decides, it does not do"


def _wrong_in_nodes(where: str, found: Import) -> str | None:
    if found.top in {"stealmesh_bench", "stealmesh_sim"}:
        return "nodes know nothing of bench: its commands are found by entry points"
    if found.top == "zmq" and not fnmatch(where, "nodes/stealmesh/transport*"):
        return "only the transport knows ZeroMQ"
    return None


def wrong_order(where: str, source: str) -> list[str]:
    """Imports between packages of the engine that point upwards, in the file `where`."""
    own = Path(where).relative_to("engine/stealmesh_engine").parts[0]
    if own not in PACKAGES:
        return []
    found = []
    for each in imports_of(source):
        if each.top != "stealmesh_engine":
            continue
        other = each.module.split(".")[1] if "." in each.module else (each.names or ("",))[0]
        fine = other in BOTTOM or other == own or PACKAGES.get(other, 99) < PACKAGES[own]
        if not fine:
            found.append(f"{where}:{each.line}: {own} stands below {other}")
    return found


def circles_of(imports: dict[str, set[str]]) -> list[list[str]]:
    """Modules that import each other, directly or not: strongly connected components (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in imports.get(module, ()):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            at = stack.index(module)
            if len(stack) - at > 1:
                circles.append(sorted(stack[at:]))
            del stack[at:]

    for module in sorted(imports):
        if module not in index:
            visit(module)
    return circles


def module_imports() -> dict[str, set[str]]:
    """Module → modules of ours that it imports, types included."""
    paths = {_module(path): path for path in sources(*ROOMS)}
    found: dict[str, set[str]] = {}
    for module, path in paths.items():
        named = set()
        for each in imports_of(path.read_text()):
            names = {f"{each.module}.{name}" for name in each.names} & paths.keys()
            named |= names or {each.module}
        packages = {other for other in named if paths.get(other, path).name == "__init__.py"}
        found[module] = (named & paths.keys()) - packages - {module}
    return found


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def classes_of(path: Path) -> list[ast.ClassDef]:
    return [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]


@cache
def fields_by_package() -> dict[str, set[str]]:
    """Package of the engine → the names of its classes' fields. Of a file on top: its own."""
    found: dict[str, set[str]] = {}
    for path in sources("engine"):
        known = found.setdefault(_part(inside(path)), set())
        known.update(*map(_fields, classes_of(path)))
    return found


@cache
def plain_fields() -> set[str]:
    classes = (each for path in sources("engine", "protocol") for each in classes_of(path))
    return set().union(*(_fields(each) for each in classes if each.name in PLAIN_RECORDS))


def _part(where: str) -> str:
    return Path(where).relative_to("engine/stealmesh_engine").parts[0]


def _fields(found: ast.ClassDef) -> set[str]:
    declared = {node.target for node in found.body if isinstance(node, ast.AnnAssign)}
    names = {target.id for target in declared if isinstance(target, ast.Name)}
    own = (target for target in _written(found) if _is_self(target.value))
    return names | {target.attr for target in own}


def _written(tree: ast.AST) -> Iterator[ast.Attribute]:
    """The fields that are assigned, deleted, or changed where they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            yield from _field(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield from _field(node.func.value) if node.func.attr in CHANGING else ()


def _field(node: ast.expr) -> Iterator[ast.Attribute]:
    if isinstance(node, ast.Attribute):
        yield node


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def written_from_afar(where: str, source: str, fields: dict[str, set[str]]) -> list[str]:
    """Fields of other packages' classes that the file `where` writes. By name: a field whose name a
    class of the same package has, too, is not noticed."""
    others = set().union(*fields.values()) - fields.get(_part(where), set()) - plain_fields()
    return [
        f"{where}:{target.lineno}: {ast.unparse(target)}"
        for target in _written(ast.parse(source))
        if target.attr in others and not _is_self(target.value)
    ]


def swallowed(source: str) -> list[int]:
    """Lines of handlers that catch everything, or catch broadly and do nothing about it."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.ExceptHandler) and _swallows(node))
        or (isinstance(node, ast.Call) and _suppresses(node))
    ]


def _swallows(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    silent = all(
        isinstance(line, ast.Pass | ast.Continue | ast.Break)
        or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        for line in handler.body
    )
    return silent and _is_broad(handler.type)


def _suppresses(node: ast.Call) -> bool:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name == "suppress" and any(map(_is_broad, node.args))


def _is_broad(caught: ast.expr) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(map(_is_broad, caught.elts))
    return isinstance(caught, ast.Name) and caught.id in {"Exception", "BaseException"}


# ---------------------------------------------------------------- the rules hold


@everywhere("protocol", "engine", "nodes")
def test_imports_point_downwards(path: Path) -> None:
    assert not wrong_imports(inside(path), path.read_text())


@everywhere("protocol", "engine", "nodes", "bench", "tests")
def test_nothing_is_swallowed(path: Path) -> None:
    assert not swallowed(path.read_text())


@everywhere("protocol", "engine", "nodes", "bench")
def test_a_file_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@everywhere("protocol", "engine", "nodes", "bench", "tests")
def test_a_file_holds_one_idea(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX


@everywhere("engine")
def test_packages_of_the_engine_have_an_order(path: Path) -> None:
    assert not wrong_order(inside(path), path.read_text())


def test_no_part_writes_the_fields_of_another() -> None:
    fields = fields_by_package()
    for path in sources("engine"):
        assert not written_from_afar(inside(path), path.read_text(), fields)


def test_no_modules_import_each_other() -> None:
    assert not circles_of(module_imports())


def test_the_engine_has_few_files_on_top() -> None:
    top = ROOT / "engine/stealmesh_engine"
    assert len(list(top.glob("*.py"))) <= TOP_FILES_MAX
    assert {each.parent.name for each in top.glob("*/__init__.py")} == PACKAGES.keys()


@everywhere("protocol", "engine", "nodes", "bench")
def test_a_class_holds_one_idea(path: Path) -> None:
    for found in classes_of(path):
        lines = (found.end_lineno or found.lineno) - found.lineno + 1
        assert lines <= CLASS_LINES_MAX, f"{found.name} has {lines} lines"


def test_a_name_means_one_class() -> None:
    names = Counter(found.name for path in sources(*ROOMS) for found in classes_of(path))
    twice = sorted(name for name, count in names.items() if count > 1)
    assert len(twice) <= CLASS_NAMES_TWICE_MAX, twice


def test_numbers_are_forever() -> None:
    assert {cls.__name__: tag for tag, cls in MESSAGES.items()} == TAGS


def test_a_message_is_known_by_its_own_number() -> None:
    assert all(tag == cls.TAG for tag, cls in MESSAGES.items())


@pytest.mark.parametrize(("room", "package"), ROOMS.items())
def test_a_package_is_typed(room: str, package: str) -> None:
    assert (ROOT / room / package / "py.typed").exists()


# ---------------------------------------------------------------- the rules bite


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("protocol/stealmesh_protocol/a.py", "import stealmesh_engine.core"),
        ("protocol/stealmesh_protocol/a.py", "from stealmesh.mesh import Mesh"),
        ("protocol/stealmesh_protocol/a.py", "import socket"),
        ("protocol/stealmesh_protocol/a.py", "from concurrent.futures import Future"),
        ("engine/stealmesh_engine/a.py", "import stealmesh"),
        ("engine/stealmesh_engine/a.py", "from time import monotonic"),
        ("engine/stealmesh_engine/a.py", "def f():\n    import asyncio"),
        ("engine/stealmesh_engine/a.py", "import random"),
        ("engine/stealmesh_engine/a.py", "from random import Random, choice"),
        ("engine/stealmesh_engine/a.py", "import numpy"),
        ("engine/stealmesh_engine/a.py", "from .core import step"),
        ("nodes/stealmesh/mesh.py", "import zmq.auth"),
        ("nodes/stealmesh/mesh.py", "def f():\n    import stealmesh_bench"),
        ("nodes/stealmesh/cli/bench.py", "from stealmesh_bench.workloads import uts"),
        ("nodes/stealmesh/cli/bench.py", "def main():\n    import stealmesh_bench"),
        ("nodes/stealmesh/cli/demo.py", "def main():\n    from stealmesh_sim import world"),
    ],
)
def test_a_wrong_import_is_found(where: str, source: str) -> None:
    assert wrong_imports(where, source)


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("links/a.py", "from stealmesh_engine.ledger.owner import Owner"),
        ("holding/a.py", "from stealmesh_engine.membership.life import Life"),
        ("base/a.py", "from stealmesh_engine import core"),
        ("view/a.py", "import stealmesh_engine.links.links"),
    ],
)
def test_an_upward_import_between_packages_is_found(where: str, source: str) -> None:
    assert wrong_order(f"engine/stealmesh_engine/{where}", source)


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("membership/a.py", "peer.heard_at = now"),
        ("membership/a.py", "self.links.peers[peer_id].shown_at = now"),
        ("core.py", "self.links.mute.pop(peer_id, None)"),
        ("core.py", "self.links.mute[peer_id] = 0"),
        ("core.py", "del self.links.mute[peer_id]"),
        ("durable/a.py", "job.open_ended, job.duplicates_dropped = True, 0"),
        ("durable/a.py", "job.duplicates_dropped += 1"),
    ],
)
def test_a_field_that_is_written_from_afar_is_found(where: str, source: str) -> None:
    assert written_from_afar(f"engine/stealmesh_engine/{where}", source, fields_by_package())


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("links/a.py", "peer.heard_at = now"),
        ("membership/a.py", "self.heard_at = now"),
        ("ledger/a.py", "job.duplicates_dropped += 1"),
        ("holding/a.py", "fact.why, happened.cut = Why.LEASED, []"),
        ("data/a.py", "self._context.effects.append(Joined())"),
    ],
)
def test_a_field_that_is_written_at_home_is_left_alone(where: str, source: str) -> None:
    assert not written_from_afar(f"engine/stealmesh_engine/{where}", source, fields_by_package())


def test_a_circle_is_found() -> None:
    assert circles_of({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert not circles_of({"a": {"b", "c"}, "b": {"c"}, "c": set()})


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("protocol/stealmesh_protocol/a.py", "import msgspec, lz4.block, struct"),
        ("engine/stealmesh_engine/a.py", "from random import Random"),
        ("engine/stealmesh_engine/a.py", "from collections.abc import Iterable"),
        ("engine/stealmesh_engine/a.py", "from stealmesh_protocol.ids import JobId"),
        ("nodes/stealmesh/transport.py", "import zmq"),
        ("nodes/stealmesh/transport/sockets.py", "import zmq"),
        ("nodes/stealmesh/mesh.py", "import asyncio, time\nimport stealmesh_engine"),
    ],
)
def test_a_right_import_is_left_alone(where: str, source: str) -> None:
    assert not wrong_imports(where, source)


@pytest.mark.parametrize(
    "handler",
    [
        "except:\n    count()",
        "except Exception:\n    pass",
        "except BaseException as e:\n    ...",
        "except (OSError, Exception):\n    'whatever'",
    ],
)
def test_a_swallowing_handler_is_found(handler: str) -> None:
    assert swallowed(f"try:\n    f()\n{handler}") == [3]
    assert swallowed("with contextlib.suppress(Exception):\n    f()") == [1]


@pytest.mark.parametrize(
    "handler", ["except OSError:\n    pass", "except Exception as e:\n    count(e)"]
)
def test_an_honest_handler_is_left_alone(handler: str) -> None:
    assert not swallowed(f"try:\n    f()\n{handler}")


def test_no_file_takes_a_public_name() -> None:
    """An import of the file `stealmesh/report.py` would replace the function `stealmesh.report`, for all."""
    import stealmesh

    for name in stealmesh.__all__:
        place = ROOT / "nodes" / "stealmesh" / name
        assert not place.with_suffix(".py").exists(), name
        assert not place.is_dir(), name
