"""What a job needs is asked for once a node: its functions, and the bundle of its program's modules."""

from __future__ import annotations

from stealmesh_engine.base.counters import Counters
from stealmesh_engine.base.functions import ShippedFunctions, needed
from stealmesh_engine.config import Config
from stealmesh_protocol.ids import digest_of, job_id
from stealmesh_protocol.messages import FnPut, JobKind, JobSpec

OWNER = b"o" * 16
FUNCTION, CODE = b"a function", b"its modules"


def spec(number: int, function: bytes = FUNCTION, code: bytes = CODE) -> JobSpec:
    return JobSpec(
        job_id(OWNER, number), JobKind.MAP, OWNER, "job", digest_of(function),
        code=digest_of(code) if code else b"",
    )  # fmt: skip


def came(functions: ShippedFunctions, blob: bytes) -> bool:
    return functions.came(FnPut(digest_of(blob), [blob]))


def test_a_job_waits_for_its_modules_as_for_its_function() -> None:
    functions = ShippedFunctions(Config(), Counters())
    first = spec(1)
    assert functions.want(first, 0.0) == [digest_of(FUNCTION), digest_of(CODE)]
    assert came(functions, FUNCTION)
    assert functions.lacks(first)
    assert came(functions, CODE)
    assert not functions.lacks(first)
    assert functions.of(first) == [FUNCTION, CODE]


def test_the_next_job_of_the_program_asks_for_its_function_only() -> None:
    """Also when the first one is over: one upload a node."""
    functions = ShippedFunctions(Config(), Counters())
    functions.want(spec(1), 0.0)
    assert came(functions, FUNCTION)
    assert came(functions, CODE)
    functions.tidy([])
    assert functions.want(spec(2, b"another"), 1.0) == [digest_of(b"another")]


def test_forged_modules_are_refused() -> None:
    counters = Counters()
    functions = ShippedFunctions(Config(), counters)
    functions.want(spec(1), 0.0)
    assert not functions.came(FnPut(digest_of(CODE), [b"other modules"]))
    assert counters == {"functions-forged": 1}
    assert functions.lacks(spec(1))


def test_a_job_without_modules() -> None:
    assert needed(spec(1, code=b"")) == (digest_of(FUNCTION),)


def test_a_large_bundle_stays_for_the_next_job_of_its_program() -> None:
    """Only the latest, and it costs no function its place."""
    functions = ShippedFunctions(Config(functions_octets_max=100), Counters())
    for number, code in enumerate([b"old" * 1000, b"new" * 1000]):
        functions.want(spec(number, code=code), float(number))
        came(functions, FUNCTION)
        came(functions, code)
    functions.tidy([])
    assert functions.want(spec(3, code=b"new" * 1000), 3.0) == []
    assert set(functions.blobs) == {digest_of(FUNCTION), digest_of(b"new" * 1000)}
