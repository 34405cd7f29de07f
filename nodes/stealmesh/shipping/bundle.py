"""The program's own modules as one blob, named by its digest.

Decides which modules are the program's own: those that lie neither with the standard library nor
where packages are installed. A bundle has the modules that the program has imported, and those that it
could import later: the rest of its packages, and neighbouring files that its text names.

A bundle has what the program runs. A file that was edited after its import is an error until it is
imported again. Refuses to know about nodes, workers and functions.
"""

from __future__ import annotations

import os
import re
import site
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from types import CodeType, FunctionType, ModuleType
from typing import Any

import msgspec
from msgspec.structs import replace

from stealmesh.shipping import opening
from stealmesh.shipping.opening import is_under
from stealmesh.shipping.package_files import OnDisk, place_of
from stealmesh.shipping.source import codes_in, text_of_main
from stealmesh_protocol.errors import CannotShip
from stealmesh_protocol.ids import Digest, digest_of

OCTETS_MAX = 8 << 20
FILES_MAX = 2000
DATA_OCTETS_MAX = 256 << 10
"""A larger data file of a package does not travel: pass its path or its content instead."""

OURS = frozenset({"stealmesh", "stealmesh_engine", "stealmesh_protocol"})
_STARTED = time.time()
_IMPORTS = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import\b|import[ \t]+([\w., \t]+))", re.MULTILINE
)
_SKIPPED = frozenset({"__pycache__", "node_modules", "build", "dist"})


class ModuleEntry(msgspec.Struct, array_like=True):
    """One module."""

    name: str
    path: str
    """Where the program found it: what tracebacks name."""
    is_package: bool
    source: bytes | None = None
    """None: a namespace package, or the module was made by hand: it is filled piece by piece."""


class Main(msgspec.Struct, array_like=True):
    """The program's own file."""

    path: str
    source: str
    package: str | None = None
    argv0: str = ""


class BundleContents(msgspec.Struct, array_like=True):
    """The content of a bundle, as workers decode it."""

    main: Main | None
    modules: list[ModuleEntry]
    data: dict[str, bytes] = {}
    """Files beside the modules of packages, by path."""
    program: str = ""
    """Identifies a program without a file, so that two notebooks share no worker."""
    no_ship: list[str] = []
    """Modules that do not travel (`no_ship`): workers use their own."""


@dataclass(frozen=True, slots=True)
class Bundle:
    digest: Digest
    blob: bytes


def _packed(parcel: BundleContents) -> bytes:
    try:
        return msgspec.msgpack.encode(parcel)
    except UnicodeEncodeError:  # a path with octets that are no text
        main = parcel.main
        if main is not None:
            main = replace(main, path=_as_text(main.path), argv0=_as_text(main.argv0))
        modules = [replace(entry, path=_as_text(entry.path)) for entry in parcel.modules]
        data = {_as_text(path): octets for path, octets in parcel.data.items()}
        return msgspec.msgpack.encode(
            BundleContents(main, modules, data, parcel.program, parcel.no_ship)
        )


def _as_text(path: str) -> str:
    """A path as text. A worker only needs to tell it from other paths."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@dataclass(slots=True)
class Read:
    """A module as it was read; read again after each import of it."""

    spec: Any
    entry: ModuleEntry


@dataclass(slots=True)
class Bundler:
    """Makes the bundles of one program."""

    _read: dict[str, Read] = field(default_factory=dict)
    _foreign: dict[str, Any] = field(default_factory=dict)
    """Modules that are not the program's own, with their specs."""
    _made: dict[tuple[tuple[str, ...], tuple[str, ...]], Bundle] = field(default_factory=dict)
    _looked: tuple[int, int] = (0, 0)
    _main: Main | None = None
    _main_read: bool = False
    _program: str = field(default_factory=lambda: uuid.uuid4().hex)

    def bundle(self, ship: tuple[str, ...] = (), no_ship: tuple[str, ...] = ()) -> Bundle:
        """The program's modules as they are now. `ship`: these too; `no_ship`: these not."""
        known = self._made.get((ship, no_ship))
        looked = (len(sys.modules), hash(tuple(map(id, map(_spec_of, self._loaded())))))
        if known is not None and looked == self._looked:
            return known
        parcel = self._gather(ship, no_ship)
        if looked != self._looked:
            self._made.clear()
            self._looked = (len(sys.modules), hash(tuple(map(id, map(_spec_of, self._loaded())))))
        blob = _packed(parcel)
        made = Bundle(digest_of(blob), blob)
        self._made[ship, no_ship] = made
        return made

    def _loaded(self) -> Iterator[ModuleType | None]:
        return (sys.modules.get(name) for name in self._read)

    # ------------------------------------------------------------ gathering

    def _gather(self, ship: tuple[str, ...], no_ship: tuple[str, ...]) -> BundleContents:
        if not self._main_read:
            self._main_read = True
            self._main = _main()
        loaded = {}
        for name, module in sorted(sys.modules.items()):
            if name in ("__main__", "__mp_main__") or is_under(name, no_ship):
                continue
            entry = self._entry(name, module, wanted=is_under(name, ship))
            if entry is not None:
                loaded[name] = entry
        files = _Files(loaded, no_ship)
        files.add_packages()
        files.add_named(self._main)
        modules = [files.found[name] for name in sorted(files.found)]
        program = "" if self._main else self._program
        return BundleContents(self._main, modules, files.data, program, list(no_ship))

    def _entry(self, name: str, module: ModuleType, *, wanted: bool) -> ModuleEntry | None:
        spec = _spec_of(module)
        known = self._read.get(name)
        if known is not None and known.spec is spec:
            return known.entry
        if not wanted and name in self._foreign and self._foreign[name] is spec:
            return None
        entry = None
        if wanted or is_own(name, module):
            entry = _read_loaded(name, module)
        if entry is None:
            self._foreign[name] = spec
            return None
        self._read[name] = Read(spec, entry)
        return entry


