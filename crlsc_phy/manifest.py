"""Folders whose files are named and hashed in a manifest, such as bundles and knowledge bases."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

from crlsc_phy.errors import CrlscError
from crlsc_phy.files import sha256_of, write_text

__all__ = ["MANIFEST", "ManifestError", "read_manifest", "write_manifest"]

MANIFEST = "manifest.json"


class ManifestError(CrlscError):
    """Raised when a folder does not match its manifest; callers turn it into an error of their own."""


def write_manifest(folder: Path, format: int, content: dict[str, Any], apart: str = "") -> str:
    """Write ``manifest.json`` with the SHA-256 of every file below ``folder``.

    Args:
        folder: Folder to describe.
        format: Version of the layout, which readers check.
        content: Other entries of the manifest, as JSON has them.
        apart: Folder below ``folder`` to leave out, because it has a manifest of its own and may change.

    Returns:
        SHA-256 of the manifest in hex.
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

    Args:
        folder: Folder to check.
        format: Newest version of the layout that the caller reads.

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
