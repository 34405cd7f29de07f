"""What the text of a setting says of 0 is what Config does with it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.conftest import ROOT

from stealmesh_engine.config import Config

TEXTS: dict[str, str] = dict(
    re.findall(
        r'^    (\w+): [^\n]+ = [^\n]+\n    """(.*?)"""',
        (ROOT / "engine/stealmesh_engine/config.py").read_text(),
        re.MULTILINE | re.DOTALL,
    )
)
NAMES_0 = re.compile(r"\b0(:| switches)")


def test_settings_that_say_what_0_does_may_be_0() -> None:
    named = {name for name, text in TEXTS.items() if NAMES_0.search(text)}
    assert {"hire_after_calls", "prefetch_seconds_max"} <= named
    for name in named:
        chosen: dict[str, Any] = {name: 0}
        assert getattr(Config(**chosen), name) == 0


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("hire_after_calls", -1, "of 0 or more, not -1"),
        ("beat_seconds", 0, "above 0, not 0"),
        ("lease_seconds", float("nan"), "above 0, not nan"),
        ("replicas", True, "above 0, not True"),
    ],
)
def test_other_values_are_refused_with_their_range(
    setting: str, value: float, message: str
) -> None:
    chosen: dict[str, Any] = {setting: value}
    with pytest.raises(ValueError, match=f"{setting} must be a number {message}"):
        Config(**chosen)
