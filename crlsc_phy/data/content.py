"""Sets of the user's own files, split by their content.

Of files with the same content the first one is used. The side of the split that a picture belongs to depends on its
SHA-256 alone, so that it stays there when files are added. For the same reason, a training picture that is a
near-duplicate of a held-out one is left out rather than moved to the other side.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from crlsc_phy.data.duplicates import near_pairs
from crlsc_phy.data.imageset import ImageSet, identity_of
from crlsc_phy.data.index import Entry, Source, fingerprints_of, index_of
from crlsc_phy.errors import DataError
from crlsc_phy.images import UInt8Image, decode_image

__all__ = ["open_content"]

HELD_OUT = 0.1
NAMED = 5
"""Number of files of a kind that are named in the log; the others are counted."""

_log = logging.getLogger(__name__)


def open_content(source: Source, split: str, licence: str, folder: Path) -> ImageSet:
    """Open the pictures of a source, all of them or those of one split.

    Args:
        source: Source of the pictures.
        split: ``train``, ``heldout`` (one in ten), or "" for all.
        licence: Licence of the pictures.
        folder: Folder of the index and of decoded pictures.

    Raises:
        DataError: If no picture can be read, or the split is empty.
    """
    name = f"{source.name}@{split}" if split else source.name
    entries = _usable(source, folder)
    if split:
        entries = _side(name, entries, split)
    keys = tuple(entry.key for entry in entries)
    labels = tuple(entry.label for entry in entries)

    def decode() -> Iterator[UInt8Image]:
        wanted = set(keys)
        # A shard has many entries, a file of its own one.
        for file in dict.fromkeys(entry.file for entry in entries):
            for key, _, content in source.read(file):
                if key in wanted:
                    yield decode_image(content, f"{source.name}: {key}")

    identity = identity_of(*keys, *(entry.sha256 for entry in entries))
    return ImageSet(name, keys, labels, labels, licence, identity, folder, decode)


def _usable(source: Source, folder: Path) -> list[Entry]:
    found = index_of(source, folder)
    problems = [entry.problem for entry in found if entry.problem]
    for problem in problems[:NAMED]:
        _tell(f"{source.name}: skipped {problem}")
    if len(problems) > NAMED:
        _tell(f"{source.name}: skipped {len(problems)} files in all")
    first: dict[str, Entry] = {}
    for entry in found:
        if not entry.problem:
            first.setdefault(entry.sha256, entry)
    if not first:
        what = f"none of its {len(found)} pictures can be read" if found else "holds no picture"
        raise DataError(f"{source.name}: {what}")
    entries = list(first.values())
    again = [entry.key for entry in found if not entry.problem and first[entry.sha256] is not entry]
    if again:
        _tell(f"{source.name}: left out, as another file has their content: {_some(again)}")
    classes = {entry.label for entry in entries} - {""}
    if len(classes) == 1:
        _tell(f"{source.name}: holds one class, {classes.pop()}, so there is nothing to classify")
    return entries


def _side(name: str, entries: Sequence[Entry], split: str) -> list[Entry]:
    sides: dict[bool, list[Entry]] = {False: [], True: []}
    for entry in entries:
        sides[int(entry.sha256[:8], 16) < HELD_OUT * 2**32].append(entry)
    side = sides[split == "heldout"]
    if split == "train" and sides[True]:
        pairs = near_pairs(fingerprints_of(side), fingerprints_of(sides[True]))
        near = sorted({side[pair.first].key for pair in pairs})
        if near:
            _tell(f"{name}: left out as near-duplicates of held-out pictures: {_some(near)}")
        side = [entry for entry in side if entry.key not in near]
    if not side:
        raise DataError(f"{name}: is empty; one picture in ten is held out, by its content, so add pictures")
    missing = sorted({entry.label for entry in entries} - {entry.label for entry in side} - {""})
    if missing:
        _tell(f"{name}: has no picture of {_some(missing)}")
    return side


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


@cache
def _tell(line: str) -> None:
    """Log a line once, however often a set is opened."""
    _log.warning(line)
