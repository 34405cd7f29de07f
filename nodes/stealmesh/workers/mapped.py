"""The values that came with orders, for as long as these run.

Decides that each item gets a value in a private map of its own: a task may change what it was given. Refuses to
know which item needs what: names in pickles ask here (`stealmesh.refs`).
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

from stealmesh_protocol.ids import ValueId


class MappedValues:
    """Descriptors of the values that orders here need, by name. Orders may run side by side."""

    def __init__(self) -> None:
        self._descriptors: dict[ValueId, int] = {}
        self._orders: Counter[ValueId] = Counter()
        """How many orders need each."""
        self._lock = threading.Lock()
        self._known = False

    def begin(self, values: Sequence[ValueId], descriptors: list[int]) -> None:
        assert len(values) == len(descriptors), "a descriptor is lost"
        if not self._known:
            from stealmesh import refs

            refs.find_with(self)
            self._known = True
        with self._lock:
            for value, descriptor in zip(values, descriptors, strict=True):
                self._orders[value] += 1
                if self._descriptors.setdefault(value, descriptor) != descriptor:
                    os.close(descriptor)  # an order beside this one has brought it

    def open(self, value: ValueId, place: int | None) -> Any:
        from stealmesh.values.parts import opened

        return opened(self.octets_of(value, place))

    def octets_of(self, value: ValueId, place: int | None) -> memoryview:
        from stealmesh.values.parts import private

        descriptor = self._descriptors[value]
        return private(descriptor, os.fstat(descriptor).st_size, place)

    def end(self, values: Sequence[ValueId]) -> None:
        """The order with these is done. What its tasks have kept of the values stays mapped."""
        with self._lock:
            for value in values:
                self._orders[value] -= 1
                if not self._orders[value]:
                    del self._orders[value]
                    os.close(self._descriptors.pop(value))


HERE = MappedValues()
