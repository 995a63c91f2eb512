"""A knowledge base in a folder of this machine: named air codes, searched, repaired with, added to and removed from.

Readers see one generation at a time and take no lock; :meth:`KnowledgeBase.refresh` moves on to the newest. There is
one writer at a time. What a method that writes has returned from is on the disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import KnowledgeBaseError, safe_text
from crlsc_phy.files import write_array
from crlsc_phy.knowledge.air_code import AirCode, Codes, Vectors
from crlsc_phy.knowledge.base import (
    Batch,
    Entry,
    Hits,
    Repair,
    Repairing,
    Rule,
    check_codes,
    check_entries,
    check_vectors,
)
from crlsc_phy.knowledge.folder import Manifest, Shard, StoreFolder, folder_name
from crlsc_phy.knowledge.generation import Generation
from crlsc_phy.knowledge.index import IndexSpec
from crlsc_phy.knowledge.metadata import write_entries
from crlsc_phy.knowledge.repair import THRESHOLD, Repairer
from crlsc_phy.knowledge.transfer import Merged, Parcel

__all__ = ["KnowledgeBase"]

_ROOM = 1.25
"""Kept vectors may have numbers so many times the largest of the first ones; beyond they are clipped."""


class KnowledgeBase(Repairing):
    """A knowledge base in a folder; make one with :meth:`create` or :meth:`open`.

    Args:
        folder: Where it is.
        generation: Opened.
    """

    def __init__(self, folder: StoreFolder, generation: Generation) -> None:
        self._folder, self._generation = folder, generation

    @classmethod
    def open(cls, path: str | Path) -> KnowledgeBase:
        """Open the base in folder ``path``, checking the hash of every file.

        Files beyond 8 MB are hashed once and then known by size and time of change;
        :func:`crlsc_phy.knowledge.verify.verify` hashes them again.

        Raises:
            KnowledgeBaseError: If a file is missing or damaged, or its format is another.
        """
        folder = StoreFolder(path)
        return cls(folder, Generation.open(folder))

    @classmethod
    def create(
        cls,
        path: str | Path,
        air_code: AirCode,
        vectors: npt.ArrayLike,
        entries: Iterable[Entry],
        *,
        codes: Codes | None = None,
        name: str = "",
        keep_vectors: bool = False,
        index: str = "",
        aligned_to: str = "",
        tau: float = 0.0,
        threshold: float = THRESHOLD,
    ) -> KnowledgeBase:
        """Make a base in the new folder ``path``.

        Args:
            path: Where.
            air_code: Gives each entry its code.
            vectors: float32 [N, D]; N may be 0.
            entries: One a vector.
            codes: uint8 [N, M], kept as they are; by default the vectors are encoded.
            name: What hits call the base; the folder's name by default.
            keep_vectors: Whether to keep the vectors too, rounded to int8; searches are then as good as these are.
            index: Search index in the words of :class:`IndexSpec`; chosen by size by default.
            aligned_to: For a private base, the id of the shared one that it goes with.
            tau: Of soft repair, see :mod:`crlsc_phy.knowledge.repair`; from the centroids' distances by default.
            threshold: Log-likelihood ratio from which repair believes an entry.

        Raises:
            KnowledgeBaseError: If there is a base already, vectors and entries do not fit, two entries share a name, or
                the folder cannot be written.
        """
        folder = StoreFolder(path)
        array = check_vectors(vectors, air_code.dim)
        listed = check_entries(entries, len(array))
        own = air_code.encode(array) if codes is None else check_codes(codes, len(array), air_code.size)
        if index:
            IndexSpec.parse(index)
        largest = float(np.abs(_unit(array)).max()) if array.size else 1.0
        manifest = Manifest(
            number=1,
            name=safe_text(name or folder.path.resolve().name),
            air_code=air_code.id,
            air_code_file=f"{folder_name(1)}/air_code.safetensors",
            code_bytes=air_code.size,
            dim=air_code.dim,
            entries=len(array),
            shards=(Shard(folder_name(1), len(array)),),
            vector_scale=127 / (_ROOM * max(largest, 1e-9)) if keep_vectors else 0.0,
            aligned_to=aligned_to,
            index=index,
            tau=tau,
            threshold=threshold,
        )

        def fill(aside: Path) -> Manifest:
            air_code.save(aside / "air_code.safetensors")
            _write_shard(aside, own, listed, _rounded(array, manifest.vector_scale))
            return manifest

        if folder.exists():
            raise KnowledgeBaseError(
                f"{folder.path}: there is a knowledge base already; add to it, or choose another folder"
            )
        with folder.writing():
            if folder.exists():
                raise KnowledgeBaseError(f"{folder.path}: there is a knowledge base already")
            folder.publish(1, fill)
        return cls.open(path)

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._folder.path

    @property
    def manifest(self) -> Manifest:
        """Of the generation that is open."""
        return self._generation.manifest

    @property
    def id(self) -> str:
        """SHA-256 of the manifest in hex; another for every generation."""
        return self._generation.id

    @property
    def name(self) -> str:
        """What hits call the base."""
        return self.manifest.name

    @property
    def tau(self) -> float:
        """How far the code of a picture is from that of its entry, in soft repair: as calibrated, or by default."""
        return self._generation.tau

    @property
    def spec(self) -> IndexSpec:
        """The search index."""
        return self._generation.spec

    @property
    def air_code(self) -> AirCode:
        """The quantiser of its codes."""
        return self._generation.air_code

    @property
    def repairer(self) -> Repairer:
        """What repairs codes with its entries, of which there must be some."""
        return self._generation.repairer

    @property
    def codes(self) -> Codes:
        """uint8 [N, M], an air code an entry."""
        return self._generation.codes

    @property
    def entries(self) -> Iterator[Entry]:
        """All that is known of each entry, in the order of :attr:`codes`."""
        return self._generation.entries

    def __len__(self) -> int:
        return len(self._generation)

    def entry(self, name: str) -> Entry:
        """All that is known of an entry.

        Raises:
            KnowledgeBaseError: If there is none of that name.
        """
        generation = self._generation
        rows = generation.rows_of([name])
        if name not in rows:
            raise KnowledgeBaseError(f"{self.path}: has no entry {name!r}")
        return generation.entry_at(rows[name])

    def search(self, vectors: Vectors, k: int) -> list[Hits]:
        """The nearest entries by cosine.

        Args:
            vectors: float32 [N, D].
            k: How many for each.

        Returns:
            For each vector up to ``k`` answers, best first.

        Raises:
            KnowledgeBaseError: If the vectors have another size or are not finite.
        """
        return self._generation.search(vectors, k)

    def repair_batch(self, received: npt.ArrayLike, rule: Rule | None = None) -> list[Repair]:
        """Which entries were meant by received codes.

        Args:
            received: Codes uint8 [N, M], or LLRs float32 [N, 8 M].
            rule: ``soft`` for LLRs and ``nearest`` for codes by default.

        Raises:
            KnowledgeBaseError: If they are neither, or the base is empty.
        """
        return self._generation.repair(received, rule)

    def refresh(self) -> bool:
        """Move on to the newest generation; returns whether there was one.

        Raises:
            KnowledgeBaseError: If it is damaged; the one that is open stays in use.
        """
        if self._folder.current() == self.manifest.folder:
            return False
        self._generation = Generation.open(self._folder)
        return True

    def known(self, names: Sequence[str]) -> set[str]:
        """Those of ``names`` that are there."""
        return set(self._generation.rows_of(names))

    def batches(self, size: int) -> Iterator[Batch]:
        """Every entry, up to ``size`` at a time, in the order of :attr:`codes`."""
        generation = self._generation
        entries, rows = generation.entries, generation.live
        for start in range(0, len(rows), size):
            here = rows[start : start + size]
            yield Batch(generation.codes_at(here), list(islice(entries, len(here))), generation.vectors_at(here))

    def add(self, vectors: npt.ArrayLike, entries: Iterable[Entry], *, codes: Codes | None = None) -> None:
        """Add entries.

        Args:
            vectors: float32 [N, D].
            entries: One a vector.
            codes: uint8 [N, M], kept as they are; by default the vectors are encoded.

        Raises:
            KnowledgeBaseError: If they do not fit, a name is there already, another process writes, or the disk is
                full; the base is then unchanged.
        """
        array = check_vectors(vectors, self.air_code.dim)
        own = self.air_code.encode(array) if codes is None else check_codes(codes, len(array), self.air_code.size)
        listed = check_entries(entries, len(array))
        if listed:
            self._write(lambda current: self._appended(current, own, listed, array))

    def _appended(
        self, current: Generation, codes: Codes, entries: Sequence[Entry], vectors: Vectors | None
    ) -> Callable[[Path], Manifest]:
        there = current.rows_of([entry.name for entry in entries])
        if there:
            raise KnowledgeBaseError(f"{self.path}: has an entry {next(iter(there))!r} already")
        old = current.manifest
        name = folder_name(old.number + 1)

        def fill(aside: Path) -> Manifest:
            kept = vectors if vectors is not None else self.air_code.decode(codes)
            _write_shard(aside, codes, entries, _rounded(kept, old.vector_scale))
            shards = (*old.shards, Shard(name, len(codes)))
            return replace(old, number=old.number + 1, entries=old.entries + len(codes), shards=shards)

        return fill

    def remove(self, names: Iterable[str]) -> int:
        """Remove entries; returns how many there were. They cost space until :meth:`compact`."""
        listed = list(dict.fromkeys(names))
        removed = 0

        def change(current: Generation) -> Callable[[Path], Manifest] | None:
            nonlocal removed
            rows = list(current.rows_of(listed).values())
            removed = len(rows)
            if not rows:
                return None
            old = current.manifest
            gone = np.union1d(np.setdiff1d(np.arange(current.rows), current.live), np.array(rows, np.int64))

            def fill(aside: Path) -> Manifest:
                write_array(aside / "removed.npy", gone.astype(np.int64))
                files = {name: fact for name, fact in old.files.items() if name != old.removed}
                return replace(
                    old,
                    number=old.number + 1,
                    entries=old.entries - removed,
                    removed=f"{folder_name(old.number + 1)}/removed.npy",
                    files=files,
                )

            return fill

        self._write(change)
        return removed

    def named(self, label: str) -> list[str]:
        """The names of the entries with a label."""
        generation = self._generation
        return [generation.entry_at(row).name for row in generation.rows_labelled(label)]

    def compact(self) -> None:
        """Write all shards as one, without what was removed, and delete what no other generation needs."""

        def change(current: Generation) -> Callable[[Path], Manifest]:
            old = current.manifest
            name = folder_name(old.number + 1)

            def fill(aside: Path) -> Manifest:
                self.air_code.save(aside / "air_code.safetensors")
                # As they are: rounding them once more would add to the error of the first time.
                _write_shard(aside, current.codes, current.entries, current.rounded_vectors)
                return replace(
                    old,
                    number=old.number + 1,
                    air_code_file=f"{name}/air_code.safetensors",
                    shards=(Shard(name, len(current)),),
                    removed="",
                    files={},
                )

            return fill

        self._write(change, prune=True)

    def configure(self, *, index: str | None = None, tau: float | None = None, threshold: float | None = None) -> None:
        """Change the search index, or what soft repair was calibrated to; what is None stays."""
        if index:
            IndexSpec.parse(index)

        def change(current: Generation) -> Callable[[Path], Manifest]:
            old = current.manifest
            new = replace(
                old,
                number=old.number + 1,
                index=old.index if index is None else index,
                tau=old.tau if tau is None else tau,
                threshold=old.threshold if threshold is None else threshold,
            )
            return lambda _: new

        self._write(change)

    def merge(self, other: KnowledgeBase, names: Iterable[str] | None = None) -> Merged:
        """Add entries of another base with the same air code; each keeps where it came from.

        An entry whose name and code are there already is a duplicate and is left out.

        Args:
            other: The other base.
            names: Which of its entries; all by default.

        Raises:
            KnowledgeBaseError: If the air codes differ, there is no such entry, or a name is there with another code.
        """
        return self.receive(other.parcel(names))

    def parcel(self, names: Iterable[str] | None = None) -> Parcel:
        """Entries to be sent to another base, those called ``names`` or all.

        Raises:
            KnowledgeBaseError: If there is no such entry.
        """
        return Parcel.of(self._generation, self.path, names)

    def receive(self, parcel: Parcel) -> Merged:
        """Add what another base has sent, by the rules of :meth:`merge`; nothing in it is trusted.

        Raises:
            KnowledgeBaseError: If the air codes differ, it does not fit, or a name is there with another code.
        """
        merged = Merged()

        def change(current: Generation) -> Callable[[Path], Manifest] | None:
            nonlocal merged
            fresh, merged = parcel.new_to(current, self.path)
            return self._appended(current, fresh.codes, fresh.entries, fresh.vectors) if len(fresh) else None

        self._write(change)
        return merged

    def snapshot(self, path: str | Path) -> KnowledgeBase:
        """Copy the generation that is open to the new folder ``path``."""
        target = Path(path)
        manifest = self.manifest
        if target.exists():
            raise KnowledgeBaseError(f"{target}: exists already")
        folder = StoreFolder(target)
        with folder.writing():
            for name in (*manifest.files, f"{manifest.folder}/manifest.json"):
                (target / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(self.path / name, target / name)
            folder.point_to(manifest.folder)
        return KnowledgeBase.open(target)

    def _write(self, change: Callable[[Generation], Callable[[Path], Manifest] | None], prune: bool = False) -> None:
        """Write a generation that ``change`` makes of the newest, and move on to it."""
        with self._folder.writing():
            current = self._generation
            if self._folder.current() != current.manifest.folder:
                current = Generation.open(self._folder)
            fill = change(current)
            if fill is not None:
                self._folder.publish(current.manifest.number + 1, fill)
            if prune:
                self._folder.prune()
        self._generation = Generation.open(self._folder)


def _rounded(vectors: Vectors, scale: float) -> npt.NDArray[np.int8] | None:
    if not scale:
        return None
    rounded: npt.NDArray[np.int8] = np.clip(np.rint(_unit(vectors) * np.float32(scale)), -127, 127).astype(np.int8)
    return rounded


def _unit(vectors: Vectors) -> Vectors:
    """The vectors at unit norm: searches know no other, and one scale must fit all."""
    unit = np.array(vectors, np.float32)
    faiss.normalize_L2(unit)
    return unit


def _write_shard(aside: Path, codes: Codes, entries: Iterable[Entry], vectors: npt.NDArray[np.int8] | None) -> None:
    write_array(aside / "codes.npy", codes)
    write_entries(aside / "entries.sqlite", entries)
    if vectors is not None:
        write_array(aside / "vectors.npy", vectors)
