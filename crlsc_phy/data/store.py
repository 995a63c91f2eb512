"""Tables of the package, files of arrays, and writing of files with error messages and progress."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from crlsc_phy.errors import DataError
from crlsc_phy.files import placed

__all__ = ["making", "open_arrays", "read_table", "save_arrays", "watched"]

_T = TypeVar("_T")


def read_table(name: str) -> list[dict[str, str]]:
    """Return the rows of a table in ``crlsc_phy/data/sets``, such as ``photos.csv``."""
    text = (resources.files("crlsc_phy.data") / "sets" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


@contextmanager
def making(path: Path) -> Iterator[Path]:
    """Yield a name to write ``path`` under, as :func:`crlsc_phy.files.placed` does; folders above it are made.

    Raises:
        DataError: If the file cannot be written; nothing is left of it then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with placed(path) as aside:
            yield aside
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); make room, or name another --data") from None


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write ``arrays`` as an ``.npz`` file.

    Raises:
        DataError: If the file cannot be written.
    """
    # np.savez leaves its archive open when the disk is full, which then complains when it is collected.
    with making(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)  # type: ignore[no-untyped-call]


@contextmanager
def open_arrays(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """Open a file of :func:`save_arrays`; an array is read on access.

    Raises:
        DataError: If the file is missing or damaged.
    """
    if not path.exists():
        raise DataError(f"{path}: no such data set; run crlsc-train data --data {path.parent}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        raise DataError(f"{path}: is damaged; delete it and run the command again") from None


def watched(items: Iterable[_T], what: str, total: int | None = None) -> Iterable[_T]:
    """Iterate with a progress bar if standard error is a terminal; standard output may be JSON.

    Args:
        items: Items to return.
        what: Text beside the bar.
        total: Number of items, if they do not know it.
    """
    console = Console(stderr=True)
    return track(items, what, total, console=console, transient=True, disable=not console.is_terminal)
