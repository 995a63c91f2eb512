"""The folder of a sweep: configuration, results and pictures.

config.yaml          the configuration with every option spelled out
results.jsonl        one row per job; rows are only appended
originals/NAME.png   the pictures that are sent
pictures/JOB.png     received pictures that are kept
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
"""Seconds of results that a power cut may cost; a kill costs no row that was written."""


class Store:
    """An opened folder, made by :func:`open_store`.

    Attributes:
        folder: The folder.
        known: Results from earlier runs by the key of their job, without failures.
    """

    def __init__(self, folder: Path, known: Mapping[str, Result], rows: TextIO) -> None:
        self.folder, self.known = folder, known
        self._rows = rows
        self._synced = time.monotonic()

    def append(self, row: Mapping[str, Any], picture: UInt8Image | None = None) -> None:
        """Write a row, after its picture: a reader who sees the row finds the picture."""
        if picture is not None:
            save_png(self.folder / PICTURES / f"{row['job']}.png", picture)
        self._rows.write(json.dumps(row, allow_nan=False) + "\n")
        self._rows.flush()
        if time.monotonic() - self._synced > _SYNC_S:
            self.sync()

    def sync(self) -> None:
        """Wait until all rows are on the disk."""
        os.fsync(self._rows.fileno())
        self._synced = time.monotonic()


@contextmanager
def open_store(folder: Path, plan: Plan) -> Iterator[Store]:
    """Open a sweep's folder to start or resume a run, and lock it against other runs until it is closed.

    Raises:
        SweepError: If another run is writing there, or the folder holds other files or results that contradict the
            plan.
    """
    if folder.exists() and not folder.is_dir():
        raise SweepError(f"{folder}: not a folder; choose another --out")
    if folder.is_dir() and not (folder / CONFIG).exists() and any(each.name != LOCK for each in folder.iterdir()):
        raise SweepError(f"{folder}: holds other files and no {CONFIG}; choose another --out")
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
        raise SweepError(
            f"{folder}: cannot be written ({error.strerror}); free space, or choose another --out"
        ) from None


def _lock(lock: TextIO, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SweepError(f"{folder}: another run is writing there; wait for it, or choose another --out") from None


def _known(folder: Path, plan: Plan) -> dict[str, Result]:
    """Return the results of earlier runs by the key of their job, after an incomplete last row is cut off.

    Raises:
        SweepError: If another configuration found them under the same names.
    """
    if not (folder / RESULTS).exists():
        return {}
    with (folder / RESULTS).open("rb+") as rows:
        rows.truncate(rows.read().rfind(b"\n") + 1)
    run = read_run(folder)
    planned = {(line.curve, line.channel): line for line in plan.lines.values()}
    for was in run.lines:
        now = planned.get((was.curve, was.channel))
        if now is not None and now.id != was.id:
            raise SweepError(
                f"{folder}: holds results of {was.curve!r} over {was.channel!r} by another configuration (options, "
                "seed, bundle or pictures); choose another --out, or another name for the curve"
            )
        same = plan.lines.get(was.id)
        if same is not None and (same.curve, same.channel) != (was.curve, was.channel):
            raise SweepError(
                f"{folder}: holds {same.curve!r} over {same.channel!r} as {was.curve!r} over {was.channel!r}; "
                "keep those names, or choose another --out"
            )
    return {result.job: result for result in run.results}


def _prepare(folder: Path, plan: Plan) -> None:
    for name in (ORIGINALS, PICTURES):
        (folder / name).mkdir(exist_ok=True)
    for sent in plan.images:
        save_png(folder / ORIGINALS / f"{sent.name}.png", sent.image)
    text = yaml.safe_dump(plan.config.plain(), sort_keys=False, allow_unicode=True, width=120)
    write_text(folder / CONFIG, text, durable=True)
