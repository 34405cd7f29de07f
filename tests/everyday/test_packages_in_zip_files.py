"""A package in a zip file travels as one in a directory does: modules that are not loaded yet, and data."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from tests.everyday.running import run

pytestmark = pytest.mark.real

FILES = {
    "zpk/__init__.py": "",
    "zpk/late.py": "VALUE = 7",
    "zpk/d.txt": "data",
    "zpk/.hidden/d.txt": "hidden",
    "zpk/sub/__init__.py": "",
    "zpk/sub/e.txt": "deep",
    "other/f.txt": "of another package",
}


@pytest.mark.parametrize("top", ["", "inside/"])
def test_all_of_it_is_there(tmp_path: Path, top: str) -> None:
    """Also where the file is gone: a node has none."""
    archive = tmp_path / "packages.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, text in FILES.items():
            file.writestr(top + name, text)
    run(
        tmp_path,
        f"""
        import importlib.resources, os, pkgutil, sys
        sys.path.insert(0, {str(archive / top)!r})
        import stealmesh, zpk
        def data(): return pkgutil.get_data("zpk", "d.txt"), pkgutil.get_data("zpk.sub", "e.txt")
        def resource(): return (importlib.resources.files("zpk") / "sub" / "e.txt").read_text()
        def late():
            from zpk.late import VALUE
            return VALUE
        def missing():
            try:
                pkgutil.get_data("zpk", "none.txt")
            except OSError:
                return True
        with stealmesh.Mesh(workers=1) as mesh:
            assert mesh.submit(int).result() == 0
            first = mesh.submit(data)
            os.rename({str(archive)!r}, "gone")
            assert first.result() == (b"data", b"deep")
            assert mesh.submit(resource).result() == "deep"
            assert mesh.submit(late).result() == 7
            assert mesh.submit(missing).result()
        """,
    )
