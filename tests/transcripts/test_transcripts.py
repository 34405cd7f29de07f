"""The transcripts are as the stories tell them. A change of behaviour shows as a change of a text.

Read the difference; if it is meant, write the texts anew: ``pytest tests/transcripts --bless``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .stories import STORIES
from .story import written

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", STORIES)
def test_a_transcript_is_as_the_story_goes(name: str, request: pytest.FixtureRequest) -> None:
    path = HERE / f"{name}.txt"
    told = written(STORIES[name])
    if request.config.getoption("--bless"):
        path.write_text(told, encoding="utf-8")
    assert told.splitlines() == path.read_text(encoding="utf-8").splitlines()


def test_each_transcript_has_its_story() -> None:
    assert {path.stem for path in HERE.glob("*.txt")} == STORIES.keys()


def test_a_story_is_told_the_same_way_twice() -> None:
    assert written(STORIES["steal"]) == written(STORIES["steal"])
