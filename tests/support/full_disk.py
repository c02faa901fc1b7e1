"""A disk without space: the log's file may not grow, or only by some pages. SQLite itself says that it is full."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from recdistill.stream.embedded import tables


def full_after(pages: int) -> Callable[..., sqlite3.Connection]:
    """What opens a log's file that may grow by so many pages; it takes the place of `tables.connect`."""
    connect: Callable[..., sqlite3.Connection] = tables.connect

    def full(*args: Any) -> sqlite3.Connection:
        connection = connect(*args)
        there = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {there + pages}")
        return connection

    return full
