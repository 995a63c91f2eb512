"""Check of every byte of a knowledge base, and repair of its folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge.folder import CACHE, StoreFolder
from crlsc_phy.knowledge.generation import Generation

__all__ = ["Verified", "verify"]


@dataclass(frozen=True, slots=True)
class Verified:
    """Result of a check.

    Attributes:
        generation: Current generation; empty if it is damaged.
        faults: One line for each fault.
        mended: One line for each repair.
    """

    generation: str
    faults: tuple[str, ...]
    mended: tuple[str, ...]


def verify(path: str | Path, repair: bool = False) -> Verified:
    """Hash every file of the current generation of the base in the folder ``path``, and open it.

    ``repair`` deletes the search indexes, which are then built again, and returns to the newest undamaged generation if
    the current one is damaged.

    Raises:
        KnowledgeBaseError: If there is no knowledge base, or another process writes to it.
    """
    folder = StoreFolder(path)
    if not folder.exists():
        raise KnowledgeBaseError(f"{folder.path}: holds no knowledge base")
    faults = _faults(folder)
    if not repair:
        return Verified("" if faults else folder.current(), faults, ())
    mended = []
    with folder.writing(sweep=False):
        if (folder.path / CACHE).exists():
            shutil.rmtree(folder.path / CACHE)
            mended.append("search indexes were deleted; they will be built again")
        if faults:
            names = [name for name in folder.written() if not _faults(folder, name)]
            if names:
                folder.point_to(names[-1])
                mended.append(f"generation {names[-1]} is the current one now")
    whole = not _faults(folder)
    return Verified(folder.current() if whole else "", faults, tuple(mended))


def _faults(folder: StoreFolder, name: str | None = None) -> tuple[str, ...]:
    try:
        manifest, identity = folder.read(name)
        found = folder.faults(manifest, thorough=True)
        if not found:
            Generation(folder, manifest, identity)
        return tuple(f"{file} {fault}" for file, fault in found.items())
    except KnowledgeBaseError as error:
        return (str(error),)
