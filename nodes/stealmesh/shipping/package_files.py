"""Where the files of a package lie: in directories, or in a zip file that Python imports from.

Decides how they are listed and read. Refuses to know which of them travel (bundle.py).
"""

from __future__ import annotations

import os
import sys
import zipimport
from collections.abc import Iterator

Directory = tuple[str, list[str], list[str]]
"""Its path, the names of the directories inside, and the names of the files."""


class OnDisk:
    """Raises OSError."""

    def walk(self, top: str) -> Iterator[Directory]:
        """Names that are taken out of the second list are not walked into, as with os.walk."""
        return os.walk(top)

    def octets(self, path: str) -> int:
        return os.path.getsize(path)

    def read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()


class InZip(OnDisk):
    """Paths begin with that of the zip file, as in the modules of its packages."""

    def __init__(self, archive: str) -> None:
        import zipfile  # 9 ms, for the few programs that need it

        self._archive = archive
        self._sizes: dict[str, int] = {}
        try:
            with zipfile.ZipFile(archive) as found:
                for info in found.infolist():
                    if not info.is_dir():
                        inside = info.filename.replace("/", os.sep)
                        self._sizes[os.path.join(os.path.abspath(archive), inside)] = info.file_size
        except (OSError, zipfile.BadZipFile):  # replaced since, or a zip file of another kind
            self._sizes.clear()

    def walk(self, top: str) -> Iterator[Directory]:
        under = [path[len(top) + 1 :] for path in self._sizes if path.startswith(top + os.sep)]
        files = sorted(each for each in under if os.sep not in each)
        inside = sorted({each.partition(os.sep)[0] for each in under if os.sep in each})
        yield top, inside, files
        for name in inside:
            yield from self.walk(os.path.join(top, name))

    def octets(self, path: str) -> int:
        return self._sizes[path]

    def read(self, path: str) -> bytes:
        import zipfile

        name = os.path.relpath(path, os.path.abspath(self._archive)).replace(os.sep, "/")
        try:
            with zipfile.ZipFile(self._archive) as found:
                return found.read(name)
        except (KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
            raise OSError(f"{path}: {error}") from error


def place_of(package: str) -> OnDisk:
    loader = getattr(sys.modules.get(package), "__loader__", None)
    return InZip(loader.archive) if isinstance(loader, zipimport.zipimporter) else OnDisk()
