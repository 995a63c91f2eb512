"""Index of the user's own pictures, kept between runs: hashes, labels, and why a file cannot be read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from crlsc_phy.data.duplicates import FINGERPRINT_PIXELS, THUMBNAIL_PIXELS, Fingerprints
from crlsc_phy.data.imageset import identity_of
from crlsc_phy.data.store import open_arrays, save_arrays, watched
from crlsc_phy.errors import ImageError
from crlsc_phy.images import decode_image, resize

__all__ = ["Entry", "Source", "fingerprints_of", "index_of"]

_TEXTS = ("state", "key", "label", "sha256", "problem")


class Source(Protocol):
    """Source of pictures: files, each with one or more pictures.

    Attributes:
        name: Name of the set without its split.
        files: Files in a fixed order.
    """

    name: str
    files: list[Path]

    def read(self, file: Path) -> Iterator[tuple[str, str, bytes]]:
        """Yield key, label ("" if unknown) and content of every picture in ``file``.

        Raises:
            OSError: If it cannot be read.
        """


@dataclass(frozen=True)
class Entry:
    """Index entry of one picture.

    Attributes:
        state: Path, size in bytes and modification time in ns of its file, joined by ``|``.
        key: Name of the picture within the source.
        label: Class of the picture; "" if unknown.
        sha256: SHA-256 of its content, in hex.
        problem: Reason why it cannot be read; "" if it can.
        hash: Perceptual hash of :class:`Fingerprints`, 8 bytes.
        thumbnail: Thumbnail of :class:`Fingerprints`, 768 bytes.
    """

    state: str
    key: str
    label: str
    sha256: str
    problem: str
    hash: bytes = bytes(8)
    thumbnail: bytes = bytes(3 * THUMBNAIL_PIXELS**2)

    @property
    def file(self) -> Path:
        """File that the picture is in."""
        return Path(self.state.rsplit("|", 2)[0])


def fingerprints_of(entries: Sequence[Entry]) -> Fingerprints:
    """Return the fingerprints of ``entries``, in their order."""
    hashes = np.frombuffer(b"".join(entry.hash for entry in entries), np.uint8)
    thumbnails = np.frombuffer(b"".join(entry.thumbnail for entry in entries), np.uint8)
    side = THUMBNAIL_PIXELS
    return Fingerprints(hashes.reshape(-1, 8), thumbnails.reshape(-1, side, side, 3))


def index_of(source: Source, folder: Path) -> list[Entry]:
    """Return all pictures of ``source``, in the order of its files. Unchanged files are not read again.

    Raises:
        DataError: If the index cannot be written into ``folder``.
    """
    path = folder / f"index-{identity_of(source.name)[:32]}.npz"
    known: dict[str, list[Entry]] = {}
    for entry in _load(path):
        known.setdefault(entry.state, []).append(entry)
    states = {file: _state(file) for file in source.files}
    fresh = [file for file, state in states.items() if state not in known]
    if fresh:
        for file in watched(fresh, f"Indexing {source.name}"):
            known[states[file]] = list(_look(source, file, states[file]))
    entries = [entry for state in states.values() for entry in known[state]]
    if fresh:
        _save(path, entries)
    return entries


def _state(file: Path) -> str:
    try:
        found = file.stat()
    except OSError:
        return f"{file}|gone|"
    return f"{file}|{found.st_size}|{found.st_mtime_ns}"


def _look(source: Source, file: Path, state: str) -> Iterator[Entry]:
    try:
        for key, label, content in source.read(file):
            digest = hashlib.sha256(content).hexdigest()
            try:
                image = decode_image(content, key)
            except ImageError as error:
                yield Entry(state, key, label, digest, str(error))
                continue
            square = resize(image, FINGERPRINT_PIXELS, FINGERPRINT_PIXELS)
            found = Fingerprints.of(square[None])
            yield Entry(state, key, label, digest, "", found.hashes.tobytes(), found.thumbnails.tobytes())
    except OSError as error:
        yield Entry(state, str(file), "", "", f"{file}: cannot be read ({error.strerror or error})")


def _save(path: Path, entries: Sequence[Entry]) -> None:
    found = fingerprints_of(entries)
    # As JSON, since an array of strings takes the room of the longest for each.
    texts = json.dumps([[getattr(entry, name) for name in _TEXTS] for entry in entries]).encode()
    arrays = {"texts": np.frombuffer(texts, np.uint8), "hashes": found.hashes, "thumbnails": found.thumbnails}
    save_arrays(path, arrays)


def _load(path: Path) -> Iterator[Entry]:
    if not path.exists():
        return
    with open_arrays(path) as arrays:
        texts: list[tuple[str, str, str, str, str]] = json.loads(arrays["texts"].tobytes())
        hashes, thumbnails = arrays["hashes"], arrays["thumbnails"]
    for row, bits, thumbnail in zip(texts, hashes, thumbnails, strict=True):
        yield Entry(*row, bits.tobytes(), thumbnail.tobytes())
