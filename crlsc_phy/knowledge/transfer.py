"""Parcels of entries that go from one knowledge base into another, by merging or publishing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge.air_code import Codes, Vectors
from crlsc_phy.knowledge.base import Entry, check_codes, check_entries, check_vectors

if TYPE_CHECKING:
    from crlsc_phy.knowledge.generation import Generation

__all__ = ["Merged", "Parcel"]


@dataclass(frozen=True, slots=True)
class Merged:
    """Result of adding the entries of another base.

    Attributes:
        added: Number of entries that were added.
        duplicates: Number of entries left out because name and code were there already.
        alike: Pairs of names: of an added entry, and of an older one with the same label and code.
    """

    added: int = 0
    duplicates: int = 0
    alike: tuple[tuple[str, str], ...] = ()

    def __add__(self, other: Merged) -> Merged:
        return Merged(self.added + other.added, self.duplicates + other.duplicates, self.alike + other.alike)


@dataclass(frozen=True, slots=True)
class Parcel:
    """Entries taken from a base, with their codes and vectors.

    Attributes:
        origin: The base, as ``NAME@ID`` with the first 12 digits of its id.
        air_code: Id of its air code.
        codes: Air codes, uint8 [N, M].
        entries: N entries.
        vectors: float32 [N, D] of unit norm; None if the base stores none.
    """

    origin: str
    air_code: str
    codes: Codes
    entries: Sequence[Entry]
    vectors: Vectors | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def part(self, places: Sequence[int]) -> Parcel:
        """Return a parcel with the entries at some places of this one."""
        chosen = np.array(places, np.int64)
        return replace(
            self,
            codes=self.codes[chosen],
            entries=[self.entries[place] for place in places],
            vectors=None if self.vectors is None else self.vectors[chosen],
        )

    def new_to(self, generation: Generation, path: Path) -> tuple[Parcel, Merged]:
        """Return the entries that the base at ``path`` lacks, each with its origin, and the result of adding them.

        The parcel may come from an untrusted machine.

        Raises:
            KnowledgeBaseError: If the air codes differ, the arrays do not match, or a name is in use with another code.
        """
        self._check(generation, path)
        there = generation.rows_of([entry.name for entry in self.entries])
        fresh = []
        for place, entry in enumerate(self.entries):
            if entry.name not in there:
                fresh.append(place)
            elif not np.array_equal(generation.codes_at(np.array([there[entry.name]]))[0], self.codes[place]):
                raise KnowledgeBaseError(f"{path}: has an entry {entry.name!r} with another code; rename one of them")
        lacking = self.part(fresh)
        moved = [replace(entry, origin=entry.origin or f"{self.origin}/{entry.name}") for entry in lacking.entries]
        lacking = replace(lacking, entries=moved)
        return lacking, Merged(len(fresh), len(self) - len(fresh), lacking._alike(generation))

    def _check(self, generation: Generation, path: Path) -> None:
        air_code = generation.air_code
        if self.air_code != air_code.id:
            raise KnowledgeBaseError(
                f"{self.origin} has the air code {self.air_code[:8]}, {path} has {air_code.id[:8]}; "
                "encode its images again"
            )
        check_codes(self.codes, len(self), air_code.size)
        check_entries(self.entries, len(self if self.vectors is None else check_vectors(self.vectors, air_code.dim)))

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
