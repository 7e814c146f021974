"""The sink that writes records as lines of JSON, to a file or to the standard output, for whoever collects logs.

Promise: a line is written whole and once, also where the disk was full for a while.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from agent_gateway.record.base import SinkSettings, Tools
from agent_gateway.record.json_line import json_line
from agent_gateway.record.row import Record
from agent_gateway.record.shipping import Shipping, gently

STANDARD_OUTPUT = "-"
STDOUT_FILENO = 1


class JsonlSettings(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: str = "jsonl"
    #: `-`: the standard output.
    path: Annotated[str, Meta(min_length=1)] = STANDARD_OUTPUT

    def __post_init__(self) -> None:
        if Path(self.path).is_dir():
            raise ValueError(f"path: {self.path} is a folder; name a file in it")


class JsonlSink(Shipping):
    """The file may be moved away at any time (logrotate): a new one is begun then. It is readable for its owner only."""

    Settings = JsonlSettings

    def __init__(self, settings: JsonlSettings, tools: Tools) -> None:
        super().__init__(settings.title, tools.clock)
        self._path = None if settings.path == STANDARD_OUTPUT else Path(settings.path)
        self._file: int | None = None
        #: Of the batch that is being written; None: it has not begun.
        self._left: memoryview | None = None

    def ship(self, records: list[Record]) -> int:
        if self._left is None:
            self._left = memoryview(b"".join([json_line(record) for record in gently(records)]))
            self._follow()
        file = self._open()
        while self._left:  # after a failure, the rest of a line goes where its beginning is
            self._left = self._left[os.write(file, self._left) :]
        self._left = None
        return len(records)

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def _follow(self) -> None:
        """Lets go of a file that is not at its path any more."""
        if self._file is None or self._path is None:
            return
        try:
            moved = not os.path.samestat(os.fstat(self._file), self._path.stat())
        except FileNotFoundError:
            moved = True
        if moved:
            self.release()

    def _open(self) -> int:
        if self._path is None:
            return STDOUT_FILENO
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            if self._left is not None and _is_torn(file):  # whoever wrote there last died over it
                self._left = memoryview(b"\n" + bytes(self._left))
        return self._file


def _is_torn(file: int) -> bool:
    """Whether the file's last line has no end."""
    about = os.fstat(file)
    return stat.S_ISREG(about.st_mode) and about.st_size > 0 and os.pread(file, 1, about.st_size - 1) != b"\n"
