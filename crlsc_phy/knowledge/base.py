"""What every knowledge base offers, wherever its entries lie, and the words it answers with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, overload

import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge.air_code import AirCode, Codes, Vectors

__all__ = [
    "Batch",
    "Entry",
    "Hit",
    "Hits",
    "KnowledgeSource",
    "Repair",
    "Repairing",
    "Rule",
    "check_codes",
    "check_entries",
    "check_vectors",
]

Rule = Literal["soft", "nearest", "hamming"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one vector.

    Attributes:
        name: Unique in the base, such as ``google/1f600``.
        label: What it shows; entries may share it.
        source: Where it comes from.
        licence: SPDX identifier of what it was made from.
        caption: A sentence about it.
        path: Where the full picture is, as the owner of the base knows it.
        thumbnail: A small picture, an encoded image file.
        origin: The base that it was published from, and its name there; empty where it was first entered.
    """

    name: str
    label: str
    source: str = ""
    licence: str = ""
    caption: str = ""
    path: str = ""
    thumbnail: bytes = b""
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some entries of a base with all that it holds of them, to be kept by another as they are.

    Attributes:
        codes: uint8 [N, M].
        entries: One a code.
        vectors: float32 [N, D] of unit norm, those that are kept or what the codes decode to.
    """

    codes: Codes
    entries: Sequence[Entry]
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a search.

    Attributes:
        name, label: Of the entry.
        score: Cosine with the query, -1 to 1.
        base: Name of the knowledge base that holds the entry.
    """

    name: str
    label: str
    score: float
    base: str = ""


class Hits(Sequence[Hit]):
    """The answers to one query, best first; names and labels are read when asked for.

    Args:
        positions: int64 [k], the entries' places in the base.
        scores: float32 [k], cosines.
        read: Gives name and label of positions.
        base: Name of the base.
    """

    __slots__ = ("_base", "_hits", "_read", "positions", "scores")

    def __init__(
        self,
        positions: npt.NDArray[np.int64],
        scores: npt.NDArray[np.float32],
        read: Callable[[npt.NDArray[np.int64]], list[tuple[str, str]]],
        base: str = "",
    ) -> None:
        self.positions, self.scores = positions, scores
        self._read, self._base = read, base
        self._hits: list[Hit] | None = None

    def _all(self) -> list[Hit]:
        if self._hits is None:
            named = self._read(self.positions)
            self._hits = [
                Hit(name, label, float(score), self._base)
                for (name, label), score in zip(named, self.scores, strict=True)
            ]
        return self._hits

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> list[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | list[Hit]:
        return self._all()[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._all())

    def __repr__(self) -> str:
        return f"Hits({self._all()!r})"


@dataclass(frozen=True, slots=True)
class Repair:
    """What a knowledge base makes of a received code.

    Attributes:
        code: uint8 [M], that of the entry, or as received where the base knows nothing like it.
        entry: The entry most likely meant, whether or not it is near enough; its score is the cosine with the code as
            received.
        known: Whether the entry is near enough to be believed.
        distance: Of the received code from the entry, by the rule: squared L2 for ``nearest``, bits for ``hamming``,
            minus the log-likelihood ratio to an unknown code for ``soft``.
        confidence: Share of the entry among all entries that could be meant, 0 to 1; an ``unknown`` one counts too.
    """

    code: Codes
    entry: Hit
    known: bool
    distance: float
    confidence: float


class Repairing(ABC):
    """Repairs one code as it does many."""

    @abstractmethod
    def repair_batch(self, received: npt.ArrayLike, rule: Rule | None = None) -> list[Repair]:
        """Which entries were meant by received codes."""

    def repair(self, received: npt.ArrayLike, rule: Rule | None = None) -> Repair:
        """Which entry was meant by a received code; see :meth:`repair_batch`.

        Args:
            received: A code uint8 [M], or LLRs log p(1)/p(0) float32 [8 M], most significant bits first.
            rule: ``soft``, ``nearest`` or ``hamming``.
        """
        return self.repair_batch(np.atleast_1d(np.asarray(received))[None], rule)[0]


class KnowledgeSource(Protocol):
    """What can be searched: a local base, one behind Milvus, or several together."""

    @property
    def id(self) -> str:
        """Identifies the state of the base; changes with every addition and removal."""
        ...

    @property
    def air_code(self) -> AirCode:
        """The quantiser of its codes."""
        ...

    def __len__(self) -> int: ...

    def search(self, vectors: Vectors, k: int) -> list[Hits]:
        """The ``k`` nearest entries of each vector."""
        ...

    def entry(self, name: str) -> Entry:
        """All that is known of an entry."""
        ...


def check_vectors(vectors: npt.ArrayLike, dim: int) -> Vectors:
    """``vectors`` as contiguous float32 [N, dim].

    Raises:
        KnowledgeBaseError: If they have another shape, or are not finite.
    """
    try:
        array = np.ascontiguousarray(vectors, np.float32)
    except (TypeError, ValueError) as error:
        raise KnowledgeBaseError(f"vectors are no numbers: {error}") from None
    if array.ndim != 2 or array.shape[1] != dim:
        raise KnowledgeBaseError(f"vectors are {list(array.shape)}; this base takes [N, {dim}]")
    if not np.isfinite(array).all():
        raise KnowledgeBaseError("vectors hold NaN or infinite values")
    return array


def check_codes(codes: Codes, count: int, size: int) -> Codes:
    """``codes`` if they are uint8 [count, size].

    Raises:
        KnowledgeBaseError: If they are not.
    """
    if codes.dtype != np.uint8 or codes.shape != (count, size):
        raise KnowledgeBaseError(f"codes are {codes.dtype} {list(codes.shape)}, not uint8 {[count, size]}")
    return codes


def check_entries(entries: Iterable[Entry], count: int) -> list[Entry]:
    """``entries`` as a list.

    Raises:
        KnowledgeBaseError: If there are not ``count`` of them, or two share a name.
    """
    listed = list(entries)
    if len(listed) != count:
        raise KnowledgeBaseError(f"{count} vectors for {len(listed)} entries")
    seen: set[str] = set()
    for entry in listed:
        if entry.name in seen:
            raise KnowledgeBaseError(f"two entries share the name {entry.name!r}")
        seen.add(entry.name)
    return listed