class _Files:
    """Files of modules that are not loaded here, and that a worker may load later."""

    def __init__(self, loaded: dict[str, ModuleEntry], no_ship: tuple[str, ...]) -> None:
        self.found = dict(loaded)
        self.data: dict[str, bytes] = {}
        self._no_ship = no_ship
        self._octets = sum(len(entry.source or b"") for entry in loaded.values())
        self._searched: set[str] = set()

    def add_packages(self) -> None:
        """The rest of each package that is partly loaded."""
        for name, entry in list(self.found.items()):
            if entry.is_package and entry.source is not None and "." not in name:
                self._add_tree(name, os.path.dirname(entry.path))

    def add_named(self, main: Main | None) -> None:
        """Add neighbouring files that the text only names, for example `import helper` in a function."""
        beside = set()
        for name, entry in self.found.items():
            if "." not in name and entry.source is not None:
                directory = os.path.dirname(entry.path)
                beside.add(os.path.dirname(directory) if entry.is_package else directory)
        texts = [entry.source for entry in self.found.values() if entry.source]
        if main is not None and main.path:
            beside.add(os.path.dirname(main.path))
            texts.append(main.source.encode())
        while texts:
            for name in _named_in(texts.pop()):
                texts += self._add_neighbour(name, beside)

    def _add_neighbour(self, name: str, beside: Iterable[str]) -> list[bytes]:
        if (
            name in self.found
            or name in self._searched
            or name in sys.modules
            or name in sys.stdlib_module_names
            or name in OURS
        ):
            return []
        self._searched.add(name)
        for directory in sorted(beside):
            file = os.path.join(directory, f"{name}.py")
            package = os.path.join(directory, name)
            if os.path.isfile(os.path.join(package, "__init__.py")):
                before = set(self.found)
                self._add_tree(name, package)
                return [self.found[new].source or b"" for new in self.found.keys() - before]
            if os.path.isfile(file):
                self._add(name, file, OnDisk(), is_package=False)
                return [self.found[name].source or b""] if name in self.found else []
        return []

    def _add_tree(self, package: str, top: str) -> None:
        place = place_of(package)
        for directory, inside, files in place.walk(top):
            inside[:] = sorted(
                each for each in inside if each not in _SKIPPED and not each.startswith(".")
            )
            dotted = ".".join([package, *os.path.relpath(directory, top).split(os.sep)])
            dotted = dotted.removesuffix("..").removesuffix(".")
            if "__init__.py" in files:
                self._add(dotted, os.path.join(directory, "__init__.py"), place, is_package=True)
            for file in sorted(files):
                path = os.path.join(directory, file)
                if file.endswith(".py"):
                    if file != "__init__.py":
                        self._add(f"{dotted}.{file[:-3]}", path, place, is_package=False)
                elif not file.endswith((".pyc", ".so", ".pyd", ".o", "~")):
                    self._add_data(path, place)

    def _add(self, name: str, path: str, place: OnDisk, *, is_package: bool) -> None:
        if name in self.found or is_under(name, self._no_ship):
            return
        if self._octets > OCTETS_MAX or len(self.found) > FILES_MAX:
            return  # what is loaded travels in any case; the rest only as far as there is room
        try:
            source = place.read(path)
        except OSError:
            return  # the program could not import it either
        self._octets += len(source)
        self.found[name] = ModuleEntry(name, path, is_package, source)

    def _add_data(self, path: str, place: OnDisk) -> None:
        try:
            octets = place.octets(path)
            if octets > DATA_OCTETS_MAX or self._octets + octets > OCTETS_MAX:
                return
            self.data[path] = place.read(path)
        except OSError:
            return
        self._octets += octets


