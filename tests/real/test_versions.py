"""Two minor versions in one mesh, and a rolling upgrade under load.

The next minor version is ours with one more field at the end of every message and of every record in one, as SPEC 4.1
allows: the file NEXT, which Python reads when it starts, writes it into the classes as they are imported. To those nodes
ours are of the version before. The version before ours is a build of the commit that introduced tokens.
"""

from __future__ import annotations

import contextlib
import operator
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from tests.real.durable_nodes import PATIENCE_SECONDS, Nodes, nodes_of
from tests.real.tasks import slow_square

import stealmesh
from stealmesh.doctor import mesh as doctor
from stealmesh.examples import uts
from stealmesh.host.identity import VERSION, build

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
ROOMS = ("protocol", "engine", "nodes", "bench")
FORMER = "7a3025b"
"""The last commit before bad input was bounded and mended."""
LATER = "9.9.9"

NEXT = f'''
import ast, sys
from importlib.machinery import PathFinder, SourceFileLoader

MODULES = {{"stealmesh_protocol." + name for name in (
    "messages", "parts", "accounts", "journal_messages", "look_messages", "output_messages", "token_messages",
    "value_messages")}}

class OneFieldMore(ast.NodeTransformer):
    count = 0
    def visit_ClassDef(self, node):
        if any("Struct" in ast.unparse(base) or ast.unparse(base) == "Message" for base in node.bases):
            node.body += ast.parse("of_the_next_minor: int = 7").body
            OneFieldMore.count += 1
        return node

class Loader(SourceFileLoader):
    def source_to_code(self, data, path, **_):
        tree = OneFieldMore().visit(ast.parse(data))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)
    def get_code(self, name):
        return self.source_to_code(self.get_data(self.path), self.path)

class LaterVersion(Loader):
    def source_to_code(self, data, path, **_):
        return compile(data.replace(b'VERSION = "{VERSION}"', b'VERSION = "{LATER}"'), path, "exec")

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        loader = Loader if name in MODULES else LaterVersion if name == "stealmesh.host.identity" else None
        spec = None if loader is None else super().find_spec(name, path, target)
        if spec is not None:
            spec.loader = loader(name, spec.origin)
        return spec

sys.meta_path.insert(0, Finder)
'''

NEW_KIND = 250
"""The tag of a kind that no version has."""
SAYS_MORE = f'''
import sys
from importlib.machinery import PathFinder, SourceFileLoader

MORE = b"""
_write_before = write

def write(message, seq=0, ack=0, *, compress_bulk=False):
    frames = _write_before(message, seq, ack, compress_bulk=compress_bulk)
    if type(message).__name__ != "Beat":
        return frames
    assert isinstance(frames, list)
    return iter((frames, [HEADER.pack(MAGIC, MAJOR, {NEW_KIND}, 0, 0, 0, 0, 1) + bytes([0x90])]))
"""

class Loader(SourceFileLoader):
    def source_to_code(self, data, path, **_):
        return compile(data + MORE, path, "exec")
    def get_code(self, name):
        return self.source_to_code(self.get_data(self.path), self.path)

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "stealmesh_protocol.codec":
            return None
        spec = super().find_spec(name, path, target)
        spec.loader = Loader(name, spec.origin)
        return spec

sys.meta_path.insert(0, Finder)
'''


def next_minor(directory: Path, what: str = NEXT) -> list[Path]:
    place = directory / "next"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(what)
    return [place]


def former(directory: Path) -> list[Path]:
    """The tree of a former commit."""
    place = directory / "former"
    git = shutil.which("git")
    if git is None:
        pytest.skip("no git here")
    packed = subprocess.run([git, "archive", FORMER, *ROOMS], cwd=ROOT, capture_output=True, check=False)  # fmt: skip
    if packed.returncode:
        pytest.skip(f"the commit {FORMER} is not in this copy")
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as tar:
        tar.extractall(place, filter="data")
    return [place / room for room in ROOMS]


def versions(mesh: stealmesh.Mesh) -> dict[str, str]:
    return {node["name"]: node["build"].split()[1] for node in nodes_of(mesh)}


def refusals(mesh: stealmesh.Mesh) -> dict[str, int]:
    counters = mesh.status()["counters"]
    return {
        name: count
        for name, count in counters.items()
        if name.startswith(("garbled", "refused-version", "refused-runtime", "refused-mesh"))
    }


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path, 3)
    nodes.start(0)
    nodes.start(1, next_minor(tmp_path))
    nodes.start(2, next_minor(tmp_path))
    try:
        nodes.listening()
        yield nodes
    finally:
        nodes.stop()


