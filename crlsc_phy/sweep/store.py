"""The folder of a sweep: its configuration, its results row by row, and the pictures that are kept.

config.yaml          what was run, everything said
results.jsonl        a row a job, only ever appended to
originals/NAME.png   the pictures that are sent
pictures/JOB.png     received ones
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import yaml

from crlsc_phy.errors import SweepError
from crlsc_phy.files import sync, write_text
from crlsc_phy.images import UInt8Image, save_png
from crlsc_phy.report.results import CONFIG, RESULTS, Result, read_run
from crlsc_phy.sweep.plan import Plan

__all__ = ["Store", "open_store"]

LOCK = ".lock"
ORIGINALS, PICTURES = "originals", "pictures"
_SYNC_S = 1.0
"""What a power cut may cost; a kill costs nothing that was written."""


class Store:
    """An opened folder; made by :func:`open_store`.

    Attributes:
        known: What was found before, by job key; failures are not among it.
    """

    def __init__(self, folder: Path, known: Mapping[str, Result], rows: TextIO) -> None:
        self.folder, self.known = folder, known
        self._rows = rows
        self._synced = time.monotonic()

    def append(self, row: Mapping[str, Any], picture: UInt8Image | None = None) -> None:
        """Write a row, after its picture: who sees the row finds the picture."""
        if picture is not None:
            save_png(self.folder / PICTURES / f"{row['job']}.png", picture)
        self._rows.write(json.dumps(row, allow_nan=False) + "\n")
        self._rows.flush()
        if time.monotonic() - self._synced > _SYNC_S:
            self.sync()

    def sync(self) -> None:
        """Return when all rows are on the disk."""
        os.fsync(self._rows.fileno())
        self._synced = time.monotonic()


@contextmanager
def open_store(folder: Path, plan: Plan) -> Iterator[Store]:
    """Open a sweep's folder, made or resumed; nobody else can until it is closed.

    Raises:
        SweepError: If another run is at it, it holds something else, or results that contradict the plan.
    """
    if folder.exists() and not folder.is_dir():
        raise SweepError(f"{folder}: is no folder; name another --out")
    if folder.is_dir() and not (folder / CONFIG).exists() and any(each.name != LOCK for each in folder.iterdir()):
        raise SweepError(f"{folder}: holds other files and no {CONFIG}; name another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOCK).open("w") as lock:
            _lock(lock, folder)
            known = _known(folder, plan)
            _prepare(folder, plan)
            with (folder / RESULTS).open("a", encoding="utf-8") as rows:
                sync(folder)
                store = Store(folder, known, rows)
                try:
                    yield store
                finally:
                    store.sync()
    except OSError as error:
        raise SweepError(f"{folder}: cannot be written ({error.strerror}); make room, or name another --out") from None


def _lock(lock: TextIO, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SweepError(f"{folder}: another run is writing there; wait for it, or name another --out") from None


def _known(folder: Path, plan: Plan) -> dict[str, Result]:
    """What was found before, after the last row has been mended.

    Raises:
        SweepError: If it was found by another configuration under the same names.
    """
    if not (folder / RESULTS).exists():
        return {}
    _drop_torn_row(folder / RESULTS)
    run = read_run(folder)
    planned = {(line.curve, line.channel): line for line in plan.lines.values()}
    for was in run.lines:
        now = planned.get((was.curve, was.channel))
        if now is not None and now.id != was.id:
            raise SweepError(
                f"{folder}: holds results of {was.curve!r} over {was.channel!r} by another configuration (options, "
                "seed, bundle or pictures); name another --out, or call the curve otherwise"
            )
        same = plan.lines.get(was.id)
        if same is not None and (same.curve, same.channel) != (was.curve, was.channel):
            raise SweepError(
                f"{folder}: holds {same.curve!r} over {same.channel!r} as {was.curve!r} over {was.channel!r}; "
                "keep those names, or name another --out"
            )
    return {result.job: result for result in run.results}


def _drop_torn_row(path: Path) -> None:
    """Cut off what follows the last end of a line: a row that a kill cut short."""
    with path.open("rb+") as file:
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)


def _prepare(folder: Path, plan: Plan) -> None:
    for name in (ORIGINALS, PICTURES):
        (folder / name).mkdir(exist_ok=True)
    for sent in plan.images:
        save_png(folder / ORIGINALS / f"{sent.name}.png", sent.image)
    text = yaml.safe_dump(plan.config.plain(), sort_keys=False, allow_unicode=True, width=120)
    write_text(folder / CONFIG, text, durable=True)
