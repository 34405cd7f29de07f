"""The two commands: figures for people or programs, and exit code 1 with a way to repeat a breach."""

from __future__ import annotations

import json

import pytest

from stealmesh_bench import scale, seeds
from stealmesh_engine.links.custody import Channel, Hearing


def test_worlds_without_a_breach(capsys: pytest.CaptureFixture[str]) -> None:
    assert seeds.main(["--worlds", "3", "--seed", "1"]) == 0
    assert "no breach" in capsys.readouterr().err


def test_a_breach_is_told_with_the_command_that_repeats_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Channel, "hear", lambda self, seq, octets: Hearing.REPEAT)
    assert seeds.main(["--worlds", "1", "--seed", "2"]) == 1
    assert "python -m stealmesh_bench.seeds --one 2" in capsys.readouterr().out
    assert seeds.main(["--one", "2"]) == 1
    told = capsys.readouterr().out
    assert "BREACH" in told
    assert "faults:" in told


@pytest.mark.parametrize("family", seeds.FAMILIES)
def test_each_family_of_worlds_repeats_a_world_by_its_number(
    capsys: pytest.CaptureFixture[str], family: str
) -> None:
    found = []
    for _ in range(2):
        assert seeds.main([*seeds.replay(5, family).split()[3:], "--json"]) == 0
        world = json.loads(capsys.readouterr().out)
        found.append((world["replay"], world["trace"]))
    assert found[0] == found[1]
    assert found[0][0] == seeds.replay(5, family)


def test_worlds_with_graphs_refuse_what_they_do_not_know() -> None:
    with pytest.raises(SystemExit):
        seeds.main(["--graphs", "--placed", "--one", "1"])


def test_figures_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert seeds.main(["--one", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "pass"
    assert found["replay"] == seeds.replay(1)
    assert scale.main(["--nodes", "4", "--seconds", "0.5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0.5 < found["efficiency"] <= 1.0


def test_one_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert scale.main(["--nodes", "4", "--seconds", "0.5"]) == 0
    assert "efficiency" in capsys.readouterr().out
