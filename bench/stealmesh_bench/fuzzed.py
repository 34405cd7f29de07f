"""Inputs for every door, guided by what they reach: ``python -m stealmesh_bench.fuzzed``.

Atheris (libFuzzer, after American Fuzzy Lop) keeps each input that reaches a new branch of our Python code and bends
those further. msgspec and LZ4 are C, so half of the changes are made by us, inside a message: a number at its bound, a
field gone or doubled, another kind under the same body, a body packed. Where Atheris is not installed the same changes
are made blindly, and it says so. `--keep` writes the smallest set of inputs with the same reach into the corpus that
the tests replay. Exit status 1 and the input in a file: a door let something out that it must not.
Refuses to know what may come out (`fuzz_doors`).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import CodeType, FrameType
from typing import Any

import lz4.block
import msgspec

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests/protocol/fuzz_corpus.bin"
INPUT_OCTETS_MAX = 4096
CORPUS_OCTETS_MAX = 200_000
SAID_SECONDS = 60.0
BENT_SHARE = 0.5
"""Of the changes: made inside a message; the others are libFuzzer's."""
HEADER_OCTETS = 28
INTS = (0, 1, 2, 127, 128, 255, 1 << 16, (1 << 31) - 1, 1 << 32, 1 << 48, (1 << 62), (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -1, -(1 << 63))  # fmt: skip
OTHERS: tuple[Any, ...] = (
    None, True, 0.0, -1.0, 1e300, float("nan"), float("inf"), "", "x" * 99, b"", bytes(16), bytes(20), [], {}, [[]]
)  # fmt: skip


def inputs_of(file: Path = CORPUS) -> list[bytes]:
    """The corpus: LZ4 over msgpack over the inputs."""
    if not file.exists():
        return []
    told: list[bytes] = msgspec.msgpack.decode(
        lz4.block.decompress(file.read_bytes()), type=list[bytes]
    )
    return told


def keep(inputs: list[bytes], file: Path = CORPUS) -> int:
    """Writes them, the shortest first, as far as there is room. Returns how many."""
    kept, octets = list[bytes](), 0
    for each in sorted(set(inputs), key=lambda told: (len(told), told)):
        octets += len(each)
        if octets > 2 * CORPUS_OCTETS_MAX:
            break
        kept.append(each)
    while (
        len(packed := lz4.block.compress(msgspec.msgpack.encode(kept), mode="high_compression"))
        > CORPUS_OCTETS_MAX
    ):
        kept = kept[: len(kept) * 9 // 10]
    file.write_bytes(packed)
    return len(kept)


def seeds() -> list[bytes]:
    """The examples of SPEC.md, each alone and each behind the one before it; and one input for each other door."""
    from stealmesh_bench import fuzz_doors as doors

    spec = (ROOT / "protocol/SPEC.md").read_text()
    told, before = list[bytes](), list[list[bytes]]()
    for block in re.split(r"\n\n+", spec):
        frames = [
            bytes.fromhex(each) for each in re.findall(r"^frame ([0-9a-f]+)$", block, re.MULTILINE)
        ]
        if frames:
            before = [*before[-1:], frames]
            told += (b"\0" + doors.as_octets([frames]), b"\0" + doors.as_octets(before))
    for door in range(1, len(doors.DOORS)):
        told += (bytes([door]), bytes([door]) + b"\x01\x93\x01\xa1x\xc4\x01y")
    told.append(b"\6" + b'{"peers": [["tcp://10.0.0.1:7077", 1700000000.5]]}')
    return [each for each in told if len(each) <= INPUT_OCTETS_MAX]


# ---------------------------------------------------------------- changes inside a message


def bent(octets: bytes, rng: Random) -> bytes:
    """The same input with one message of it changed."""
    from stealmesh_bench import fuzz_doors as doors

    if not octets or octets[0] % len(doors.DOORS):
        return octets[:1] + _bent_body(octets[1:], rng)
    told = doors.multiparts_in(octets[1:])
    if not told:
        return octets
    at, luck = rng.randrange(len(told)), rng.random()
    if luck < 0.08:
        told.insert(at, told[at])
    elif luck < 0.16:
        told.append(told.pop(at))
    elif luck < 0.22 and len(told) > 1:
        del told[at]
    elif told[at]:
        told[at] = _bent_frames(list(told[at]), rng)
    return b"\0" + doors.as_octets(told)


def _bent_frames(frames: list[bytes], rng: Random) -> list[bytes]:
    luck, first = rng.random(), frames[0]
    if luck < 0.1:
        frames.insert(rng.randrange(len(frames) + 1), rng.choice((b"", first, rng.randbytes(40))))
    elif luck < 0.15 and len(frames) > 1:
        frames.pop(rng.randrange(len(frames)))
    elif len(first) < HEADER_OCTETS:
        frames[0] = first + bytes(HEADER_OCTETS - len(first))
    elif luck < 0.3:
        frames[0] = _bent_header(bytearray(first), rng)
    else:
        frames[0] = _bent_first(first, rng)
    return frames


def _bent_header(head: bytearray, rng: Random) -> bytes:
    at, size = rng.choice(((3, 1), (4, 2), (6, 2), (8, 8), (16, 8), (24, 4)))
    value = rng.choice((*INTS[:-2], rng.getrandbits(8), rng.randrange(100)))
    head[at : at + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "big")
    return bytes(head)


def _bent_first(first: bytes, rng: Random) -> bytes:
    """Another body, and a header that fits it."""
    flags, entries = int.from_bytes(first[4:6], "big"), int.from_bytes(first[6:8], "big")
    begin = HEADER_OCTETS + 7 * min(entries, 500)
    body = first[begin:]
    if flags & 1:
        try:
            body = lz4.block.decompress(body, uncompressed_size=1 << 16)
        except (lz4.block.LZ4BlockError, ValueError):
            body = b"\x90"
    body, flags = _bent_body(body, rng), flags & 0xFFFE
    octets = len(body)
    if rng.random() < 0.1:
        body, flags = lz4.block.compress(body, store_size=False), flags | 1
    head = first[:4] + flags.to_bytes(2, "big") + first[6:24] + octets.to_bytes(4, "big")
    return head + first[HEADER_OCTETS:begin] + body


def _bent_body(body: bytes, rng: Random) -> bytes:
    try:
        return msgspec.msgpack.encode(_other(msgspec.msgpack.decode(body), rng))
    except (ValueError, TypeError, OverflowError, RecursionError):
        at = rng.randrange(len(body) + 1)
        return body[:at] + rng.randbytes(rng.randrange(4)) + body[at + rng.randrange(3) :]


def _other(value: Any, rng: Random) -> Any:
    if isinstance(value, list) and value and rng.random() < 0.9:
        at, luck = rng.randrange(len(value)), rng.random()
        if luck < 0.75:
            value[at] = _other(value[at], rng)
        elif luck < 0.8:
            del value[at]
        elif luck < 0.88:
            value.insert(at, value[at])
        elif luck < 0.94:
            value[at] = rng.choice(value)
        else:
            value *= rng.choice((2, 2, 20))
        return value
    if isinstance(value, int) and rng.random() < 0.8:
        return rng.choice((*INTS, value + 1, value - 1, value * 2, rng.getrandbits(64)))
    if isinstance(value, bytes | str) and value and rng.random() < 0.6:
        at = rng.randrange(len(value))
        return rng.choice((value[:at], value[at:], 2 * value))
    return rng.choice((*OTHERS, *INTS))


# ---------------------------------------------------------------- the two ways to run


class FuzzRun:
    """Counts, says how it goes, and ends after this number of messages or minutes."""

    def __init__(self, messages: int, minutes: float) -> None:
        self.told: Counter[str] = Counter()
        self._messages, self._begun = messages, time.monotonic()
        self._until = self._begun + 60 * minutes
        self._said_at = self._begun

    def one(self, octets: bytes) -> None:
        from stealmesh_bench.fuzz_doors import come_in

        come_in(octets, self.told)
        if self.told["inputs"] % 256 == 0 and time.monotonic() > self._said_at + SAID_SECONDS:
            self.say()

    def is_over(self) -> bool:
        return self.told["messages"] >= self._messages or time.monotonic() > self._until

    def say(self) -> None:
        self._said_at = time.monotonic()
        figures = ", ".join(f"{count} {name}" for name, count in self.told.items())
        print(f"{self._said_at - self._begun:.0f} s: {figures}", flush=True)


def blind(run: FuzzRun, inputs: list[bytes], seed: int) -> None:
    """Bends inputs of the corpus without a guide."""
    rng = Random(seed)
    while not run.is_over():
        octets = rng.choice(inputs)
        for _ in range(rng.choice((1, 1, 2, 3))):
            octets = bent(octets, rng)
        try:
            run.one(octets)
        except Exception:
            Path("escaped.bin").write_bytes(octets)
            raise


def guided(
    atheris: Any, run: FuzzRun, place: Path, rest: list[str], end: Callable[[], None]
) -> None:
    """Never returns: libFuzzer keeps the process for itself. `end` is called when it is over."""

    def one(octets: bytes) -> None:
        run.one(octets)
        if run.is_over():
            run.say()
            end()
            os._exit(0)

    def change(octets: bytes, octets_max: int, seed: int) -> bytes:
        rng = Random(seed)
        if rng.random() < BENT_SHARE:
            made = bent(octets, rng)
            if len(made) <= octets_max:
                return made
        return bytes(atheris.Mutate(octets, octets_max))

    atheris.Setup([sys.argv[0], *rest, str(place)], one, custom_mutator=change)
    atheris.Fuzz()


def _atheris() -> Any:
    try:
        import atheris
    except ImportError:
        return None
    with atheris.instrument_imports(include=["stealmesh", "stealmesh_protocol"]):
        import stealmesh_bench.fuzz_doors  # noqa: F401
    return atheris


Arc = tuple[CodeType, int, int]


def reached(octets: bytes) -> set[Arc]:
    """The steps from line to line that this input makes in our code."""
    from stealmesh_bench.fuzz_doors import come_in

    arcs: set[Arc] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        code, before = frame.f_code, frame.f_lineno
        if "stealmesh" not in code.co_filename:
            return None

        def line(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal before
            arcs.add((code, before, frame.f_lineno))
            before = frame.f_lineno
            return line

        return line

    sys.settrace(trace)
    try:
        come_in(octets, Counter())
    finally:
        sys.settrace(None)
    return arcs


def smallest(inputs: list[bytes]) -> list[bytes]:
    """Of these the shortest that reach each step."""
    known: set[Arc] = set()
    kept = []
    for each in sorted(set(inputs), key=lambda told: (len(told), told)):
        arcs = reached(each)
        if not arcs <= known:
            known |= arcs
            kept.append(each)
    return kept


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m stealmesh_bench.fuzzed", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000_000, help="end after as many")
    parser.add_argument("--minutes", type=float, default=10.0, help="or after this time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--place", type=Path, help="a directory for the inputs that reached something new"
    )
    parser.add_argument(
        "--keep", action="store_true", help="only write what is in --place into the corpus"
    )
    options = parser.parse_args(arguments)
    if options.keep:
        found = [each.read_bytes() for each in options.place.iterdir()]
        print(f"{keep(smallest([*found, *inputs_of()]))} inputs kept in {CORPUS}")
        return 0
    run, guide = FuzzRun(options.messages, options.minutes), _atheris()
    inputs = [*seeds(), *inputs_of()]
    if guide is None:
        print("no guide: install Atheris (pip install '.[fuzz]') for one", flush=True)
        blind(run, inputs, options.seed)
        run.say()
        return 0
    place = options.place or Path(tempfile.mkdtemp(prefix="stealmesh-fuzz-"))
    place.mkdir(parents=True, exist_ok=True)
    for number, each in enumerate(inputs):
        (place / f"seed{number}").write_bytes(each)
    rest = [
        f"-max_len={INPUT_OCTETS_MAX}",
        f"-seed={options.seed}",
        "-timeout=60",
        f"-artifact_prefix={Path.cwd()}/",
    ]
    guided(guide, run, place, rest, lambda: None if options.place else shutil.rmtree(place))
    return 0


if __name__ == "__main__":
    sys.exit(main())
