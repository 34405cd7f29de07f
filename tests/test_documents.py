"""The documents agree with the code, and stay short enough to be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stealmesh_engine.base import counters

ROOT = Path(__file__).parents[1]
COUNTERS = ROOT / "docs/counters.md"
DOCUMENTS = [
    ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md")
]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))
PACKAGES = ("protocol", "engine", "nodes", "bench", "fast")


@pytest.mark.parametrize(("name", "words"), [("README.md", 1000), ("ARCHITECTURE.md", 1200)])
def test_the_front_documents_are_short(name: str, words: int) -> None:
    assert len((ROOT / name).read_text().split()) <= words


def test_the_list_of_counters_is_that_of_the_code() -> None:
    """`python -c "from stealmesh_engine.base import counters; print(counters.page(), end='')"` writes it."""
    assert COUNTERS.read_text() == counters.page()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_exists(path: Path) -> None:
    text = path.read_text()
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in link:
            assert (path.parent / link).exists(), link
    known = {each.name for top in (*PACKAGES, "tests") for each in (ROOT / top).rglob("*.py")}
    for named in re.findall(r"`(?:[\w…./]*/)?(\w+\.py)`", text):
        assert named in known, named
    for where in re.findall(r"`((?:protocol|engine|nodes|bench|tests|docs)/[\w./]+)`", text):
        assert (ROOT / where).exists(), where
