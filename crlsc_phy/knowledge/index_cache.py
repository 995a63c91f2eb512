"""Cache of the search index of a knowledge base; the index grows when the base grows.

An index that is missing, damaged or of another version of faiss is built again from codes or vectors.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import faiss

from crlsc_phy.files import placed, sha256_of, write_text
from crlsc_phy.knowledge import index as indexes
from crlsc_phy.knowledge.air_code import Vectors
from crlsc_phy.knowledge.index import IndexSpec

__all__ = ["Part", "kept_index"]

Part = tuple[str, int]
"""A shard: SHA-256 of the indexed file, and number of rows."""
# An index that was trained on a smaller share of the rows is built again.
_LEAST_SHARE = 0.5
_ABANDONED = 24 * 3600


def kept_index(
    folder: Path, spec: IndexSpec, dim: int, parts: Sequence[Part], read: Callable[[int, int], Vectors]
) -> Any:
    """Return the index over all rows of ``parts``: from the cache, grown from one over the first parts, or built.

    Args:
        folder: Folder of the cache; made if it does not exist.
        spec: Specification of the index.
        dim: Size of a vector.
        parts: Shards in the order of the rows.
        read: Returns rows ``start`` to ``stop``, float32 [stop - start, dim].

    Raises:
        KnowledgeBaseError: If faiss does not know the index.
    """
    path = _path(folder, spec, parts)
    if _intact(path):
        return _load(path, spec, faiss.IO_FLAG_MMAP_IFC)
    rows = sum(count for _, count in parts)
    index = _grown(folder, spec, parts, rows, read) or indexes.build(spec, dim, rows, read)
    # On a read-only medium it is built every time.
    with suppress(OSError, RuntimeError):
        folder.mkdir(exist_ok=True)
        with placed(path) as aside:
            faiss.write_index(index, str(aside))
        write_text(_stamp(path), json.dumps({"sha256": sha256_of(path), **_change(path)}))
        _sweep(folder, path)
        return _load(path, spec, faiss.IO_FLAG_MMAP_IFC)
    return index


def _load(path: Path, spec: IndexSpec, flags: int) -> Any:
    index = faiss.read_index(str(path), flags)
    indexes.tune(index, spec)
    return index


def _path(folder: Path, spec: IndexSpec, parts: Sequence[Part]) -> Path:
    key = json.dumps([spec.factory, faiss.__version__, [list(part) for part in parts]])
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.faiss"


def _stamp(path: Path) -> Path:
    return path.with_suffix(".json")


def _grown(
    folder: Path, spec: IndexSpec, parts: Sequence[Part], rows: int, read: Callable[[int, int], Vectors]
) -> Any | None:
    for last in range(len(parts) - 1, 0, -1):
        there = sum(count for _, count in parts[:last])
        if there < _LEAST_SHARE * rows:
            return None
        path = _path(folder, spec, parts[:last])
        if _intact(path):
            index = _load(path, spec, 0)
            indexes.extend(index, there, rows, read)
            return index
    return None


def _sweep(folder: Path, newest: Path) -> None:
    """Delete other indexes, and files that killed processes left behind. Processes that mapped one can go on."""
    for path in folder.glob("*.faiss"):
        if path != newest:
            path.unlink(missing_ok=True)
            _stamp(path).unlink(missing_ok=True)
    for path in folder.glob(".*.faiss.*"):
        if time.time() - path.stat().st_mtime > _ABANDONED:
            path.unlink(missing_ok=True)


def _change(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "inode": status.st_ino}


def _intact(path: Path) -> bool:
    """Return whether an index file is as it was written; faiss would load a damaged one without an error."""
    try:
        known = json.loads(_stamp(path).read_text(encoding="utf-8"))
        unchanged = known == {"sha256": known["sha256"], **_change(path)}
        return unchanged or bool(sha256_of(path) == known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
