"""Which core runs: the compiled one only if it is made of the very sources that are there."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest
from tests.conftest import ROOMS, ROOT

from stealmesh.doctor import here
from stealmesh.host.core_in_use import COMPILED, core_in_use
from stealmesh.host.settings import load_config
from stealmesh_bench.peers import PURE, STEALMESH, environment_of
from stealmesh_engine.config import Config

LOADER = ROOT / "fast/stealmesh_fast/__init__.py"
MODULE = "stealmesh_engine.config"


@pytest.fixture(scope="module")
def loader() -> ModuleType:
    spec = importlib.util.spec_from_file_location("loader_under_test", LOADER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not module.verdict.startswith(COMPILED), "nothing is compiled beside the source"
    return module


class Shop:
    """A directory with sources, and one with what was compiled from them."""

    def __init__(self, loader: ModuleType, directory: Path) -> None:
        self.loader = loader
        self.sources = directory / "sources"
        self.compiled = directory / "compiled"
        (self.sources / "inside").mkdir(parents=True)
        (self.sources / "inside/config.py").write_text("A = 1\n")
        (self.compiled / "stealmesh_engine").mkdir(parents=True)
        (self.compiled / f"{loader.LIBRARY}.cpython-311.so").touch()
        (self.compiled / "stealmesh_engine/config.cpython-311.so").touch()
        (self.compiled / loader.NOTE).write_text(loader.made_of([self.sources], [MODULE]))

    def against(self, environment: Mapping[str, str] | None = None) -> str:
        why: str = self.loader.against(self.compiled, [self.sources], environment or {})
        return why


@pytest.fixture
def shop(loader: ModuleType, tmp_path: Path) -> Shop:
    return Shop(loader, tmp_path)


def test_what_fits_is_used(shop: Shop) -> None:
    assert shop.against() == ""
    assert shop.against({"STEALMESH_PURE": "0"}) == ""


def test_it_is_switched_off_by_the_environment(shop: Shop) -> None:
    assert "is set" in shop.against({"STEALMESH_PURE": "1"})


def test_other_sources_run_as_they_are(shop: Shop) -> None:
    (shop.sources / "inside/config.py").write_text("A = 2\n")
    assert "other sources" in shop.against()


def test_a_new_file_makes_other_sources(shop: Shop) -> None:
    (shop.sources / "new.py").touch()
    assert "other sources" in shop.against()


def test_a_renamed_file_makes_other_sources(shop: Shop) -> None:
    (shop.sources / "inside/config.py").rename(shop.sources / "inside/settings.py")
    assert "other sources" in shop.against()


def test_what_moves_from_file_to_file_makes_other_sources(shop: Shop) -> None:
    before = shop.loader.digest_of([shop.sources])
    (shop.sources / "inside/config.py").write_text("")
    (shop.sources / "inside/a.py").write_text("A = 1\n")
    assert shop.loader.digest_of([shop.sources]) != before


def test_a_python_of_another_kind_runs_the_pure_one(shop: Shop) -> None:
    note = json.loads((shop.compiled / shop.loader.NOTE).read_text())
    (shop.compiled / shop.loader.NOTE).write_text(json.dumps({**note, "python": "cpython-310"}))
    assert "cpython-310" in shop.against()


@pytest.mark.parametrize("lost", ["stealmesh_engine/config", "stealmesh_fast__mypyc"])
def test_all_or_nothing(shop: Shop, lost: str) -> None:
    (shop.compiled / f"{lost}.cpython-311.so").unlink()
    assert "is missing" in shop.against()


def test_a_wheel_without_a_note_is_none(shop: Shop) -> None:
    (shop.compiled / shop.loader.NOTE).unlink()
    assert "nothing is compiled" in shop.against()


def test_the_finder_finds_the_compiled_modules_alone(shop: Shop) -> None:
    finder = shop.loader.Finder(shop.loader.compiled_in(shop.compiled))
    found = finder.find_spec(MODULE)
    assert found is not None
    assert found.origin == str(shop.compiled / "stealmesh_engine/config.cpython-311.so")
    assert finder.find_spec("stealmesh_engine.effects") is None
    assert finder.find_spec("json") is None


def test_what_the_note_does_not_name_is_not_found(shop: Shop) -> None:
    """A module that was compiled once and is no more may lie there still."""
    (shop.compiled / "stealmesh_engine/core.cpython-311.so").touch()
    finder = shop.loader.Finder(shop.loader.compiled_in(shop.compiled))
    assert finder.find_spec("stealmesh_engine.core") is None


def test_the_pure_column_of_a_bench_runs_in_pure_python() -> None:
    assert environment_of(PURE) == {"STEALMESH_PURE": "1"}
    assert environment_of(STEALMESH) == {}


# ---------------------------------------------------------------- who asks it


@pytest.mark.parametrize(
    "first", ["stealmesh_protocol.ids", "stealmesh_engine.config", "stealmesh_sim.kernel"]
)
def test_it_is_asked_before_any_module(first: str, tmp_path: Path) -> None:
    (tmp_path / "stealmesh_fast.py").write_text(
        "import sys\n"
        "ours = ('stealmesh_protocol.', 'stealmesh_engine.', 'stealmesh_sim.')\n"
        "print([name for name in sys.modules if name.startswith(ours)])\n"
    )
    told = _python(f"import {first}", tmp_path)
    assert told == "[]\n"


def test_without_it_pure_python_runs() -> None:
    if _is_installed():
        pytest.skip("a compiled core is installed")
    assert _python("from stealmesh.host.core_in_use import core_in_use; print(core_in_use())") == (
        "pure Python\n"
    )


@pytest.mark.parametrize(("pure", "ending"), [("1", ".py"), ("0", ".so")])
def test_the_installed_one_is_used_or_not(pure: str, ending: str) -> None:
    if not _is_installed():
        pytest.skip("no compiled core is installed")
    code = (
        "from stealmesh.host.core_in_use import core_in_use\n"
        "from stealmesh_engine import core, parts\n"
        "from stealmesh_engine.base import intervals\n"
        "print(core_in_use(), *(m.__file__[-3:] for m in (core, parts, intervals)))"
    )
    verdict, *endings = _python(code, pure=pure).rsplit(maxsplit=3)
    if pure == "0" and "other sources" in verdict:
        pytest.skip("the compiled core is of other sources")
    assert endings == [ending] * 3
    assert verdict.startswith(COMPILED if pure == "0" else "pure Python")


def test_the_switch_is_no_setting_of_a_mesh() -> None:
    assert load_config({}, {"STEALMESH_PURE": "1", "HOME": "/nonexistent"}) == Config()


def test_the_doctor_names_a_core_that_does_not_fit() -> None:
    assert here.core(core_in_use()).is_well
    assert here.core("pure Python").is_well
    stale = here.core("pure Python (the other one is compiled from other sources)")
    assert "make fast" in stale.remedy


def _is_installed() -> bool:
    return importlib.util.find_spec("stealmesh_fast") is not None


def _python(code: str, *first: Path, pure: str = "1") -> str:
    path = os.pathsep.join([*map(str, first), *ROOMS])
    environment = {**os.environ, "PYTHONPATH": path, "STEALMESH_PURE": pure}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout
