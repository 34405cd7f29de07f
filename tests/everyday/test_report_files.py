"""`options(report=path)`: the story of a job is a file once the job has ended, whatever it came to."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.patience import until

import stealmesh


def told(path: Path) -> str:
    """The page, once it is there. It is never there in part."""
    until(path.exists, f"{path.name} is written")
    text = path.read_text()
    assert text.endswith("</html>\n")
    return text


def fails_at_five(x: int) -> int:
    if x == 5:
        raise ValueError("five")
    return x


def test_every_job_of_a_view_has_its_file(tmp_path: Path) -> None:
    well, bad, last = tmp_path / "well.html", tmp_path / "bad.html", tmp_path / "last.html"
    with stealmesh.Mesh(workers=1) as mesh:
        assert sum(mesh.options(report=well, name="<b>").map(abs, range(30))) == 435
        assert "&lt;b&gt;: 30 items ran, 0 failed" in told(well)
        with pytest.raises(ValueError, match="five"):
            mesh.options(report=str(bad)).map_reduce(fails_at_five, range(9), max).result()
        assert "fails_at_five: " in told(bad)
        assert "1 failed" in told(bad)
        for wrong in (tmp_path, tmp_path / "nowhere" / "x.html"):
            with pytest.raises(ValueError, match="report"):
                mesh.options(report=wrong)
        with pytest.raises(ValueError, match="stealmesh report"):
            mesh.options(report=well, durable=True).submit(abs, -2)
        assert mesh.options(report=last).submit(abs, -1).result() == 1
        assert not last.exists(), "calls of one function go on being one job"
    assert "abs: 1 items ran" in last.read_text(), "the end of the program waits for it"


def test_a_file_that_cannot_be_written_ends_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "gone"
    place.mkdir()
    with stealmesh.Mesh(workers=1) as mesh:
        view = mesh.options(report=place / "x.html")
        place.rmdir()
        assert list(view.map(abs, [-1])) == [1]
    until(lambda: "no report of abs" in capfd.readouterr().err, "it is said")


def test_a_durable_job_has_its_file_while_its_program_is_there(tmp_path: Path) -> None:
    launched, value = tmp_path / "launched.html", tmp_path / "value.html"
    with stealmesh.Mesh(workers=1) as mesh:
        job = mesh.options(report=launched).launch(fails_at_five, range(9))
        assert job.wait(60)
        assert "fails_at_five: 9 items ran, 1 failed" in told(launched)
        view = mesh.options(report=value, durable=True)
        assert view.map_reduce(abs, range(9), max).result() == 8
    assert "abs: 9 items ran" in value.read_text(), "the end of the program waits for it"
