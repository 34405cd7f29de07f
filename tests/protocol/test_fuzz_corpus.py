"""Inputs that a guided fuzzer found to reach different code: each door lets out what it promises, and nothing else."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from stealmesh_bench import fuzz_doors, fuzzed
from stealmesh_bench.fuzz_doors import DOORS, come_in
from stealmesh_protocol import codec
from stealmesh_protocol.messages import MESSAGES


def test_the_corpus_comes_in_by_every_door_and_nothing_escapes() -> None:
    told: Counter[str] = Counter()
    inputs = fuzzed.inputs_of()
    for each in [*fuzzed.seeds(), *inputs]:
        come_in(each, told)
    assert len(inputs) > 100
    assert told["let in"] > 100
    assert {each[0] % len(DOORS) for each in inputs if each} == set(range(len(DOORS)))
    assert fuzzed.CORPUS.stat().st_size <= fuzzed.CORPUS_OCTETS_MAX


def test_there_is_an_example_of_every_kind() -> None:
    heard: set[int] = set()
    for each in fuzzed.seeds():
        if each[0] == 0:
            for frames in fuzz_doors.multiparts_in(each[1:]):
                heard |= {frame[codec.KIND_AT] for frame in frames[:1] if frame}
    assert set(MESSAGES) <= heard


def test_some_of_what_is_bent_is_let_in_and_most_is_not() -> None:
    rng, told = Random(1), Counter[str]()
    inputs = [*fuzzed.seeds(), *fuzzed.inputs_of()]
    for _ in range(2000):
        come_in(fuzzed.bent(rng.choice(inputs), rng), told)
    assert 0 < told["let in"] < told["messages"]


def test_what_escapes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the tests above would show nothing."""
    monkeypatch.setattr(codec, "_decompress", lambda *_, **__: 1 // 0)
    packed = [frames for each in fuzzed.seeds() for frames in _packed(each)]
    with pytest.raises(ZeroDivisionError):
        come_in(b"\0" + fuzz_doors.as_octets(packed), Counter())


def _packed(octets: bytes) -> list[list[bytes]]:
    """The same multiparts, each flagged as packed."""
    told = fuzz_doors.multiparts_in(octets[1:])
    return [[f[0][:5] + b"\1" + f[0][6:], *f[1:]] if f and len(f[0]) > 6 else f for f in told]
