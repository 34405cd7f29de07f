"""Where a configuration comes from: the call, then STEALMESH_* variables, then a TOML file, then defaults.

Unknown names are errors, wherever they stand: a misspelt knob that is silently ignored costs
an afternoon.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stealmesh_engine.config import Config

PREFIX = "STEALMESH_"
NOT_KNOBS = frozenset(
    {"STEALMESH_KEY_FILE", "STEALMESH_CONFIG_FILE", "STEALMESH_TOKEN", "STEALMESH_PURE"}
)


def load_config(
    given: Config | Mapping[str, Any] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Config:
    """The configuration in force. Raises ValueError naming the unknown or senseless setting."""
    if isinstance(given, Config):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(
            f"config must be a stealmesh.Config or a dict of settings, not {given!r}; "
            "a file is named by STEALMESH_CONFIG_FILE"
        )
    settings = {
        **_from_file(environment),
        **_from_environment(environment),
        **(given or {}),
    }
    return Config(**_checked(settings, "config"))


def _from_file(environment: Mapping[str, str]) -> dict[str, Any]:
    named = environment.get("STEALMESH_CONFIG_FILE")
    base = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    path = Path(named) if named else Path(base) / "stealmesh" / "config.toml"
    if not named and not _is_there(path):
        return {}
    import tomllib

    try:
        with path.open("rb") as file:
            return _checked(tomllib.load(file), str(path))
    except OSError as error:
        raise ValueError(
            f"cannot read the settings in {path} ({error.strerror}): make it readable, or name "
            "another file in STEALMESH_CONFIG_FILE"
        ) from None


def _is_there(path: Path) -> bool:
    """Does the file exist? A home that we may not read counts as empty."""
    try:
        os.lstat(path)
    except OSError:
        return False
    return True


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and name not in NOT_KNOBS
    }
    return _checked(found, "the environment (STEALMESH_*)")


def _checked(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    known = {field.name: field for field in dataclasses.fields(Config)}
    checked: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in known:
            raise ValueError(f"unknown setting {name!r} in {where}; {_meant(name, list(known))}")
        kind = {"int": int, "str": str}.get(str(known[name].type), float)
        try:
            checked[name] = kind(value)
        except (TypeError, ValueError, OverflowError):
            checked[name] = None
        if checked[name] is None or (kind is not str and not _is_same(checked[name], value)):
            what = "a whole number" if kind is int else "a number"
            raise ValueError(f"{name} in {where} must be {what}, not {value!r}")
    return checked


def _meant(name: object, known: list[str]) -> str:
    close = difflib.get_close_matches(str(name), known, 1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def _is_same(number: float, value: object) -> bool:
    """Has nothing been lost (2.7 as 2), and is it a number that can be compared (no nan, no True)?"""
    if isinstance(value, bool) or number != number:
        return False
    return isinstance(value, str) or number == value
