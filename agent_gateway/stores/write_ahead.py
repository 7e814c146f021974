"""How an SQLite file that several processes open at once gets its write-ahead log."""

from __future__ import annotations

import sqlite3
import time


def use_log(connection: sqlite3.Connection, within_s: float) -> None:
    """For another who is just making the same change SQLite does not wait by itself."""
    until = time.monotonic() + within_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(0.01)
