"""Table of the entries of a shard: an SQLite file that is written once."""

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
# Every build of SQLite takes at least this many values in one query.
_AT_A_TIME = 900


def write_entries(path: Path, entries: Iterable[Entry]) -> None:
    """Write a table of entries, numbered from 0.

    Raises:
        KnowledgeBaseError: If two entries have the same name, or a text is missing or not valid Unicode.
        OSError: If the disk is full or fails.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # An incomplete file is never read, and a complete one is synced later.
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
        raise KnowledgeBaseError("two entries have the same name, or one lacks a name or another text") from None
    except sqlite3.OperationalError as error:
        full = "full" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from None
    finally:
        connection.close()


class EntryTable:
    """Table of entries, safe to use from several threads.

    Raises:
        KnowledgeBaseError: If the file, whose hash has been checked, is not a table of ``count`` entries.
    """

    def __init__(self, path: Path, count: int) -> None:
        self._path, self._count = path, count
        self._lock = threading.Lock()
        try:
            # Immutable: no locks and no journal, so it works on read-only media.
            self._connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
            )
            self._connection.execute("PRAGMA trusted_schema = OFF")
            self._connection.execute("PRAGMA query_only = ON")
            last = self._ask("SELECT max(row) FROM entries")[0][0]
        except sqlite3.Error as error:
            raise KnowledgeBaseError(f"{path}: not a table of entries ({error})") from None
        if (-1 if last is None else last) != count - 1:
            raise KnowledgeBaseError(f"{path}: the number of entries is not {count}")

    def _ask(self, question: str, values: Sequence[object] = ()) -> list[Any]:
        try:
            with self._lock:
                return self._connection.execute(question, values).fetchall()
        except sqlite3.Error as error:
            raise KnowledgeBaseError(f"{self._path}: cannot be read ({error})") from None

    def named(self, rows: Sequence[int]) -> dict[int, tuple[str, str]]:
        """Return name and label of each of some rows."""
        found = {row: (name, label) for row, name, label in self._in("row", rows, "row, name, label")}
        if len(found) < len(set(rows)):
            raise self._gap()
        return found

    def entry(self, row: int) -> Entry:
        """Return the entry of a row."""
        found = self._ask(f"SELECT {', '.join(COLUMNS)} FROM entries WHERE row = ?", (row,))
        if not found:
            raise self._gap()
        return Entry(*found[0])

    def _gap(self) -> KnowledgeBaseError:
        # Not checked at opening, since counting all rows takes time.
        return KnowledgeBaseError(f"{self._path}: lacks some of its {self._count} entries")

    def rows(self, names: Sequence[str]) -> dict[str, int]:
        """Return the rows of those of ``names`` that exist."""
        # SQLite refuses texts that are not valid Unicode, so no entry has such a name.
        return dict(self._in("name", [name for name in names if name and safe_text(name) == name], "name, row"))

    def labelled(self, label: str) -> list[int]:
        """Return the rows with a label."""
        found = self._ask("SELECT row FROM entries WHERE label = ? ORDER BY row", (safe_text(label),))
        return [row for (row,) in found]

    def _in(self, column: str, values: Sequence[object], wanted: str) -> Iterator[Any]:
        for start in range(0, len(values), _AT_A_TIME):
            part = values[start : start + _AT_A_TIME]
            yield from self._ask(f"SELECT {wanted} FROM entries WHERE {column} IN ({', '.join('?' * len(part))})", part)

    def all(self) -> Iterator[Entry]:
        """Yield all entries in order. They are read in parts, so that other threads do not wait long.

        The file is not opened again, because a writer may have deleted it.
        """
        question = f"SELECT {', '.join(COLUMNS)} FROM entries WHERE row >= ? AND row < ? ORDER BY row"
        for start in range(0, self._count, _AT_A_TIME):
            found = self._ask(question, (start, start + _AT_A_TIME))
            if len(found) != min(_AT_A_TIME, self._count - start):
                raise self._gap()
            yield from (Entry(*values) for values in found)
