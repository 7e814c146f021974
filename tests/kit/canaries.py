"""Secrets planted where the gateway has to handle some, and a search of everything it leaves behind: none may come out again."""

from __future__ import annotations

import base64
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

_MARK = "canary"


class Canaries:
    """Secrets by what they are. Each is unlike everything else, so that finding one is never chance."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}

    def plant(self, name: str) -> str:
        """A new secret; letters, digits and hyphens, as providers make their keys."""
        return self.add(name, f"sk-{_MARK}-{name.replace(' ', '-')}-{len(self.secrets):04d}-0123456789abcdef")

    def add(self, name: str, secret: str) -> str:
        """One that somebody else made up: a key of the gateway's own, say."""
        self.secrets[name] = secret
        return secret

    def found_in(self, places: Mapping[str, bytes]) -> list[str]:
        """`secret in place`, for each that is there, as it is or in a dress that a reader would see through."""
        return [
            f"{name} in {place}"
            for place, content in places.items()
            for name, secret in self.secrets.items()
            if any(spelling in content for spelling in _spellings(secret))
        ]


def left_in(folder: Path, *, but: tuple[Path, ...] = ()) -> dict[str, bytes]:
    """Every file's bytes, and of SQLite's files what is packed in their rows."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file not in but]
    places = {str(file.relative_to(folder)): file.read_bytes() for file in files}
    for file in files:
        if file.suffix == ".db":
            places[f"the rows of {file.name}"] = b"\n".join(_unpacked(file))
    return places


def _spellings(secret: str) -> Iterator[bytes]:
    plain = secret.encode()
    yield plain
    yield plain[len(plain) // 2 :]  # the half that is not a prefix which may be shown
    yield quote(secret, safe="").encode()
    yield secret.encode("utf-16-le")
    for cut in range(3):  # it may begin anywhere in what is encoded
        yield base64.b64encode(plain[cut:])[:-4]


def _unpacked(file: Path) -> Iterator[bytes]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)) as database:
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            for row in database.execute(f'select * from "{table}"'):
                yield from (value for cell in row if isinstance(cell, bytes) and (value := _inflated(cell)))


def _inflated(cell: bytes) -> bytes:
    try:
        return zlib.decompressobj(47).decompress(cell)
    except zlib.error:
        return b""
