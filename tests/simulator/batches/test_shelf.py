"""Files are there for their own key until they expire, are deleted, or make room for others."""

from __future__ import annotations

import pytest

from agent_gateway.simulator.batches import shelf as module
from agent_gateway.simulator.batches.shelf import File, Shelf


def file(file_id: str, key: str = "k", size: int = 1, expires_at: float | None = None) -> File:
    return File(file_id, key, "name", "batch", 0, expires_at, b"x" * size)


def test_files_are_of_their_key_and_expire() -> None:
    shelf = Shelf()
    shelf.put(file("a", expires_at=10))
    shelf.put(file("b"))
    shelf.put(file("c", key="other"))
    assert [found.id for found in shelf.of_key("k", 9)] == ["b", "a"]
    assert shelf.find("other", "a", 9) is None
    assert shelf.find("k", "a", 10) is None
    shelf.drop("other", "b")
    assert shelf.find("k", "b", 10)
    shelf.drop("k", "b")
    assert [*shelf.of_key("k", 10)] == []


def test_the_oldest_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES_MAX", 10)
    shelf = Shelf()
    for name, size in (("a", 4), ("b", 4), ("c", 4), ("d", 20)):
        shelf.put(file(name, size=size))
        kept = [found.id for found in shelf.of_key("k", 0)]
        assert kept == {"a": ["a"], "b": ["b", "a"], "c": ["c", "b"], "d": ["d"]}[name]
