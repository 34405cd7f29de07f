"""The bench as a product: the table of factors, its picture, and what is said of figures that became worse.

No figure is judged here. What is measured is replaced by rows with known figures.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from stealmesh_bench import __main__ as command
from stealmesh_bench import single
from stealmesh_bench.compare import Plan, alternate
from stealmesh_bench.compass import as_compass, bearings, factor
from stealmesh_bench.compass_svg import MIDDLE, WIDTH, as_svg
from stealmesh_bench.other_peers import NEEDS, _chunks, is_installed
from stealmesh_bench.peers import POOL, PPE, STANDARD, STEALMESH
from stealmesh_bench.record import Row, Target, more_is_better
from stealmesh_bench.regression import regressions, remembered
from stealmesh_bench.stand import BenchError, Stand
from stealmesh_bench.suite import SUITE

FAST = [
    Row("single", STEALMESH, "tasks/s", [300.0], target=Target("ratio", "least", 10)),
    Row("single", PPE, "tasks/s", [10.0]),
    Row("single", "dask", "tasks/s", [1.0]),
    Row("first result", STEALMESH, "s", [0.2]),
    Row("first result", PPE, "s", [0.03]),
    Row("uts T1", "sequential", "s", [9.0]),
    Row("recovery", STEALMESH, "s", [8.6]),
]

# ---------------------------------------------------------------- factors


def test_a_factor_is_that_of_neighbouring_runs() -> None:
    ours = Row("w", STEALMESH, "items/s", [10.0, 80.0, 30.0])
    assert factor(ours, Row("w", PPE, "items/s", [10.0, 40.0, 10.0])) == 2.0  # not 30 / 10


def test_more_than_one_is_always_better() -> None:
    assert factor(Row("w", STEALMESH, "s", [2.0]), Row("w", PPE, "s", [6.0])) == 3.0
    assert factor(Row("w", STEALMESH, "/s", [2.0]), Row("w", PPE, "/s", [6.0])) == 1 / 3


def test_nobody_is_infinitely_better() -> None:
    assert factor(Row("w", STEALMESH, "s", [0.0]), Row("w", PPE, "s", [6.0])) is None


@pytest.mark.parametrize(
    ("unit", "target", "higher"),
    [
        ("tasks/s", "", True),
        ("µs", "", False),
        ("MiB", "≤ 80", False),
        ("×", "≥ 1.8", True),
        ("×", "≤ 3", False),
    ],
    ids=["rate", "time", "memory", "speed-up", "spread"],
)
def test_which_way_is_better(unit: str, target: str, higher: bool) -> None:
    assert more_is_better(unit, target) is higher


def test_bearings_have_the_peers_alone() -> None:
    found = {line.ours.workload: line.factors for line in bearings(FAST)}
    assert found == {
        "single": {PPE: 30.0, "dask": 300.0},
        "first result": {PPE: pytest.approx(0.15)},
        "recovery": {},
    }


def test_the_table_has_a_column_for_each_peer_that_ran() -> None:
    screen = Console(width=140, record=True, file=io.StringIO())
    screen.print(as_compass(bearings(FAST)))
    text = screen.export_text()
    assert all(word in text for word in (PPE, "dask", "30 ×", "300 ×", "0.15 ×", "8.6", "–"))
    assert POOL not in text


# ---------------------------------------------------------------- the picture


def elements(svg: str, kind: str) -> list[Any]:
    return list(ElementTree.fromstring(svg).iter(f"{{http://www.w3.org/2000/svg}}{kind}"))


def test_a_bar_is_on_the_side_of_the_better_one() -> None:
    bars = [bar.attrib for bar in elements(as_svg(bearings(FAST), "here"), "rect")]
    sides = {
        bar["class"]: float(bar["x"]) >= MIDDLE for bar in bars if bar["class"] in ("good", "bad")
    }
    assert sides == {"good": True, "bad": False}
    ends = [float(bar["x"]) + float(bar["width"]) for bar in bars if bar["class"] == "bad"]
    assert ends == [MIDDLE]


def test_the_picture_fits_a_telephone() -> None:
    wild = [
        Row("a workload with a long name", STEALMESH, "tasks/s", [1e9]),
        Row("a workload with a long name", POOL, "tasks/s", [1.0]),
    ]
    svg = as_svg(bearings([*FAST, *wild]), "AMD EPYC, 2 cores, 2026-11-30")
    height = float(ElementTree.fromstring(svg).attrib["height"])
    for bar in elements(svg, "rect"):
        assert float(bar.attrib.get("x", 0)) + float(bar.attrib["width"]) <= WIDTH
    for text in elements(svg, "text"):
        assert len(text.text) * 7 <= WIDTH, text.text
        assert float(text.attrib["y"]) <= height


def test_the_picture_is_for_the_dark_too_and_takes_no_markup() -> None:
    rows = [Row("<b>", STEALMESH, "/s", [1.0]), Row("<b>", PPE, "/s", [1.0])]
    svg = as_svg(bearings(rows), "a & b")
    assert "prefers-color-scheme:dark" in svg
    assert "<b>" not in svg
    assert "<b>" in [text.text for text in elements(svg, "text")]


# ---------------------------------------------------------------- what became worse

HERE = {"cpu": "c", "cores": 2, "kernel": "k", "python": "p", "load_before": 0.1}


def recorded(value: float, ratio: float | None = None, **other: Any) -> dict[str, Any]:
    plain = Row("single", STEALMESH, "tasks/s", [value]).plain()
    about = {"machine": HERE, "commit": "abc", "quick": False, "ratio_to_ppe": ratio}
    return plain | about | other


def test_a_tenth_less_is_no_regression_and_more_is() -> None:
    assert regressions([recorded(90.0)], [recorded(100.0)]) == []
    (said,) = regressions([recorded(89.0)], [recorded(100.0)])
    assert said.startswith("REGRESSION single: 100 → 89 tasks/s (-11%); commit abc, load 0.1")


def test_more_seconds_are_worse_and_fewer_are_not() -> None:
    slow, quick = (recorded(value, unit="s") for value in (1.2, 0.5))
    assert len(regressions([slow], [recorded(1.0, unit="s")])) == 1
    assert regressions([quick], [recorded(1.0, unit="s")]) == []


def test_a_ratio_counts_more_than_a_figure() -> None:
    assert regressions([recorded(50.0, 10.0)], [recorded(100.0, 10.0)]) == []
    assert len(regressions([recorded(100.0, 8.0)], [recorded(100.0, 10.0)])) == 1


def test_only_the_last_record_of_the_same_machine_counts() -> None:
    elsewhere = recorded(1000.0, machine=HERE | {"cores": 64})
    busier = recorded(100.0, machine=HERE | {"load_before": 9.9})
    assert regressions([recorded(100.0)], [recorded(900.0), busier, elsewhere]) == []
    assert len(regressions([recorded(100.0)], [busier, recorded(900.0)])) == 1


def test_quick_runs_and_peers_are_not_compared() -> None:
    for other in ({"quick": True}, {"peer": PPE}):
        assert regressions([recorded(1.0, **other)], [recorded(100.0)]) == []
        assert regressions([recorded(1.0)], [recorded(100.0, **other)]) == []


def test_one_wrong_answer_after_none_is_worse() -> None:
    none, one = (recorded(value, unit="wrong", target="≤ 0") for value in (0.0, 1.0))
    assert len(regressions([one], [none])) == 1
    assert regressions([none], [none]) == []


def test_it_is_said_loudly_and_is_no_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.jsonl"
    assert remembered(file) == []
    for value in (100.0, 50.0):
        rows = [Row("w", STEALMESH, "/s", [value])]
        monkeypatch.setitem(SUITE, "single", lambda plan: rows)  # noqa: B023  called at once
        assert command.main(["single", "--record", str(file)]) == 0
    assert "REGRESSION w: 100 → 50 /s (-50%)" in capsys.readouterr().out
    assert [each["value"] for each in remembered(file)] == [100.0, 50.0]


# ---------------------------------------------------------------- the command


def test_all_installed_peers_make_one_table_and_one_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plans: list[Plan] = []

    def measured(plan: Plan) -> list[Row]:
        plans.append(plan)
        return FAST if len(plans) == 1 else []

    monkeypatch.chdir(tmp_path)
    for name in SUITE:
        monkeypatch.setitem(SUITE, name, measured)
    assert command.main(["--no-record", "--json", "--peers"]) == 0
    assert len(plans) == len(command.COMPASS)
    assert plans[0].peers == (*STANDARD, *(name for name in NEEDS if is_installed(name)))
    assert "times better" in capsys.readouterr().err
    assert elements((tmp_path / command.PICTURE).read_text(), "rect")


def test_a_peer_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "is_installed", lambda peer: peer != "ray")
    with pytest.raises(SystemExit):
        command.main(["single", "--peers", "ray"])
    assert "ray is not installed: pip install" in capsys.readouterr().err


# ---------------------------------------------------------------- peers that fail


def test_a_peer_that_fails_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> float:
        raise BenchError("it hangs")

    said = alternate({STEALMESH: lambda: 1.0, "dask": fails, PPE: lambda: 2.0}, 2)
    assert said == {STEALMESH: [1.0, 1.0], PPE: [2.0, 2.0]}
    assert capsys.readouterr().err.count("dask is left out: it hangs") == 1
    with pytest.raises(BenchError):
        alternate({STEALMESH: fails, PPE: lambda: 2.0}, 2)


def test_chunks_by_hand_are_all_of_it() -> None:
    chunks = _chunks(range(1000))
    assert [item for chunk in chunks for item in chunk] == list(range(1000))
    assert len(chunks) > 8


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDS)
def test_a_peer_of_another_project_answers(name: str) -> None:
    if not is_installed(name):
        pytest.skip(f"{name} is not installed")
    with Stand(name) as one:
        assert one.run(single.tasks_per_second, tasks=20) > 0
