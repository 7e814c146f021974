"""Requests that wait for room at one deployment: interactive ones before those of batches, each class in the order of arrival.

Promise: a line never grows beyond its bound, and who leaves it holds nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain, islice

#: While both classes wait, every so many-th that is served is of a batch.
BATCH_EVERY = 8


class Place:
    """One request's, in the lines of all deployments that it may go to."""

    __slots__ = ("_called", "batch", "displaced", "returns")

    def __init__(self, *, batch: bool, returns: bool = False) -> None:
        self.batch = batch
        #: A call of it has been made and has failed: it came before those who wait.
        self.returns = returns
        #: It had to make way, and is not to wait any longer.
        self.displaced = False
        self._called = asyncio.Event()

    async def called(self) -> None:
        """Until it is worth looking whether there is room."""
        await self._called.wait()
        self._called.clear()

    def call(self) -> None:
        self._called.set()


class Line:
    """A place that was called stays in it until its request takes the slot, or gives up."""

    __slots__ = ("_batch", "_interactive", "_served_before_batch")

    def __init__(self) -> None:
        self._interactive: OrderedDict[Place, None] = OrderedDict()
        self._batch: OrderedDict[Place, None] = OrderedDict()
        self._served_before_batch = 0

    def __len__(self) -> int:
        return len(self._interactive) + len(self._batch)

    def ahead_of(self, place: Place) -> int:
        """How many it would stand behind."""
        before = len(self._interactive) if place.batch else 0
        return before if place.returns else before + len(self._of_class(place))

    def join(self, place: Place, bound: int) -> bool:
        """False where the line is full, and nobody in it has to make way: one of a batch, or one that came later."""
        if len(self) >= bound and not self._make_way_for(place):
            return False
        line = self._of_class(place)
        line[place] = None
        if place.returns:
            line.move_to_end(place, last=False)
        return True

    def leave(self, place: Place, *, served: bool) -> None:
        self._of_class(place).pop(place, None)
        if served:
            self._served_before_batch = 0 if place.batch or not self._batch else self._served_before_batch + 1

    def call(self, count: int) -> None:
        """The first `count`."""
        for place in islice(self._in_order(), count):
            place.call()

    def _of_class(self, place: Place) -> OrderedDict[Place, None]:
        return self._batch if place.batch else self._interactive

    def _make_way_for(self, place: Place) -> bool:
        last = next(reversed(self._batch or self._interactive), None)
        if last is None:
            return False
        came_later = place.returns and not last.returns
        if last.batch < place.batch or (last.batch == place.batch and not came_later):
            return False
        self.leave(last, served=False)
        last.displaced = True
        last.call()
        return True

    def _in_order(self) -> Iterator[Place]:
        if self._served_before_batch >= BATCH_EVERY - 1:
            return chain(islice(self._batch, 1), self._interactive, islice(self._batch, 1, None))
        return chain(self._interactive, self._batch)
