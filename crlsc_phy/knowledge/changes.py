"""Changes of a knowledge base in a folder: each function writes the files of the next generation.

It writes them into the folder ``aside`` and returns the manifest. The manifest lists the files of earlier generations
that are still needed; :meth:`StoreFolder.publish` adds the new ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from crlsc_phy.files import write_array
from crlsc_phy.knowledge.air_code import AirCode, Codes, Vectors
from crlsc_phy.knowledge.base import THRESHOLD, Batch, Entry, Settings
from crlsc_phy.knowledge.generation import Generation
from crlsc_phy.knowledge.manifest import Manifest, Shard, folder_name
from crlsc_phy.knowledge.metadata import write_entries

__all__ = ["append", "compact", "found", "remove"]

_ROOM = 1.25
"""Stored vectors may be this many times as large as the largest of the first ones; larger values are clipped."""


def found(name: str, air_code: AirCode, batch: Batch, settings: Settings, aside: Path) -> Manifest:
    """Write the first generation.

    Args:
        name: Name of the base.
        air_code: Quantiser of its codes.
        batch: First entries.
        settings: Other settings of the base.
        aside: Folder to fill.
    """
    chosen: dict[str, Any] = {"threshold": THRESHOLD, **settings, "name": name}
    largest = float(np.abs(_unit(batch.vectors)).max()) if batch.vectors.size else 1.0
    manifest = Manifest(
        number=1,
        air_code=air_code.id,
        air_code_file=f"{folder_name(1)}/air_code.safetensors",
        code_bytes=air_code.size,
        dim=air_code.dim,
        entries=len(batch.codes),
        shards=(Shard(folder_name(1), len(batch.codes)),),
        vector_scale=127 / (_ROOM * max(largest, 1e-9)) if chosen.pop("keep_vectors", False) else 0.0,
        **chosen,
    )
    air_code.save(aside / "air_code.safetensors")
    _write_shard(aside, batch.codes, batch.entries, _rounded(batch.vectors, manifest.vector_scale))
    return manifest


def append(
    current: Generation, codes: Codes, entries: Iterable[Entry], vectors: Vectors | None, aside: Path
) -> Manifest:
    """Write a generation with more entries.

    Args:
        current: Newest generation.
        codes: uint8 [N, M].
        entries: N entries.
        vectors: float32 [N, D]; None to decode the codes where the base stores vectors.
        aside: Folder to fill.
    """
    old = current.manifest
    kept = vectors if vectors is not None else current.air_code.decode(codes)
    _write_shard(aside, codes, entries, _rounded(kept, old.vector_scale))
    shards = (*old.shards, Shard(folder_name(old.number + 1), len(codes)))
    return replace(old, number=old.number + 1, entries=old.entries + len(codes), shards=shards)


def remove(current: Generation, rows: Collection[int], aside: Path) -> Manifest:
    """Write a generation without some live rows.

    Args:
        current: Newest generation.
        rows: Rows to remove.
        aside: Folder to fill.
    """
    old = current.manifest
    removed = np.union1d(np.setdiff1d(np.arange(current.rows), current.live), np.array(list(rows), np.int64))
    write_array(aside / "removed.npy", removed.astype(np.int64))
    return replace(
        old,
        number=old.number + 1,
        entries=old.entries - len(rows),
        removed=f"{folder_name(old.number + 1)}/removed.npy",
        files={name: fact for name, fact in old.files.items() if name != old.removed},
    )


def compact(current: Generation, aside: Path) -> Manifest:
    """Write a generation with one shard, which holds the live rows alone."""
    old = current.manifest
    name = folder_name(old.number + 1)
    current.air_code.save(aside / "air_code.safetensors")
    # The vectors as they were rounded: rounding them again would add to the error.
    _write_shard(aside, current.codes, current.entries, current.rounded_vectors)
    return replace(
        old,
        number=old.number + 1,
        air_code_file=f"{name}/air_code.safetensors",
        shards=(Shard(name, len(current)),),
        removed="",
        files={},
    )


def _rounded(vectors: Vectors, scale: float) -> npt.NDArray[np.int8] | None:
    """Return vectors, float32 [N, D], as int8 at unit norm times ``scale``; None if the scale is 0."""
    if not scale:
        return None
    rounded: npt.NDArray[np.int8] = np.clip(np.rint(_unit(vectors) * np.float32(scale)), -127, 127).astype(np.int8)
    return rounded


def _unit(vectors: Vectors) -> Vectors:
    """Return vectors at unit norm, since searches are by cosine and one scale must fit all."""
    unit = np.array(vectors, np.float32)
    faiss.normalize_L2(unit)
    return unit


def _write_shard(aside: Path, codes: Codes, entries: Iterable[Entry], vectors: npt.NDArray[np.int8] | None) -> None:
    write_array(aside / "codes.npy", codes)
    write_entries(aside / "entries.sqlite", entries)
    if vectors is not None:
        write_array(aside / "vectors.npy", vectors)
