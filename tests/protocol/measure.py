"""What the codec and the values cost, in microseconds: ``python tests/protocol/measure.py``.

Prints figures and judges nothing; values.py quotes the second table.
"""

import array
import os
import pickle
import timeit
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from stealmesh_protocol import values
from stealmesh_protocol.codec import decode, encode
from stealmesh_protocol.messages import Beat, JobLoad, Message, Part, Report, Steal


def microseconds(action: Callable[[], Any]) -> float:
    timer = timeit.Timer(action)
    times = max(1, int(0.03 / max(1e-7, min(timer.repeat(3, 1)))))
    return min(timer.repeat(7, times)) / times * 1e6


def messages() -> None:
    job, items = bytes(20), pickle.dumps(list(range(5000, 5500)), 5)
    part = Part(1 << 32, 5000, 5500, 1, 0.0123)
    said: dict[str, Message] = {
        "REPORT, 500 items, 1.5 kB": Report(job, [part], [items]),
        "REPORT, 2 kB of noise": Report(job, [part], [os.urandom(2000)]),
        "REPORT, 4 kB (a frame of its own)": Report(job, [part], [os.urandom(4000)]),
        "BEAT, nothing held": Beat(3, 7, 1.5),
        "BEAT, two leases": Beat(3, 7, 1.5, [JobLoad(job, [1 << 32, 2 << 32])]),
        "STEAL": Steal(5, 2),
    }
    print(f"{'message':36}{'encode':>9}{'decode':>9}")
    for title, message in said.items():
        seq = 1 if message.CUSTODY else 0
        frames = encode(message, seq, 7)
        out = microseconds(partial(encode, message, seq, 7))
        back = microseconds(partial(decode, frames))
        print(f"{title:36}{out:9.2f}{back:9.2f}")


def lists() -> None:
    rows: dict[str, list[Any]] = {
        "500 small ints": list(range(5000, 5500)),
        "10,000 small ints": list(range(10_000)),
        "50,000 small ints": list(range(50_000)),
        "10,000 large ints": [2**61 + i for i in range(10_000)],
        "10,000 floats": [i * 0.37 for i in range(10_000)],
        "10,000 strings": [f"item-{i}" for i in range(10_000)],
    }
    print(f"\n{'list':20}{'look':>9}{'pickle':>18}{'msgspec':>18}{'array':>18}{'chosen':>18}")
    for title, items in rows.items():
        look = microseconds(partial(_look, items))
        print(f"{title:20}{look:9.0f}", *map(_pair, _ways(items)))


def _look(items: list[Any]) -> bool:
    return list(map(type, items)).count(type(items[0])) == len(items)


def _ways(items: list[Any]) -> list[tuple[Callable[[], Any], Callable[[], Any]]]:
    pickled, packed = pickle.dumps(items, 5), msgspec.msgpack.encode(items)
    codec, blob = values.pack_list(items)
    ways: list[tuple[Callable[[], Any], Callable[[], Any]]] = [
        (lambda: pickle.dumps(items, 5), lambda: pickle.loads(pickled)),
        (lambda: msgspec.msgpack.encode(items), lambda: msgspec.msgpack.decode(packed)),
    ]
    typecode = {int: "q", float: "d"}.get(type(items[0]))
    if typecode:
        raw = array.array(typecode, items).tobytes()
        ways.append(
            (
                lambda: array.array(typecode, items).tobytes(),
                lambda: array.array(typecode, raw).tolist(),
            )
        )
    else:
        ways.append((lambda: None, lambda: None))
    return [*ways, (lambda: values.pack_list(items), lambda: values.unpack_list(codec, blob))]


def _pair(way: tuple[Callable[[], Any], Callable[[], Any]]) -> str:
    return f"{microseconds(way[0]):9.0f} +{microseconds(way[1]):6.0f}"


if __name__ == "__main__":
    messages()
    lists()
