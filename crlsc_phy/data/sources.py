"""Opening of picture sets by name.

pictograms:google             pictograms of one vendor: google, twitter, fluent
things:google                 those that show a thing, and so can be told apart across vendors
photos@train                  photographs; also animals and faces; @train or @heldout
folder:PATH                   the user's own pictures, one sub-folder for each class; all, @train or @heldout
webdataset:NAME-{00..03}.tar  shards of a web data set; all, @train or @heldout
torchvision:NAME@train        a data set of torchvision, @train or @heldout
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np

from crlsc_phy.data.catalogue import arrays_path
from crlsc_phy.data.content import open_content
from crlsc_phy.data.imageset import ImageSet, identity_of
from crlsc_phy.data.listed import LISTED, key_of, rows_of
from crlsc_phy.data.own import Folder, Shards
from crlsc_phy.data.pictograms import OBJECT_CATEGORIES, VENDORS
from crlsc_phy.data.store import open_arrays, read_table
from crlsc_phy.data.vision import open_vision
from crlsc_phy.errors import DataError
from crlsc_phy.images import UInt8Image

__all__ = ["open_images", "opened_once"]

SPLITS = ("train", "heldout")
FORMS = (
    "pictograms:VENDOR, things:VENDOR, photos@SPLIT, animals@SPLIT, faces@SPLIT, "
    "folder:PATH, webdataset:PATH or torchvision:NAME@SPLIT"
)
OWN_LICENCE = "not stated"


_opened: ContextVar[dict[tuple[str, Path], ImageSet] | None] = ContextVar("opened", default=None)


@contextmanager
def opened_once() -> Iterator[None]:
    """Within the block, open each set once: later calls of :func:`open_images` return the set of the first one."""
    token = _opened.set({})
    try:
        yield
    finally:
        _opened.reset(token)


def open_images(spec: str, data: Path) -> ImageSet:
    """Open a picture set.

    Args:
        spec: Name of the set, as at the head of this file.
        data: Folder of the data sets, as ``crlsc-train data`` fills it; decoded pictures are kept in ``decoded/``.

    Raises:
        DataError: If the name is unknown, or the pictures are missing or none of them can be read.
    """
    opened = _opened.get()
    if opened is None:
        return _open(spec, data)
    if (spec, data) not in opened:
        opened[spec, data] = _open(spec, data)
    return opened[spec, data]


def _open(spec: str, data: Path) -> ImageSet:
    name, mark, split = spec.rpartition("@")
    # A folder may have an @ in its name.
    if not mark or split not in SPLITS:
        name, split = spec, ""
    kind, colon, rest = name.partition(":")
    folder = data / "decoded"
    if kind in ("pictograms", "things") and rest in VENDORS and not split:
        return _pictograms(spec, data, folder)
    if kind == "folder" and rest:
        return open_content(Folder(rest), split, OWN_LICENCE, folder)
    if kind == "webdataset" and rest:
        return open_content(Shards(rest), split, OWN_LICENCE, folder)
    if kind == "torchvision" and rest and split:
        return open_vision(rest, split, data, folder)
    if name in LISTED and split and not colon:
        return _listed(spec, name, split, data, folder)
    raise DataError(f"picture set {spec!r} is unknown; use {FORMS}, where SPLIT is train or heldout")


def _pictograms(spec: str, data: Path, folder: Path) -> ImageSet:
    whole = spec.replace("things:", "pictograms:")
    path = arrays_path(data, whole)
    with open_arrays(path) as arrays:
        ids, names, categories = (arrays[column] for column in ("ids", "names", "categories"))
    rows = np.isin(categories, OBJECT_CATEGORIES) if whole != spec else np.ones(len(ids), np.bool_)

    def decode() -> Iterator[UInt8Image]:
        with open_arrays(path) as arrays:
            yield from arrays["images"][rows]

    keys = tuple(ids[rows].tolist())
    identity = identity_of(spec, _identity(path))
    return ImageSet(spec, keys, tuple(names[rows].tolist()), keys, _licence(whole), identity, folder, decode)


def _listed(spec: str, name: str, split: str, data: Path, folder: Path) -> ImageSet:
    path = arrays_path(data, spec)
    with open_arrays(path) as arrays:
        keys = tuple(arrays.files)
    known = {key_of(row): row.get("label", "") for row in rows_of(name, split)}
    labels = tuple(known.get(key, "") for key in keys)

    def decode() -> Iterator[UInt8Image]:
        with open_arrays(path) as arrays:
            for key in keys:
                yield arrays[key]

    return ImageSet(spec, keys, labels, labels, _licence(spec), _identity(path), folder, decode)


def _licence(spec: str) -> str:
    return next(row["licence"] for row in read_table("sets.csv") if row["set"] == spec)


def _identity(path: Path) -> str:
    # The archive has a CRC-32 of every array, so that nothing need be read for this.
    with zipfile.ZipFile(path) as archive:
        members = [f"{each.filename}|{each.CRC}|{each.file_size}" for each in archive.infolist()]
    return identity_of(path.name, *members)