def test_two_minor_versions_are_one_mesh(three: Nodes) -> None:
    tree = uts.TREES["T1-d7"]
    with three.mesh() as mesh:
        three.complete(mesh)
        assert sorted(versions(mesh).values()) == [VERSION, LATER, LATER]
        assert list(mesh.map(slow_square, range(300), chunksize=2)) == [x * x for x in range(300)]
        visited = mesh.explore(uts.visitor(tree), [uts.root(tree)], uts.combine_counts).result()
        assert visited == tree.expected
        job = mesh.launch(abs, list(range(-50, 0)), operator.add)
        assert job.result() == sum(range(51))
        kept = mesh.options(keep=True).submit(bytes, 100_000)
        assert mesh.submit(len, kept).result() == 100_000
        assert mesh.options(retries=1).submit(divmod, 7, 2).result() == (3, 1)
        status = mesh.status()
        assert all(node["executed"] for node in status["nodes"] if node["role"] != "client")
        assert refusals(mesh) == {}
        told = doctor.findings(status, build(), (0.0, 1e12), lambda address: "")
        others = [each for each in told if "upgrade the older one" in each.remedy]
        assert len(others) == 2
        assert LATER in others[0].text


def test_the_next_minor_version_says_more(tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    code = (
        "import msgspec; from stealmesh_protocol.messages import Steal, Hello; from stealmesh_protocol import parts; "
        "from stealmesh.host.identity import VERSION; "
        "print(Steal.__struct_fields__[-1], Hello.__struct_fields__[-1], parts.Member.__struct_fields__[-1], VERSION)"
    )
    environment = Nodes._environment(next_minor(tmp_path))
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)  # fmt: skip
    assert out.stdout.split() == [*["of_the_next_minor"] * 3, LATER]


@pytest.mark.pure
def test_a_new_kind_of_message_is_ignored_and_counted(tmp_path: Path) -> None:
    """The next minor version says one with each heartbeat; ours drops it, and the link goes on."""
    nodes = Nodes(tmp_path, 2)
    nodes.start(0)
    nodes.start(1, next_minor(tmp_path, SAYS_MORE))
    try:
        nodes.listening()
        with nodes.mesh(0) as mesh:
            nodes.complete(mesh)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while (told := refusals(mesh)).get("garbled:kind", 0) < 3:
                assert time.monotonic() < deadline, told
                time.sleep(0.05)
            assert list(mesh.map(slow_square, range(100), chunksize=2)) == [
                x * x for x in range(100)
            ]
            assert refusals(mesh).keys() == {"garbled:kind"}
            assert len(nodes_of(mesh)) == 2
            counters = mesh.status()["counters"]
            # A link that a busy machine has made anew says something before it is told so.
            rude = {name for name in counters if name.startswith("rude-")} - {"rude-no-session"}
            assert not rude
            assert not counters.get("peers-declared-dead")
    finally:
        nodes.stop()


def upgraded(nodes: Nodes, number: int, path: list[Path]) -> None:
    """As an operator does it: the first signal drains, then the other version is started."""
    process = nodes.processes.pop(number)
    process.send_signal(signal.SIGTERM)
    assert process.wait(300) == 0
    nodes.start(number, path)
    nodes.listening()


@contextlib.contextmanager
def given_up_if_it_fails(mesh: stealmesh.Mesh) -> Iterator[None]:
    """A mesh that is closed waits for its jobs, so a failure would only be told after minutes of work, or never: on a
    busy machine this test seemed to hang."""
    try:
        yield
    except BaseException:
        mesh.shutdown(wait=False, cancel_futures=True)
        raise


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "step", ["to the next minor version", "from the former commit", "back again"]
)
def test_six_nodes_are_upgraded_one_by_one_under_load(tmp_path: Path, step: str) -> None:
    before: Any = former(tmp_path) if step == "from the former commit" else ()
    after: Any = next_minor(tmp_path) if step == "to the next minor version" else ()
    if step == "back again":
        before = next_minor(tmp_path)
    nodes = Nodes(tmp_path, 6)
    for number in range(6):
        nodes.start(number, before)
    try:
        nodes.listening()
        with nodes.mesh() as mesh, given_up_if_it_fails(mesh):
            nodes.complete(mesh)
            items = range(12_000)
            ordinary = mesh.map(slow_square, items, chunksize=5)
            durable = mesh.launch(slow_square, range(6000))
            reduced = mesh.map_reduce(slow_square, range(4000), operator.add)
            for number in range(6):
                upgraded(nodes, number, list(after))
                assert mesh.submit(slow_square, number).result(300) == number * number
                nodes.complete(mesh)
            assert list(ordinary) == [x * x for x in items]
            assert list(durable.results()) == [x * x for x in range(6000)]
            assert reduced.result() == sum(x * x for x in range(4000))
            assert refusals(mesh) == {}
            assert set(versions(mesh).values()) == {LATER if step.startswith("to the") else VERSION}
    finally:
        nodes.stop()
