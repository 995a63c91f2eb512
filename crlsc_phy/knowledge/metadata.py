"""What is known of the entries of a shard, in an SQLite file that is written once."""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from crlsc_phy.errors import KnowledgeBaseError, safe_text
from crlsc_phy.knowledge.base import Entry

__all__ = ["EntryTable", "write_entries"]

COLUMNS = ("name", "label", "source", "licence", "caption", "path", "thumbnail", "origin")
# SQLite takes at least so many values in one question.
_AT_A_TIME = 900


def write_entries(path: Path, entries: Iterable[Entry]) -> None:
    """Write a table of entries, numbered from 0."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # A file that is not whole is never looked at; it is synced when it is.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        connection.execute(
            "CREATE TABLE entries (row INTEGER PRIMARY KEY, name TEXT NOT NULL, label TEXT NOT NULL,"
            " source TEXT NOT NULL, licence TEXT NOT NULL, caption TEXT NOT NULL, path TEXT NOT NULL,"
            " thumbnail BLOB NOT NULL, origin TEXT NOT NULL)"
        )
        marks = ", ".join("?" * (len(COLUMNS) + 1))
        connection.executemany(
            f"INSERT INTO entries VALUES ({marks})",
            ((row, *(getattr(entry, column) for column in COLUMNS)) for row, entry in enumerate(entries)),
        )
        connection.execute("CREATE UNIQUE INDEX names ON entries (name)")
        connection.execute("CREATE INDEX labels ON entries (label)")
        connection.execute("COMMIT")
    except UnicodeEncodeError as error:
        raise KnowledgeBaseError(
            f"an entry has the text {error.object[:80]!r}, which is not valid Unicode; "
            "escape it with crlsc_phy.errors.safe_text"
        ) from None
    except sqlite3.IntegrityError:
        raise KnowledgeBaseError("two entries share a name, or one has none") from None
    except sqlite3.OperationalError as error:
        full = "full" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from None
    finally:
        connection.close()


class EntryTable:
    """A table of entries, read by any thread.

    Args:
        path: The file; its hash has been checked.
        count: Entries it must have.
    """

    def __init__(self, path: Path, count: int) -> None:
        self._path, self._count = path, count
        self._lock = threading.Lock()
        try:
            # Immutable: no locks and no journal, also on a medium that cannot be written.
            self._connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
            )
            self._connection.execute("PRAGMA trusted_schema = OFF")
            self._connection.execute("PRAGMA query_only = ON")
            last = self._ask("SELECT max(row) FROM entries")[0][0]
        except sqlite3.Error as error:
            raise KnowledgeBaseError(f"{path}: no table of entries ({error})") from None
        if (-1 if last is None else last) != count - 1:
            raise KnowledgeBaseError(f"{path}: has another number of entries than {count}")

    def _ask(self, question: str, values: Sequence[object] = ()) -> list[Any]:
        try:
            with self._lock:
                return self._connection.execute(question, values).fetchall()
        except sqlite3.Error as error:
            raise KnowledgeBaseError(f"{self._path}: cannot be read ({error})") from None

    def named(self, rows: Sequence[int]) -> dict[int, tuple[str, str]]:
        """Name and label of rows."""
        found = {row: (name, label) for row, name, label in self._in("row", rows, "row, name, label")}
        if len(found) < len(set(rows)):
            raise self._gap()
        return found

    def entry(self, row: int) -> Entry:
        """All that is known of a row."""
        found = self._ask(f"SELECT {', '.join(COLUMNS)} FROM entries WHERE row = ?", (row,))
        if not found:
            raise self._gap()
        return Entry(*found[0])

    def _gap(self) -> KnowledgeBaseError:
        # Not looked for at opening, which would have to count all rows.
        return KnowledgeBaseError(f"{self._path}: lacks some of its {self._count} entries")

    def rows(self, names: Sequence[str]) -> dict[str, int]:
        """The rows of those of ``names`` that are there."""
        # What is not valid Unicode is no name here, and SQLite would not take it.
        return dict(self._in("name", [name for name in names if safe_text(name) == name], "name, row"))

    def labelled(self, label: str) -> list[int]:
        """The rows with a label."""
        return [
            row for (row,) in self._ask("SELECT row FROM entries WHERE label = ? ORDER BY row", (safe_text(label),))
        ]

    def _in(self, column: str, values: Sequence[object], wanted: str) -> Iterator[Any]:
        for start in range(0, len(values), _AT_A_TIME):
            part = values[start : start + _AT_A_TIME]
            yield from self._ask(f"SELECT {wanted} FROM entries WHERE {column} IN ({', '.join('?' * len(part))})", part)

    def all(self) -> Iterator[Entry]:
        """Every entry, in order; some at a time, so that other threads are not kept waiting.

        The file is not opened again: a writer may have deleted it meanwhile.
        """
        question = f"SELECT {', '.join(COLUMNS)} FROM entries WHERE row >= ? AND row < ? ORDER BY row"
        for start in range(0, self._count, _AT_A_TIME):
            found = self._ask(question, (start, start + _AT_A_TIME))
            if len(found) != min(_AT_A_TIME, self._count - start):
                raise self._gap()
            yield from (Entry(*values) for values in found)
