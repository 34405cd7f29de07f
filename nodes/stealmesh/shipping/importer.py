"""Workers import the program's own modules from its bundle, before they look anywhere else.

Decides where such a module comes from, never whether it is the right one: a worker has one bundle
for life, and the node gives it no work of another program. Tracebacks name the files as the
program has them, and show the text that runs here.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import util
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.resources.abc import Traversable, TraversableResources
from types import CodeType, ModuleType
from typing import Any

import msgspec

from stealmesh.shipping import opening
from stealmesh.shipping.bundle import BundleContents, ModuleEntry
from stealmesh.shipping.source import Source


def settle_in(blob: bytes) -> None:
    """This worker imports from this bundle from now on."""
    parcel = msgspec.msgpack.decode(blob, type=BundleContents)
    main = parcel.main
    source = None if main is None else Source(main.source, main.path or "<string>")
    opening.be_worker(source, None if main is None else main.package, parcel.no_ship)
    if main is not None and main.argv0:
        sys.argv[:] = [main.argv0]
    sys.meta_path.insert(0, Importer(parcel))


class Importer(MetaPathFinder):
    def __init__(self, parcel: BundleContents) -> None:
        self._entries = {entry.name: entry for entry in parcel.modules}
        self._data = parcel.data

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        entry = self._entries.get(name)
        if entry is None:
            return None
        if entry.source is None and entry.is_package:
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [os.path.dirname(entry.path)]
            return spec
        loader = Loader(entry, self._data)
        spec = ModuleSpec(name, loader, origin=entry.path or None, is_package=entry.is_package)
        if entry.path:
            spec.has_location = True
        if entry.is_package:
            spec.submodule_search_locations = [os.path.dirname(entry.path)]
        return spec


class Loader(InspectLoader):
    def __init__(self, entry: ModuleEntry, data: dict[str, bytes]) -> None:
        self._entry = entry
        self._data = data

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """A module that the program made by hand is filled piece by piece."""
        return opening.StandIn(spec.name) if self._entry.source is None else None

    def exec_module(self, module: ModuleType) -> None:
        if self._entry.source is None:
            return
        opening.show(self._entry.path, self.get_source(self._entry.name))
        exec(self.get_code(self._entry.name), module.__dict__)

    def get_code(self, fullname: str) -> CodeType:
        del fullname
        assert self._entry.source is not None
        return compile(self._entry.source, self._entry.path, "exec", dont_inherit=True)

    def get_source(self, fullname: str) -> str:
        del fullname
        return util.decode_source(self._entry.source or b"")

    def is_package(self, fullname: str) -> bool:
        del fullname
        return self._entry.is_package

    def get_filename(self, fullname: str) -> str:
        del fullname
        return self._entry.path

    def get_data(self, path: str) -> bytes:
        """`pkgutil.get_data`: what travelled beside the modules, otherwise what is on this machine."""
        if path in self._data:
            return self._data[path]
        with open(path, "rb") as file:
            return file.read()

    def get_resource_reader(self, fullname: str) -> Any:
        del fullname
        return BundleReader(os.path.dirname(self._entry.path), self._data)


class BundleReader(TraversableResources):
    def __init__(self, top: str, data: dict[str, bytes]) -> None:
        self._top = top
        self._data = data

    def files(self) -> Traversable:
        return Resource(self._top, self._data)


class Resource(Traversable):
    """A file or directory that came with the bundle."""

    def __init__(self, path: str, data: dict[str, bytes]) -> None:
        self._path = path
        self._data = data

    @property
    def name(self) -> str:
        return os.path.basename(self._path)

    def is_file(self) -> bool:
        return self._path in self._data

    def is_dir(self) -> bool:
        return any(path.startswith(self._path + os.sep) for path in self._data)

    def iterdir(self) -> Iterator[Traversable]:
        inside = {
            path[len(self._path) + 1 :].partition(os.sep)[0]
            for path in self._data
            if path.startswith(self._path + os.sep)
        }
        return iter([self.joinpath(name) for name in sorted(inside)])

    def joinpath(self, *descendants: Any) -> Resource:
        return Resource(os.path.join(self._path, *map(str, descendants)), self._data)

    def __truediv__(self, child: Any) -> Resource:
        return self.joinpath(child)

    def read_bytes(self) -> bytes:
        if self._path not in self._data:
            raise FileNotFoundError(self._path)
        return self._data[self._path]

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def open(self, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        file = io.BytesIO(self.read_bytes())
        return file if "b" in mode else io.TextIOWrapper(file, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<{self._path}, of the program's bundle>"
