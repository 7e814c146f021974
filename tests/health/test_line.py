"""Who is next."""

from __future__ import annotations

import pytest

from agent_gateway.health.line import BATCH_EVERY, Line, Place

BOUND = 5


def served(line: Line, places: dict[str, Place], count: int) -> list[str]:
    """Who gets the next slots, one after the other."""
    order = []
    for _ in range(count):
        line.call(1)
        name = next(name for name, place in places.items() if place._called.is_set())
        line.leave(places[name], served=True)
        places.pop(name)
        order.append(name)
    return order


def standing(line: Line, *names: str, bound: int = 100) -> dict[str, Place]:
    """`b…` is of a batch, `r…` returns."""
    places = {name: Place(batch=name.startswith("b"), returns=name.startswith("r")) for name in names}
    assert all(line.join(place, bound) for place in places.values())
    return places


def test_interactive_before_batch_each_in_the_order_of_arrival() -> None:
    line = Line()
    assert served(line, standing(line, "b1", "i1", "b2", "i2"), 4) == ["i1", "i2", "b1", "b2"]
    assert len(line) == 0


def test_while_both_wait_one_in_so_many_is_of_a_batch() -> None:
    line = Line()
    names = [f"i{number}" for number in range(20)]
    order = served(line, standing(line, "b1", "b2", *names), 17)
    assert [order.index("b1"), order.index("b2")] == [BATCH_EVERY - 1, 2 * BATCH_EVERY - 1]
    assert [name for name in order if name[0] == "i"] == names[:15]


def test_who_returns_came_first() -> None:
    line = Line()
    assert served(line, standing(line, "i1", "i2", "r1"), 3) == ["r1", "i1", "i2"]


def test_it_is_as_long_as_its_bound() -> None:
    line = Line()
    standing(line, "i1", "i2", "i3", "i4", "i5", bound=BOUND)
    assert not line.join(Place(batch=False), BOUND)
    assert not line.join(Place(batch=True), BOUND)
    assert not Line().join(Place(batch=False), 0)
    assert len(line) == BOUND


@pytest.mark.parametrize(
    ("there", "comes", "gone"),
    [
        (("b1", "b2", "i1", "i2", "i3"), Place(batch=False), "b2"),
        (("i1", "i2", "i3", "i4", "i5"), Place(batch=False, returns=True), "i5"),
        (("b1", "b2", "b3", "b4", "b5"), Place(batch=True, returns=True), "b5"),
        (("b1", "b2", "b3", "b4", "b5"), Place(batch=True), None),
        (("i1", "i2", "i3", "i4", "i5"), Place(batch=True, returns=True), None),
        (("r1", "r2", "r3", "r4", "r5"), Place(batch=False, returns=True), None),
    ],
    ids=["batch yields", "the latest yields", "the latest batch yields", "batch to batch", "not to a batch", "nobody came later"],
)
def test_in_a_full_line_the_one_who_would_be_served_last_makes_way(there: tuple[str, ...], comes: Place, gone: str | None) -> None:
    line = Line()
    places = standing(line, *there, bound=BOUND)
    assert line.join(comes, BOUND) == (gone is not None)
    assert [name for name, place in places.items() if place.displaced] == ([gone] if gone else [])
    assert len(line) == BOUND


def test_ahead_are_those_of_the_better_class_and_those_who_came_before() -> None:
    line = Line()
    standing(line, "b1", "b2", "i1")
    assert line.ahead_of(Place(batch=False)) == 1
    assert line.ahead_of(Place(batch=True)) == 3
    assert line.ahead_of(Place(batch=False, returns=True)) == 0
    assert line.ahead_of(Place(batch=True, returns=True)) == 1


def test_leaving_twice_is_leaving_once() -> None:
    line = Line()
    [place] = standing(line, "i1").values()
    line.leave(place, served=False)
    line.leave(place, served=False)
    assert len(line) == 0
