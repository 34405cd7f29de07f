"""Marks that several tests share."""

from __future__ import annotations

import pytest
from _pytest.mark import ParameterSet


def later(*parameters: object) -> list[ParameterSet]:
    """Parameters of a test that `make test` leaves out and `make slow` runs; a tuple is several of one run."""
    return [
        pytest.param(*(each if isinstance(each, tuple) else (each,)), marks=pytest.mark.slow)
        for each in parameters
    ]
