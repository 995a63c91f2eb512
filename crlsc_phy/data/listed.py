"""Sets whose pictures are listed in a table: photographs, animals, faces.

``sets/NAME.csv`` has a row for each picture: split, package, path, licence, author, SHA-256 and, for some sets, label.
A path ``FILE!INNER`` is a file within a Qt resource file. Debian's packages differ between releases, so that the
SHA-256 of each picture decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crlsc_phy.data.imageset import reduced
from crlsc_phy.data.packages import read_qt_resources
from crlsc_phy.data.store import open_arrays, read_table, watched
from crlsc_phy.errors import DataError
from crlsc_phy.images import UInt8Image, decode_image

__all__ = ["LISTED", "key_of", "load_photos", "read_listed", "rows_of"]

LISTED = ("photos", "animals", "faces")

TRAINING_PHOTO_PIXELS = 1536
"""Longest side of training photographs, which are kept larger than the other sets for crops at several scales."""
LONGEST_SIDE = 512


def rows_of(name: str, split: str) -> list[dict[str, str]]:
    """Return the rows of one split (``train`` or ``heldout``) of the table of ``name``."""
    return [row for row in read_table(f"{name}.csv") if row["split"] == split]


def key_of(row: Mapping[str, str]) -> str:
    """Return the key of the picture of a row."""
    path = Path(row["path"].partition("!")[2] or row["path"])
    return f"{row['package']}/{path.parent.name}/{path.stem}" if "label" in row else f"{row['package']}/{path.stem}"


def load_photos(folder: Path, split: str) -> dict[str, UInt8Image]:
    """Read the photographs of ``split`` (``train`` or ``heldout``) by name, uint8 [H, W, 3] each.

    Raises:
        DataError: If they are not in ``folder``.
    """
    with open_arrays(folder / f"photos-{split}.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def read_listed(trees: Mapping[str, Path], name: str, split: str) -> dict[str, npt.NDArray[np.generic]]:
    """Read the pictures of one split of a set from unpacked packages.

    Args:
        trees: Folders of the packages, by name.
        name: Name of the set.
        split: ``train`` or ``heldout``.

    Returns:
        Pictures by key, uint8 [H, W, 3] each.

    Raises:
        DataError: If a package lacks a picture, or has another one under its name.
    """
    longest = TRAINING_PHOTO_PIXELS if (name, split) == ("photos", "train") else LONGEST_SIDE
    pictures: dict[str, npt.NDArray[np.generic]] = {}
    resource_files: dict[Path, dict[str, bytes]] = {}
    for row in watched(rows_of(name, split), f"Reading {name}@{split}"):
        path, _, inner = row["path"].partition("!")
        file = trees[row["package"]] / path
        try:
            if inner:
                if file not in resource_files:
                    resource_files[file] = dict(read_qt_resources(file))
                content = resource_files[file][inner]
            else:
                content = file.read_bytes()
        except (FileNotFoundError, KeyError):
            raise DataError(f"{row['package']}: holds no {row['path']}; its version is not the one listed") from None
        if hashlib.sha256(content).hexdigest() != row["sha256"]:
            raise DataError(f"{row['package']}: {row['path']} is not the picture listed (SHA-256 differs)")
        pictures[key_of(row)] = reduced(decode_image(content, row["path"]), longest)
    return pictures
