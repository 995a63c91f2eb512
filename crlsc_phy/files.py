"""Files that are written under another name beside their own, and renamed when they are complete."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["placed", "sha256_of", "short_name", "sync", "unused_name", "write_array", "write_text"]

_LONGEST = 200
_KEPT = 32
"""Characters of a file's name in the name it is written under: at most 128 bytes of the 255 that file systems take."""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        # hashlib.file_digest came with Python 3.11.
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def placed(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` to write to, and rename it to ``path`` when the block ends.

    If the block raises, the temporary file is removed and ``path`` stays as it was. Several processes or threads may
    write the same ``path``; the last one to end replaces the others' files.
    """
    aside = path.with_name(f".{path.name[:_KEPT]}.{secrets.token_hex(4)}.part")
    try:
        yield aside
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def short_name(name: str) -> str:
    """Return ``name``, or its beginning and a hash of the whole if it takes more than 200 bytes.

    File systems take 255 bytes, which is fewer characters where they are not ASCII, and less with a suffix.
    """
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) <= _LONGEST:
        return name
    return f"{name[:_KEPT]}-{hashlib.sha256(encoded).hexdigest()[:8]}"


def unused_name(name: str, taken: Collection[str]) -> str:
    """Return ``name``, or if it is taken ``name-2``, ``name-3`` and so on."""
    return next(each for each in chain([name], (f"{name}-{n}" for n in count(2))) if each not in taken)


def write_text(path: Path, text: str, durable: bool = False) -> None:
    """Write ``text`` as UTF-8 and put it in place.

    Args:
        path: File to write.
        text: Its content.
        durable: Whether to return only when the file and its name are on the disk.
    """
    with placed(path) as aside, aside.open("w", encoding="utf-8") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    if durable:
        sync(path.parent)


def write_array(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Write an array as ``.npy`` and put it in place."""
    with placed(path) as aside, aside.open("wb") as file:
        # Given the file itself, np.save reports a full disk without its error number.
        through: Any = SimpleNamespace(write=file.write)
        np.save(through, array, allow_pickle=False)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
