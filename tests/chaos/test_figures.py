"""Scenarios, figures, beliefs and verdicts: all that is pure."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from stealmesh.client.journals import Happening
from stealmesh_bench.chaos import plot, simulated
from stealmesh_bench.chaos.beliefs import Beliefs, agreed_at
from stealmesh_bench.chaos.eyes import BORN, DEAD, LEFT, Glimpse
from stealmesh_bench.chaos.figures import Durations, Goodput, Lack
from stealmesh_bench.chaos.ledger import Ledger, answer, executions
from stealmesh_bench.chaos.named import SCENARIOS, Wanted, draw
from stealmesh_bench.chaos.report import ChaosReport, Measured, together
from stealmesh_bench.chaos.scenario import CLIENT, Bounds
from stealmesh_protocol.journal_messages import JournalEntry, RingKind


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("nodes", [4, 33])
def test_a_scenario_is_a_function_of_name_seed_and_size(name: str, nodes: int) -> None:
    drawn = draw(Wanted(name, 7, nodes))
    assert drawn == draw(Wanted(name, 7, nodes))
    assert drawn.nodes == nodes
    times = [fault.at_seconds for fault in drawn.faults]
    assert times == sorted(times)
    everybody = {CLIENT, *range(nodes)}
    assert all({*fault.nodes, *fault.others} <= everybody for fault in drawn.faults)
    assert drawn.recovery_from is None or drawn.recovery_from < drawn.seconds


def test_another_seed_is_another_timetable() -> None:
    assert draw(Wanted("killers", 1, 8)) != draw(Wanted("killers", 2, 8))


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_smallest_meshes_can_be_drawn(name: str) -> None:
    draw(Wanted(name, 1, SCENARIOS[name].nodes_min))


def test_who_is_up_follows_the_timetable() -> None:
    card = draw(Wanted("skype-card", 3, 20))
    assert (card.up_at(0.0), card.up_at(3.0)) == (20, 12)
    assert card.node_seconds() == pytest.approx(20 * 3.0 + 12 * 16.0)
    herd = draw(Wanted("skype-herd", 3, 20))
    assert [herd.up_at(at) for at in (2.9, 3.0, 4.0)] == [20, 12, 20]


def test_the_card_is_two_fifths_and_the_build_is_half() -> None:
    assert len(draw(Wanted("skype-card", 1, 100)).faults[0].nodes) == 40
    assert len(draw(Wanted("skype-build", 1, 100)).faults[0].nodes) == 50
    actual = draw(Wanted("skype-actual", 1, 100))
    assert sum(fault.kind == "kill" for fault in actual.faults) == 20
    assert sum(fault.kind == "start" for fault in actual.faults) == 20


def test_a_silent_death_is_one_of_a_machine() -> None:
    kinds = {fault.kind for fault in draw(Wanted("skype-card", 1, 10, silent=True)).faults}
    assert kinds == {"silence"}


# ---------------------------------------------------------------- figures


def test_percentiles_are_upper_edges() -> None:
    durations = Durations()
    assert durations.percentile(0.5) is None
    for hundredths in range(100):
        durations.add(hundredths / 100 + 0.005)
    assert durations.percentile(0.5) == 0.5
    assert durations.percentile(0.99) == 0.99
    assert durations.percentile(1.0) == 1.0


def test_recovery_is_the_first_whole_window_that_is_good_enough() -> None:
    goodput = Goodput()
    for tenth in range(200):
        at = tenth / 10
        if not 5.0 <= at < 7.0:
            goodput.add(at, 10)
    assert goodput.rate(0.0, 5.0) == pytest.approx(100.0)
    assert goodput.recovered(5.0, 20.0, 95.0) == pytest.approx(2.0, abs=0.11)
    assert goodput.recovered(10.0, 20.0, 95.0) == 0.0
    assert goodput.recovered(5.0, 6.5, 95.0) is None
    assert goodput.recovered(5.0, 20.0, 120.0) is None


def test_the_ledger_sees_what_is_lost_doubled_and_wrong() -> None:
    ledger = Ledger()
    ledger.accept(5)
    for item in (0, 1, 1, 3):
        ledger.arrived(item, answer(item))
    ledger.arrived(2, answer(4))
    ledger.arrived(9, answer(9))
    assert (ledger.lost, ledger.duplicated, ledger.wrong, ledger.unexpected) == (1, 1, 1, 1)


def test_executions_beyond_the_first_are_counted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert Ledger().run_twice(str(log)) == 0
    log.write_text("1 7.5\n2 7.5\n1 8.0\n1 8.5\n")
    assert executions(str(log)) == {1: [7.5, 8.0, 8.5], 2: [7.5]}
    assert Ledger().run_twice(str(log)) == 2


# ---------------------------------------------------------------- beliefs


def beliefs() -> Beliefs:
    found = Beliefs()
    for pid in (1, 2, 3):
        found.born(pid, 0.0)
    return found


def test_a_detection_runs_from_the_death_to_each_survivor() -> None:
    found = beliefs()
    found.died(3, 10.0)
    found.saw(Glimpse(10.3, 1, DEAD, 3))
    found.saw(Glimpse(12.0, 2, DEAD, 3))
    assert (found.detections.percentile(0.5), found.detections.percentile(1.0)) == (0.31, 2.01)
    assert found.false_verdicts == 0


def test_one_mistake_that_travels_is_one_false_verdict() -> None:
    found = beliefs()
    found.saw(Glimpse(10.0, 1, DEAD, 3))
    found.saw(Glimpse(10.1, 2, DEAD, 3))
    assert found.false_verdicts == 1
    found.saw(Glimpse(15.0, 2, DEAD, 3))
    assert found.false_verdicts == 2


def test_who_stands_still_may_be_taken_for_dead() -> None:
    found = beliefs()
    found.silent(3, 5.0, 9.0)
    found.saw(Glimpse(7.0, 1, DEAD, 3))
    found.saw(Glimpse(9.4, 2, DEAD, 3))
    assert found.false_verdicts == 0
    found.saw(Glimpse(11.9, 2, DEAD, 3))
    assert found.false_verdicts == 1


def test_a_deaf_survivor_is_no_measure_of_detection() -> None:
    found = beliefs()
    found.silent(2, 9.0, 20.0)
    found.died(3, 10.0)
    found.saw(Glimpse(21.0, 2, DEAD, 3))
    assert len(found.detections) == 0


def test_agreement_is_the_last_change_of_mind() -> None:
    met = [Glimpse(1.0, 1, BORN, 2), Glimpse(1.5, 2, BORN, 1), Glimpse(2.0, 1, BORN, 3)]
    assert agreed_at(met, {1, 2})[1] != ""
    left = [*met, Glimpse(4.0, 1, LEFT, 3)]
    assert agreed_at(left, {1, 2}) == (4.0, "")


# ---------------------------------------------------------------- verdicts


def report(**figures: object) -> ChaosReport:
    made = ChaosReport("kill-one", 1, 4, True, "stealmesh chaos --seed 1")
    for name, value in figures.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("figure", ["lost", "duplicated", "wrong", "stuck"])
def test_loss_and_doubling_are_breaches_whatever_the_bounds(figure: str) -> None:
    made = report(**{figure: 1})
    made.judge(Bounds(), Measured())
    assert made.verdict == [f"{figure}: 1"]


def test_figures_are_held_against_their_bounds() -> None:
    bounds = Bounds(
        recovered_90_seconds=3.0, detection_p99_seconds=2.5, run_twice_share=0.25, growth_mib=16.0
    )
    good = report(
        recovered_90_s=3.0, detection_p99_s=2.5, accepted=100, run_twice=25, growth_mib=1.0
    )
    good.judge(bounds, Measured(recovery=True))
    assert good.verdict == "pass"
    bad = report(recovered_90_s=3.1, detection_p99_s=2.6, accepted=100, run_twice=26,
                 growth_mib=17.0, false_verdicts=1)  # fmt: skip
    bad.judge(bounds, Measured(recovery=True))
    kinds = [breach.partition(":")[0] for breach in bad.breaches]
    assert sorted(kinds) == [
        "detection_p99_s", "false_verdicts", "growth_mib", "recovered_90_s", "run_twice",
    ]  # fmt: skip


def test_what_never_came_back_is_a_breach_and_what_was_not_looked_for_is_none() -> None:
    bounds = Bounds(recovered_90_seconds=3.0)
    never, unknown = report(), report()
    never.judge(bounds, Measured(recovery=True))
    unknown.judge(bounds, Measured())
    assert never.breaches
    assert unknown.verdict == "pass"


def test_several_runs_are_summed_up_by_their_worst() -> None:
    one = report(lost=0, recovered_90_s=1.0)
    two = report(lost=2, recovered_90_s=0.5)
    two.judge(Bounds(), Measured())
    said = together([one, two], "again")
    assert (said["lost"], said["recovered_90_s"], said["replay"]) == (2, 1.0, "again")
    assert said["verdict"] == ["seed 1: lost: 2"]
    assert len(said["runs"]) == 2


def test_the_picture_is_well_formed_and_says_what_happened(tmp_path: Path) -> None:
    made = report(goodput_wanted=90.0)
    made.timeline = [(0.0, 100.0), (0.25, 20.0), (0.5, 95.0)]
    made.marks = [(0.2, "kill <3>")]
    plot.draw(made, str(tmp_path / "a.svg"))
    tree = ElementTree.parse(tmp_path / "a.svg")
    texts = ["".join(each.itertext()) for each in tree.iter() if each.tag.endswith("text")]
    assert any("kill <3>" in text for text in texts)
    assert "capacity of the survivors" in texts
    lines = [each for each in tree.iter() if each.tag.endswith("polyline")]
    assert len(lines[0].attrib["points"].split()) == 3


def test_a_reader_who_was_not_there_reads_what_happened_in_order(tmp_path: Path) -> None:
    """Faults, who noticed, who came back; the same news of many nodes is one line."""
    made = report(goodput_wanted=90.0, killed=1, recovered_90_s=0.4)
    made.began, made.marks, made.timeline = 1000.0, [(0.2, "kill <3>")], [(0.0, 9.0), (2.0, 9.0)]
    peers = [bytes([at]) * 16 for at in range(4)]

    def told(at: float, node: int, *entry: Any) -> None:
        entry_ = JournalEntry(len(made.found), at, *entry)
        made.found.append(Happening(1000.0 + at, 1000.0, f"n{node}", peers[node], entry_))

    told(0.3, 0, RingKind.CHUNK, "done", "square", b"job", b"", 0, 0, 4)
    told(0.4, 3, RingKind.CHUNK, "lost", "square", b"job", b"", 0, 4, 8)
    for node in range(3):
        told(0.5, node, RingKind.VERDICT, "is declared dead", "n3", b"", peers[3])
    told(0.6, 0, RingKind.LEASE, "fenced", "n3")
    told(1.1, 1, RingKind.MEMBER, "joined", "n3")
    told(1.2, 0, RingKind.STEAL, "gave", "n1", b"job", peers[1], -1, 0, 4, 0.0, 4)
    plot.draw(made, str(tmp_path / "a.html"))
    text = (tmp_path / "a.html").read_text()
    in_order = ("kill &lt;3&gt;</strong>", "n3 is declared dead", "lease of n3 fenced", "n3 joined")
    table = text[text.index("What was done") : text.index("Who did what")]
    places = [table.index(words) for words in in_order]
    assert places == sorted(places)
    assert table.count("is declared dead") == 1
    assert "n0 and 2 more" in table
    assert "stealmesh chaos --seed 1" in text
    assert "4 items changed hands" in text
    assert 'class="bad"' in text, "what was lost"
    assert "<script" not in text


def test_another_kind_of_picture_is_refused_with_the_remedy(tmp_path: Path) -> None:
    plot.check(str(tmp_path / "a.html"))
    with pytest.raises(plot.CannotDraw, match=r"\.svg"):
        plot.check(str(tmp_path / "a.png"))
    with pytest.raises(plot.CannotDraw, match="directory"):
        plot.check(str(tmp_path / "none" / "a.svg"))


def test_each_lack_counts_from_its_own_beginning() -> None:
    lack = Lack(13.0)
    told = [lack.seconds]
    for now, enough in ((13.1, False), (14.0, True), (31.0, False), (33.0, True)):
        lack.look(now, enough=enough)
        told.append(lack.seconds)
    assert told == [None, None, 1.0, None, 2.0]
    never = Lack(3.0)
    never.look(3.1, enough=True)
    assert never.seconds == 0.0


def test_a_virtual_run_has_the_journals_of_its_dead_too(tmp_path: Path) -> None:
    """The victim's own chunks are in the picture, which no real node has any more."""
    made = simulated.play(draw(Wanted("kill-one", 3, 4, 4.0)), "again", drawn=True)
    plot.draw(made, str(tmp_path / "a.html"))
    text = (tmp_path / "a.html").read_text()
    ran = {each.node for each in made.found if each.entry.kind == RingKind.CHUNK}
    (victim,) = [what.removeprefix("kill ") for _, what in made.marks]
    assert f"n{victim}" in ran
    assert len(ran) == 4
    assert f"n{victim} is declared dead" in text
