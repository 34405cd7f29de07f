"""What the compiler's driver refuses, as native code would not behave as Python does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from mypy import build
from mypy.modulefinder import BuildSource
from mypy.options import Options
from tests.conftest import ROOT

TEXT = """
class Ancestor:
    waits: bool = False

    @property
    def is_late(self) -> bool:
        return False


class Descendant(Ancestor):
    @property
    def waits(self) -> bool:  # type: ignore[override]
        return True

    @property
    def is_late(self) -> bool:
        return True


class WithSetter(Ancestor):
    @property
    def waits(self) -> bool:  # type: ignore[override]
        return True

    @waits.setter
    def waits(self, value: bool) -> None:
        pass
"""


@pytest.fixture(scope="module")
def compiling() -> ModuleType:
    sys.path.insert(0, str(ROOT / "fast"))
    try:
        spec = importlib.util.spec_from_file_location("compiling", ROOT / "fast/compiling.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "fast"))
    return module


def test_a_property_in_place_of_a_field(compiling: ModuleType, tmp_path: Path) -> None:
    options = Options()
    options.cache_dir = str(tmp_path)
    options.preserve_asts = True
    result = build.build([BuildSource(None, "sample", TEXT)], options)
    tree = result.graph["sample"].tree
    assert tree is not None
    found = list(compiling.hidden_fields(tree))
    assert found == ["sample.Descendant.waits", "sample.WithSetter.waits"]
