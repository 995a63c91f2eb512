"""What the data room keeps on the disk: tables of the package, arrays, and files that are made in one go."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import DataError
from crlsc_phy.files import placed

__all__ = ["making", "open_arrays", "read_table", "save_arrays"]


def read_table(name: str) -> list[dict[str, str]]:
    """The rows of a table in ``crlsc_phy/train/sets``, such as ``photos.csv``."""
    text = (resources.files("crlsc_phy.train") / "sets" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


@contextmanager
def making(path: Path) -> Iterator[Path]:
    """Yield a name to write ``path`` under, as :func:`crlsc_phy.files.placed` does; folders above it are made.

    Raises:
        DataError: If the disk does not take it. Nothing is left of it then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with placed(path) as aside:
            yield aside
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); make room, or name another --data") from None


def save_arrays(path: Path, arrays: dict[str, npt.NDArray[np.generic]]) -> None:
    """Write ``arrays`` as an ``.npz``.

    Raises:
        DataError: If the disk does not take it.
    """
    with making(path) as aside, aside.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def open_arrays(path: Path) -> np.lib.npyio.NpzFile:
    """Open what :func:`save_arrays` wrote; an array is read when it is asked for.

    Raises:
        DataError: If there is none, or it is damaged.
    """
    if not path.exists():
        raise DataError(f"{path}: no such data set; run crlsc-train data --data {path.parent}")
    try:
        arrays = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: is damaged ({error}); delete it and run crlsc-train data") from None
    assert isinstance(arrays, np.lib.npyio.NpzFile)
    return arrays
