"""Entries on their way from one base into another: what merging and publishing both do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge.air_code import Codes, Vectors
from crlsc_phy.knowledge.base import Entry, check_entries, check_vectors

if TYPE_CHECKING:
    from crlsc_phy.knowledge.generation import Generation

__all__ = ["Merged", "Parcel"]


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of the entries that another base brought.

    Attributes:
        added: How many were added.
        duplicates: How many were there already, with the same name and code.
        alike: Of those added, the ones whose label and code an entry of another name had already: both names.
    """

    added: int = 0
    duplicates: int = 0
    alike: tuple[tuple[str, str], ...] = ()

    def __add__(self, other: Merged) -> Merged:
        return Merged(self.added + other.added, self.duplicates + other.duplicates, self.alike + other.alike)


@dataclass(frozen=True, slots=True)
class Parcel:
    """Entries as they leave a base.

    Attributes:
        origin: The base that they leave, as ``NAME@id``.
        air_code: Id of its air code.
        codes: uint8 [N, M].
        entries: N of them.
        vectors: float32 [N, D], of unit norm, or None if the base keeps none.
    """

    origin: str
    air_code: str
    codes: Codes
    entries: Sequence[Entry]
    vectors: Vectors | None = None

    @classmethod
    def of(cls, generation: Generation, path: Path, names: Iterable[str] | None = None) -> Parcel:
        """The entries of a generation of the base in ``path``, those called ``names`` or all.

        Raises:
            KnowledgeBaseError: If there is no such entry.
        """
        rows = generation.live
        if names is not None:
            listed = list(dict.fromkeys(names))
            found = generation.rows_of(listed)
            absent = [name for name in listed if name not in found]
            if absent:
                raise KnowledgeBaseError(f"{path}: has no entry {absent[0]!r}")
            rows = np.array([found[name] for name in listed], np.int64)
        manifest = generation.manifest
        return cls(
            origin=f"{manifest.name}@{generation.id[:12]}",
            air_code=manifest.air_code,
            codes=generation.codes_at(rows),
            entries=[generation.entry_at(int(row)) for row in rows],
            vectors=generation.vectors_at(rows) if manifest.vector_scale else None,
        )

    def __len__(self) -> int:
        return len(self.entries)

    def part(self, places: Sequence[int]) -> Parcel:
        """The entries at some places."""
        chosen = np.array(places, np.int64)
        return replace(
            self,
            codes=self.codes[chosen],
            entries=[self.entries[place] for place in places],
            vectors=None if self.vectors is None else self.vectors[chosen],
        )

    def new_to(self, generation: Generation, path: Path) -> tuple[Parcel, Merged]:
        """What of it the base in ``path`` lacks, its origin noted in each entry, and what is to be told of all.

        Nothing in the parcel is trusted.

        Raises:
            KnowledgeBaseError: If its air code is another, its parts do not fit, or a name is there with another code.
        """
        self._check(generation, path)
        there = generation.rows_of([entry.name for entry in self.entries])
        fresh = []
        for place, entry in enumerate(self.entries):
            if entry.name not in there:
                fresh.append(place)
            elif not np.array_equal(generation.codes_at(np.array([there[entry.name]]))[0], self.codes[place]):
                raise KnowledgeBaseError(f"{path}: has an entry {entry.name!r} with another code; rename one")
        lacking = self.part(fresh)
        moved = [
            entry if entry.origin else replace(entry, origin=f"{self.origin}/{entry.name}") for entry in lacking.entries
        ]
        lacking = replace(lacking, entries=moved)
        return lacking, Merged(len(fresh), len(self) - len(fresh), lacking._alike(generation))

    def _check(self, generation: Generation, path: Path) -> None:
        air_code = generation.air_code
        if self.air_code != air_code.id:
            raise KnowledgeBaseError(
                f"{self.origin} has the air code {self.air_code[:8]}, {path} has {air_code.id[:8]}; "
                "encode its images anew"
            )
        if self.codes.dtype != np.uint8 or self.codes.shape != (len(self), air_code.size):
            raise KnowledgeBaseError(
                f"codes are {list(self.codes.shape)} for {len(self)} entries; {path} takes uint8 [N, {air_code.size}]"
            )
        check_entries(self.entries, len(self.codes))
        if self.vectors is not None and len(check_vectors(self.vectors, air_code.dim)) != len(self):
            raise KnowledgeBaseError(f"{len(self.vectors)} vectors for {len(self)} entries")

    def _alike(self, generation: Generation) -> tuple[tuple[str, str], ...]:
        alike = []
        known: dict[str, dict[bytes, int]] = {}
        for entry, code in zip(self.entries, self.codes, strict=True):
            if entry.label not in known:
                rows = np.array(generation.rows_labelled(entry.label), np.int64)
                codes = generation.codes_at(rows) if len(rows) else ()
                known[entry.label] = {code.tobytes(): row for code, row in zip(codes, rows.tolist(), strict=True)}
            row = known[entry.label].get(code.tobytes())
            if row is not None:
                alike.append((entry.name, generation.entry_at(row).name))
        return tuple(alike)
