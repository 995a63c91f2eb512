"""Knowledge base in a folder of this machine.

Readers use one generation at a time and take no lock; :meth:`KnowledgeBase.refresh` opens the newest one. One process
at a time may write. When a method that writes has returned, the change is on the disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import KnowledgeBaseError, safe_text
from crlsc_phy.knowledge import changes
from crlsc_phy.knowledge.air_code import AirCode, Codes, Vectors
from crlsc_phy.knowledge.base import Batch, Entry, Hits, Repair, Repairing, Rule, Settings, check_batch
from crlsc_phy.knowledge.folder import StoreFolder
from crlsc_phy.knowledge.generation import Generation
from crlsc_phy.knowledge.index import IndexSpec
from crlsc_phy.knowledge.manifest import Manifest
from crlsc_phy.knowledge.repair import Repairer
from crlsc_phy.knowledge.transfer import Merged, Parcel

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["KnowledgeBase"]

Fill = Callable[[Path], Manifest]
"""Writes the files of a generation into a folder."""


class KnowledgeBase(Repairing):
    """Knowledge base in a folder; use :meth:`open` or :meth:`create`."""

    def __init__(self, folder: StoreFolder, generation: Generation) -> None:
        self._folder, self._generation = folder, generation

    @classmethod
    def open(cls, path: str | Path) -> KnowledgeBase:
        """Open the knowledge base in a folder, and check the hash of every file.

        Files beyond 8 MB are hashed once, and then recognised by size and modification time;
        :func:`crlsc_phy.knowledge.verify.verify` hashes them again.

        Raises:
            KnowledgeBaseError: If there is no base, a file is missing or damaged, or the format is another one.

        >>> kb = KnowledgeBase.open("models/default/skb")
        >>> kb.codes.shape[1], kb.codes.dtype
        (16, dtype('uint8'))
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
        **settings: Unpack[Settings],
    ) -> KnowledgeBase:
        """Make a knowledge base in a new folder.

        Args:
            path: Folder to make.
            air_code: Quantiser of its codes.
            vectors: float32 [N, D]; N may be 0.
            entries: N entries.
            codes: Their air codes, uint8 [N, M]; by default the vectors are encoded.
            **settings: See :class:`~crlsc_phy.knowledge.base.Settings`.

        Raises:
            KnowledgeBaseError: If the folder holds a base already or cannot be written, shapes or numbers do not match,
                or two entries have the same name.
        """
        folder = StoreFolder(path)
        batch = check_batch(air_code, vectors, entries, codes)
        if settings.get("index"):
            IndexSpec.parse(settings["index"])
        name = safe_text(settings.get("name") or folder.path.resolve().name)
        folder.check_new()
        with folder.writing():
            folder.check_new()
            folder.publish(1, partial(changes.found, name, air_code, batch, settings))
        return cls.open(path)

    @property
    def path(self) -> Path:
        """Folder of the base."""
        return self._folder.path

    @property
    def manifest(self) -> Manifest:
        """Manifest of the generation in use."""
        return self._generation.manifest

    @property
    def id(self) -> str:
        """SHA-256 of the manifest in hex; every generation has another."""
        return self._generation.id

    @property
    def name(self) -> str:
        """Name of the base in search results."""
        return self.manifest.name

    @property
    def tau(self) -> float:
        """Width of the soft rule of repair, calibrated or by default."""
        return self._generation.tau

    @property
    def spec(self) -> IndexSpec:
        """Search index."""
        return self._generation.spec

    @property
    def air_code(self) -> AirCode:
        """Quantiser of the codes."""
        return self._generation.air_code

    @property
    def repairer(self) -> Repairer:
        """Repair with the entries of this base, which must not be empty."""
        return self._generation.repairer

    @property
    def codes(self) -> Codes:
        """Air codes of the entries, uint8 [N, M]."""
        return self._generation.codes

    @property
    def entries(self) -> Iterator[Entry]:
        """The entries, in the order of :attr:`codes`."""
        return self._generation.entries

    def __len__(self) -> int:
        return len(self._generation)

    def entry(self, name: str) -> Entry:
        """Return the entry with a name.

        Raises:
            KnowledgeBaseError: If there is none.
        """
        generation = self._generation
        rows = generation.rows_of([name])
        if name not in rows:
            raise KnowledgeBaseError(f"{self.path}: has no entry {name!r}")
        return generation.entry_at(rows[name])

    def search(self, vectors: Vectors, k: int) -> list[Hits]:
        """Find the nearest entries by cosine.

        Args:
            vectors: Queries, float32 [N, D].
            k: Number of results for each query.

        Returns:
            ``k`` results for each query, best first; all entries if the base has fewer.

        Raises:
            KnowledgeBaseError: If the vectors have another size or are not finite, or ``k`` is below 1.

        >>> kb = KnowledgeBase.open("models/default/skb")
        >>> query = kb.air_code.decode(kb.codes[:1])
        >>> hits = kb.search(query, k=3)[0]
        >>> len(hits), hits[0].label
        (3, 'hash key')
        """
        return self._generation.search(vectors, k)

    def repair_batch(self, received: npt.ArrayLike, rule: Rule | None = None) -> list[Repair]:
        """Repair several received codes, uint8 [N, M] or LLRs float32 [N, 8 M]; see :meth:`repair`."""
        return self._generation.repair(received, rule)

    def refresh(self) -> bool:
        """Open the newest generation if it is not in use yet; return whether there was a newer one.

        Raises:
            KnowledgeBaseError: If it is damaged. The generation in use stays.
        """
        if self._folder.current() == self.manifest.folder:
            return False
        self._generation = Generation.open(self._folder)
        return True

    def known(self, names: Sequence[str]) -> set[str]:
        """Return those of ``names`` that the base has."""
        return set(self._generation.rows_of(names))

    def named(self, label: str) -> list[str]:
        """Return the names of the entries with a label."""
        generation = self._generation
        return [generation.entry_at(row).name for row in generation.rows_labelled(label)]

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield all entries, up to ``size`` at a time, in the order of :attr:`codes`."""
        generation = self._generation
        entries, rows = generation.entries, generation.live
        for start in range(0, len(rows), size):
            here = rows[start : start + size]
            yield Batch(generation.codes_at(here), list(islice(entries, len(here))), generation.vectors_at(here))

    def add(self, vectors: npt.ArrayLike, entries: Iterable[Entry], *, codes: Codes | None = None) -> None:
        """Add entries.

        Args:
            vectors: float32 [N, D].
            entries: N entries.
            codes: Their air codes, uint8 [N, M]; by default the vectors are encoded.

        Raises:
            KnowledgeBaseError: If shapes or numbers do not match, a name is in use, another process is writing, or the
                disk is full. The base is then unchanged.
        """
        batch = check_batch(self.air_code, vectors, entries, codes)

        def change(current: Generation) -> Fill:
            there = current.rows_of([entry.name for entry in batch.entries])
            if there:
                raise KnowledgeBaseError(f"{self.path}: has an entry {next(iter(there))!r} already; use another name")
            return partial(changes.append, current, batch.codes, batch.entries, batch.vectors)

        if batch.entries:
            self._write(change)

    def remove(self, names: Iterable[str]) -> int:
        """Remove entries, and return how many of ``names`` there were. Their space is freed by :meth:`compact`."""
        listed = list(dict.fromkeys(names))
        removed = 0

        def change(current: Generation) -> Fill | None:
            nonlocal removed
            rows = current.rows_of(listed).values()
            removed = len(rows)
            return partial(changes.remove, current, rows) if removed else None

        self._write(change)
        return removed

    def compact(self) -> None:
        """Free the space of removed entries and of earlier generations."""
        self._write(lambda current: partial(changes.compact, current), prune=True)

    def configure(self, *, index: str | None = None, tau: float | None = None, threshold: float | None = None) -> None:
        """Change settings; those that are None stay.

        Args:
            index: Search index, in the syntax of :class:`~crlsc_phy.knowledge.index.IndexSpec`; empty to choose it by
                size.
            tau: Width of the soft rule of repair, in units of the vectors.
            threshold: Log-likelihood ratio, in nats, from which repair trusts an entry.

        Raises:
            KnowledgeBaseError: If the index cannot be parsed, or the folder cannot be written.
        """
        if index:
            IndexSpec.parse(index)
        given = {"index": index, "tau": tau, "threshold": threshold}
        changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}

        def change(current: Generation) -> Fill:
            manifest = replace(current.manifest, number=current.manifest.number + 1, **changed)
            return lambda _: manifest

        self._write(change)

    def merge(self, other: KnowledgeBase, names: Iterable[str] | None = None) -> Merged:
        """Add entries of another base that has the same air code. Each entry records its origin.

        Entries whose name and code this base has already are left out.

        Args:
            other: Base to take them from.
            names: Names of the entries; all by default.

        Raises:
            KnowledgeBaseError: If the air codes differ, ``other`` lacks an entry, or a name is in use with another
                code.
        """
        return self.receive(other.parcel(names))

    def parcel(self, names: Iterable[str] | None = None) -> Parcel:
        """Return entries for another base: those called ``names``, or all.

        Raises:
            KnowledgeBaseError: If an entry does not exist.
        """
        generation, manifest = self._generation, self._generation.manifest
        rows = generation.live
        if names is not None:
            listed = list(dict.fromkeys(names))
            found = generation.rows_of(listed)
            absent = [name for name in listed if name not in found]
            if absent:
                raise KnowledgeBaseError(f"{self.path}: has no entry {absent[0]!r}")
            rows = np.array([found[name] for name in listed], np.int64)
        return Parcel(
            origin=f"{manifest.name}@{generation.id[:12]}",
            air_code=manifest.air_code,
            codes=generation.codes_at(rows),
            entries=[generation.entry_at(int(row)) for row in rows],
            vectors=generation.vectors_at(rows) if manifest.keep_vectors else None,
        )

    def receive(self, parcel: Parcel) -> Merged:
        """Add the entries of a parcel, by the rules of :meth:`merge`. The parcel may come from an untrusted machine.

        Raises:
            KnowledgeBaseError: If the air codes differ, its arrays do not match, or a name is in use with another code.
        """
        merged = Merged()

        def change(current: Generation) -> Fill | None:
            nonlocal merged
            fresh, merged = parcel.new_to(current, self.path)
            return partial(changes.append, current, fresh.codes, fresh.entries, fresh.vectors) if len(fresh) else None

        self._write(change)
        return merged

    def snapshot(self, path: str | Path) -> KnowledgeBase:
        """Copy the generation in use to the new folder ``path``, and open the copy.

        Raises:
            KnowledgeBaseError: If ``path`` exists or cannot be written.
        """
        target = Path(path)
        manifest = self.manifest
        if target.exists():
            raise KnowledgeBaseError(f"{target}: exists already; choose another folder")
        folder = StoreFolder(target)
        with folder.writing():
            for name in (*manifest.files, f"{manifest.folder}/manifest.json"):
                (target / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(self.path / name, target / name)
            folder.point_to(manifest.folder)
        return KnowledgeBase.open(target)

    def _write(self, change: Callable[[Generation], Fill | None], prune: bool = False) -> None:
        """Write the generation that ``change`` makes of the newest one, None for no change, and use it."""
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
