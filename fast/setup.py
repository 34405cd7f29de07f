"""Compiles the core: `pip install ./fast` in a clone, or `make fast`. Needs a C compiler.

What is compiled, and what is not, says what.py; how, compiling.py. The wheel has the compiled files, the loader
(stealmesh_fast) and a note of the sources that they are made of.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree
from typing import Any

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE)]

from compiling import extensions  # noqa: E402
from stealmesh_fast import NOTE, PACKAGES, made_of  # noqa: E402
from what import ROOMS, ROOT, modules  # noqa: E402


class CompileSideBySide(build_ext):  # type: ignore[misc]  # setuptools has no types
    """The library is one extension of many files; setuptools would compile them one after the other."""

    def build_extensions(self) -> None:
        compiler: Any = self.compiler
        one_by_one = compiler.compile

        def all_at_once(sources: list[str], **told: Any) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                made = pool.map(lambda source: one_by_one([source], **told), sources)
                return [each for some in made for each in some]

        compiler.compile = all_at_once
        super().build_extensions()


class WithNote(build_py):  # type: ignore[misc]
    """Begins with nothing, since a module that is compiled no more must not stay, and writes the note."""

    def run(self) -> None:
        rmtree(self.build_lib, ignore_errors=True)
        super().run()
        Path(self.build_lib, "stealmesh_fast", NOTE).write_text(note)


note = made_of([ROOT / ROOMS[package] / package for package in PACKAGES], modules())
"""Taken before anything is compiled: if a source changes meanwhile, the compiled core does not fit."""
is_asked_to_compile = not {"egg_info", "dist_info"} & set(sys.argv)
"""pip asks twice for what the wheel is called and needs."""

setup(
    ext_modules=extensions(HERE / "build" / "c") if is_asked_to_compile else [],
    cmdclass={"build_ext": CompileSideBySide, "build_py": WithNote},
)
