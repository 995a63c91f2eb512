"""Folders whose files are named and hashed in a manifest, as bundles and knowledge bases are."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import CrlscError

__all__ = [
    "MANIFEST",
    "ManifestError",
    "placed",
    "read_manifest",
    "sha256_of",
    "sync",
    "write_array",
    "write_manifest",
    "write_text",
]

MANIFEST = "manifest.json"


class ManifestError(CrlscError):
    """A folder does not hold what its manifest says. Rooms turn it into an error of their own."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hex."""
    with path.open("rb") as file:
        # hashlib.file_digest came with Python 3.11.
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def placed(path: Path) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to: it becomes ``path`` at the end, or goes if the block fails."""
    # Two processes may make the same thing; the later one replaces the other's.
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield aside
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str, durable: bool = False) -> None:
    """Write ``text`` aside, then put it in place; ``durable`` returns when it is on the disk."""
    with placed(path) as aside, aside.open("w", encoding="utf-8") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    if durable:
        sync(path.parent)


def write_array(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Write an array as ``.npy`` aside, then put it in place."""
    with placed(path) as aside, aside.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_manifest(folder: Path, format: int, content: dict[str, Any], apart: str = "") -> str:
    """Hash all files below ``folder`` into ``manifest.json`` beside ``content``; returns the manifest's SHA-256.

    The folder ``apart`` below it is left out: it has a manifest of its own, and may change.
    """
    files = {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST and path.relative_to(folder).parts[0] != apart
    }
    text = json.dumps({"format": format, **content, "files": files}, indent=2) + "\n"
    write_text(folder / MANIFEST, text)
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(folder: Path, format: int) -> tuple[dict[str, Any], str]:
    """Read the manifest of ``folder`` and check the hash of every file it names.

    Returns:
        The manifest and its SHA-256 in hex.

    Raises:
        ManifestError: If the manifest or a file is missing or damaged, or its format is newer than ``format``.
    """
    try:
        raw = (folder / MANIFEST).read_bytes()
    except OSError:
        raise ManifestError(f"{folder}: holds no {MANIFEST}") from None
    try:
        manifest = json.loads(raw)
        found, files = int(manifest["format"]), dict(manifest["files"])
    except (ValueError, KeyError, TypeError):
        raise ManifestError(f"{folder}: {MANIFEST} is damaged") from None
    if found > format:
        raise ManifestError(f"{folder}: has format {found}, this program reads up to {format}; update crlsc-phy")
    for name, digest in files.items():
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts:
            raise ManifestError(f"{folder}: {MANIFEST} names {name!r}, outside the folder")
        path = folder / pure
        if not path.is_file():
            raise ManifestError(f"{folder}: {name} is missing; fetch the folder again")
        if sha256_of(path) != digest:
            raise ManifestError(f"{folder}: {name} is damaged (SHA-256 differs); fetch the folder again")
    return manifest, hashlib.sha256(raw).hexdigest()
