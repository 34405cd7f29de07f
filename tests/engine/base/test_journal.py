"""The story tells what happened, about what, and forgets the oldest first."""

from __future__ import annotations

from stealmesh_engine.base.journal import Journal
from stealmesh_protocol.ids import child_lease, granted_lease, job_id

JOB, OTHER = job_id(b"a" * 16, 1), job_id(b"b" * 16, 2)


def test_a_story_can_be_read_by_job_and_lease() -> None:
    story = Journal(10)
    story.tell(1.0, "opened", JOB)
    story.tell(2.0, "granted", JOB, granted_lease(1), b"n" * 16)
    story.tell(3.0, "granted", JOB, granted_lease(2), b"n" * 16)
    story.tell(4.0, "opened", OTHER)
    assert len(story.of()) == 4
    assert len(story.of(JOB)) == 3
    (line,) = story.of(JOB, granted_lease(2))
    assert line == "    3.000000 granted job 00000001 lease 2.0 6e6e6e6e"


def test_parts_of_a_lease_have_its_number() -> None:
    story = Journal(10)
    story.tell(1.0, "received", JOB, child_lease(granted_lease(3), 7), (0, 5))
    assert story.of() == ["    1.000000 received job 00000001 lease 3.7 (0, 5)"]


def test_lines_without_a_job_or_detail() -> None:
    story = Journal(10)
    story.tell(12.5, "was late")
    assert story.of() == ["   12.500000 was late"]
    assert story.of(JOB) == []


def test_the_oldest_lines_go_first_and_are_counted() -> None:
    story = Journal(3)
    for n in range(10):
        story.tell(float(n), f"line {n}")
    assert [line.split()[-1] for line in story.of()] == ["7", "8", "9"]
    assert story.told == 10
