"""No row of the table is missing, and each test that it names exists."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest
from tests.hostile.rows import ROWS, Row

ROOT = Path(__file__).parents[2]


@functools.cache
def named_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(
        each.name
        for each in tree.body
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name.startswith("test")
    )


def test_no_row_is_missing() -> None:
    assert [row.number for row in ROWS] == list(range(1, 51))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.number))
def test_the_tests_of_a_row_exist(row: Row) -> None:
    assert row.tests
    for each in row.tests:
        path, _, name = each.partition("::")
        assert name in named_in(path), each