def _named_in(source: bytes) -> set[str]:
    names = set()
    for one, several in _IMPORTS.findall(source.decode("utf-8", "replace")):
        for name in [one] if one else several.split(","):
            top = name.strip().split(" ")[0].split(".")[0]
            if top:
                names.add(top)
    return names


# ---------------------------------------------------------------- what is the program's own


def is_own(name: str, module: ModuleType) -> bool:
    """Does this module belong to the program, rather than to what is installed?"""
    if name.partition(".")[0] in OURS or not isinstance(module, ModuleType):
        return False
    spec = _spec_of(module)
    file = getattr(module, "__file__", None)
    if file is None:
        if spec is None:
            return _is_made_by_hand(name, module)
        places = list(getattr(spec, "submodule_search_locations", None) or ())
        return bool(places) and spec.origin in (None, "namespace") and not is_installed(places[0])
    return not is_installed(file)


def _is_made_by_hand(name: str, module: ModuleType) -> bool:
    """types.ModuleType(...) put into sys.modules: no other process can import it."""
    top = sys.modules.get(name.partition(".")[0])
    return (
        name == module.__name__
        and (top is module or (top is not None and is_own(top.__name__, top)))
        and getattr(module, "__loader__", None) is None
        and name not in sys.builtin_module_names
        and name not in sys.stdlib_module_names
        and any(getattr(value, "__module__", None) == name for value in vars(module).values())
    )


_installed_roots: tuple[str, ...] = ()


def is_installed(path: str) -> bool:
    global _installed_roots
    if not _installed_roots:
        import sysconfig

        roots = {
            sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")
        }
        roots |= {os.path.dirname(os.__file__), *site.getsitepackages(), site.getusersitepackages()}
        real = {os.path.realpath(root) for root in roots if root}
        _installed_roots = tuple(
            root.rstrip(os.sep) + os.sep for root in {*filter(None, roots), *real}
        )
    if path.startswith("<") or path.startswith(_installed_roots):
        return True
    return f"{os.sep}site-packages{os.sep}" in path or f"{os.sep}dist-packages{os.sep}" in path


def _spec_of(module: Any) -> Any:
    return getattr(module, "__spec__", None)


# ---------------------------------------------------------------- reading


def _read_loaded(name: str, module: ModuleType) -> ModuleEntry | None:
    """A module as the program has it. None: it has no text (an extension)."""
    file = getattr(module, "__file__", None)
    is_package = hasattr(module, "__path__")
    if file is None:
        path = next(iter(module.__path__), "") if is_package else ""
        return ModuleEntry(name, os.path.join(path, "__init__.py") if path else "", is_package)
    path = os.path.abspath(file)
    source: bytes | None = None
    if path.endswith(".py"):
        try:
            with open(path, "rb") as text:
                source = text.read()
            _must_be_as_imported(name, module, path, source)
        except OSError:
            source = None
    if source is None:
        source = _text_from_loader(name, module)
    return None if source is None else ModuleEntry(name, path, is_package, source)


def _text_from_loader(name: str, module: ModuleType) -> bytes | None:
    """Of a module in a zip file, or one that a loader of the program's own has made."""
    get_source = getattr(getattr(module, "__loader__", None), "get_source", None)
    try:
        text = get_source(name) if get_source is not None else None
    except (ImportError, OSError, SyntaxError, UnicodeDecodeError):
        return None
    return None if text is None else str(text).encode()


def _must_be_as_imported(name: str, module: ModuleType, path: str, source: bytes) -> None:
    """A file younger than this program may have been edited after it was imported."""
    if os.path.getmtime(path) < _STARTED - 1.0 or type(module.__loader__) is not SourceFileLoader:
        return  # loaders of others (pytest's) change what they read
    functions = [
        value.__code__
        for value in list(vars(module).values())
        if isinstance(value, FunctionType) and value.__module__ == name
    ]
    ours = [code for code in functions if code.co_filename in (path, module.__file__)]
    if ours and not _are_all_in(ours, source, ours[0].co_filename):
        raise CannotShip(
            f"module {name} was edited after this program had imported it ({path}), so nodes would "
            "run other code than the program: importlib.reload() it, or start the program again"
        )


def _are_all_in(functions: list[CodeType], source: bytes, path: str) -> bool:
    try:
        known = codes_in(source, path)
    except SyntaxError:
        return False
    return all(code in known for code in functions)


def _main() -> Main | None:
    """The program's own file, if it has one."""
    module = sys.modules.get("__main__")
    if module is None:
        return None
    living = opening.living()
    if living is not None:  # a task has a mesh of its own
        source = living.sources.get("__main__")
        return None if source is None else Main(source.path, source.text, None)
    text = text_of_main(module)
    if text is None:
        return None
    file = getattr(module, "__file__", None)
    path = os.path.abspath(file) if file else ""
    if path and is_installed(path):
        return None
    return Main(path, text, getattr(module, "__package__", None), sys.argv[0] if sys.argv else "")
