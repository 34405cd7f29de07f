"""speculate=True with real nodes, and a real worker that is stuck with the last item."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import stealmesh

pytestmark = pytest.mark.real

PATIENCE_SECONDS = 120.0


def item(log: Path, number: int, last: int) -> int:
    """The first worker that has the last item is stuck with it until the test is over."""
    if number == last:
        (log / f"{os.getpid()}.running").write_text("")
        try:
            os.close(os.open(log / "first", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return number * number
        while not (log / "over").exists():
            time.sleep(0.05)
    time.sleep(0.02)
    return number * number


@pytest.mark.parametrize("how", ["map", pytest.param("submit", marks=pytest.mark.slow)])
def test_the_end_comes_although_a_worker_is_stuck(tmp_path: Path, how: str) -> None:
    """Without the second copy there is no end."""
    last = 39
    with stealmesh.Mesh(nodes=2, workers=1) as mesh:
        view = mesh.options(speculate=True)
        try:
            if how == "map":
                task = lambda n: item(tmp_path, n, last)  # noqa: E731
                found = list(view.map(task, range(40), timeout=PATIENCE_SECONDS))
            else:
                calls = [view.submit(item, tmp_path, n, last) for n in range(40)]
                found = [call.result(PATIENCE_SECONDS) for call in calls]
            assert found == [n * n for n in range(40)]
            assert len(list(tmp_path.glob("*.running"))) == 2
        finally:
            (tmp_path / "over").touch()


def test_where_it_makes_no_sense_it_is_refused() -> None:
    with stealmesh.Mesh(nodes=1, workers=1) as mesh:
        view = mesh.options(speculate=True)
        with pytest.raises(ValueError, match="map_reduce"):
            view.map_reduce(abs, range(3), max)
        with pytest.raises(ValueError, match="explore"):
            view.explore(lambda bag, limit: (0, []), [1], max)
        with pytest.raises(ValueError, match="launch"):
            view.launch(abs, range(3))
        with pytest.raises(ValueError, match="durable"):
            mesh.options(speculate=True, durable=True)
        with pytest.raises(TypeError, match="speculate"):
            mesh.options(speculate=1)  # type: ignore[arg-type]
        assert view.submit(abs, -3).result(PATIENCE_SECONDS) == 3
