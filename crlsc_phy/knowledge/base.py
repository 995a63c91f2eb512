"""Entries, settings and answers that all kinds of knowledge bases share, and checks of their input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypedDict, overload

import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge.air_code import AirCode, Codes, Vectors

__all__ = [
    "THRESHOLD",
    "Batch",
    "Entry",
    "Hit",
    "Hits",
    "KnowledgeSource",
    "Repair",
    "Repairing",
    "Rule",
    "Settings",
    "check_batch",
    "check_codes",
    "check_entries",
    "check_vectors",
]

Rule = Literal["soft", "nearest", "hamming"]
THRESHOLD = 3.0
"""Log-likelihood ratio from which repair trusts an entry by default: 20 times as likely as an unknown code."""


class Settings(TypedDict, total=False):
    """Settings of a new knowledge base, all optional.

    Attributes:
        name: Name of the base in search results. By default that of its folder or collection.
        keep_vectors: Whether to store the vectors too and search among them; otherwise searches use the decoded codes.
            A folder stores them as int8. False by default.
        index: Search index, in the syntax of :class:`~crlsc_phy.knowledge.index.IndexSpec` for a folder, and
            ``KIND[;option=value]`` for Milvus. Chosen by size by default.
        aligned_to: For a private base, the id of the shared base that it belongs to.
        tau: Width of the soft rule, see :mod:`crlsc_phy.knowledge.repair`. By default it is derived from the distances
            of the centroids.
        threshold: Log-likelihood ratio, in nats, from which repair trusts an entry. 3 by default.
    """

    name: str
    keep_vectors: bool
    index: str
    aligned_to: str
    tau: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Entry:
    """Metadata of one vector of a knowledge base.

    Attributes:
        name: Unique in the base, such as ``google/1f600``.
        label: Name of the thing shown; several entries may share it.
        source: Origin of the picture, such as a data set.
        licence: SPDX identifier of the picture's licence.
        caption: A sentence about the picture.
        path: Location of the full picture on the machine of the base's owner.
        thumbnail: A small picture, as the bytes of an image file.
        origin: Base and name that the entry was published from; empty in the base where it was first added.
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
    """Entries with their codes and vectors.

    Attributes:
        codes: Air codes, uint8 [N, M].
        entries: N entries.
        vectors: float32 [N, D]; of unit norm when they come from a base, which gives its stored vectors or else the
            decoded codes.
    """

    codes: Codes
    entries: Sequence[Entry]
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a search.

    Attributes:
        name: Name of the entry.
        label: Its label.
        score: Cosine of its vector with the query, -1 to 1.
        base: Name of the knowledge base that holds it.
    """

    name: str
    label: str
    score: float
    base: str = ""


class Hits(Sequence[Hit]):
    """Results for one query, best first; names and labels are read on first use.

    Args:
        positions: Rows of the entries in the base, int64 [k].
        scores: Cosines with the query, float32 [k].
        read: Returns name and label of each of some positions.
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
    """Repaired air code.

    Attributes:
        code: Code of the entry, uint8 [M]; the code as received if the entry is not trusted.
        entry: The most likely entry, trusted or not. Its score is its cosine with the code as received.
        known: Whether the entry is trusted, i.e. its log-likelihood ratio reaches the threshold of the base.
        distance: Distance of the received code from the entry: squared L2 for the rule ``nearest``, bits for
            ``hamming``, minus the log-likelihood ratio to an unknown code for ``soft``.
        confidence: Probability of the entry among all entries and an unknown code, 0 to 1.
    """

    code: Codes
    entry: Hit
    known: bool
    distance: float
    confidence: float


class Repairing(ABC):
    """Base class of knowledge bases that repair received codes."""

    @abstractmethod
    def repair_batch(self, received: npt.ArrayLike, rule: Rule | None = None) -> list[Repair]:
        """Repair several received codes, uint8 [N, M] or LLRs float32 [N, 8 M]; see :meth:`repair`."""

    def repair(self, received: npt.ArrayLike, rule: Rule | None = None) -> Repair:
        """Find the entry that a received code was most likely sent for.

        Args:
            received: Air code uint8 [M], or LLRs log p(1)/p(0) of its bits, float32 [8 M], most significant bit first.
            rule: ``soft``, ``nearest`` or ``hamming``, see :mod:`crlsc_phy.knowledge.repair`. By default ``soft`` for
                LLRs and ``nearest`` for a code.

        Raises:
            KnowledgeBaseError: If ``received`` is neither, there is no such rule, or the base is empty.
        """
        return self.repair_batch(np.atleast_1d(np.asarray(received))[None], rule)[0]


class KnowledgeSource(Protocol):
    """Interface of a searchable knowledge base, in a folder or behind Milvus."""

    @property
    def id(self) -> str:
        """Identifier of the state of the base; every addition and removal changes it."""

    @property
    def air_code(self) -> AirCode:
        """Quantiser of its codes."""

    def __len__(self) -> int: ...

    def search(self, vectors: Vectors, k: int) -> list[Hits]:
        """Return the ``k`` nearest entries of each vector, float32 [N, D]."""

    def entry(self, name: str) -> Entry:
        """Return the entry with a name."""


def check_vectors(vectors: npt.ArrayLike, dim: int) -> Vectors:
    """Return ``vectors`` as contiguous float32 [N, dim].

    Raises:
        KnowledgeBaseError: If they have another shape or are not finite.
    """
    try:
        array = np.ascontiguousarray(vectors, np.float32)
    except (TypeError, ValueError) as error:
        raise KnowledgeBaseError(f"vectors are not numbers ({error}); give float32 [N, {dim}]") from None
    if array.ndim != 2 or array.shape[1] != dim:
        raise KnowledgeBaseError(f"vectors have shape {list(array.shape)}; this knowledge base takes [N, {dim}]")
    if not np.isfinite(array).all():
        raise KnowledgeBaseError("vectors contain NaN or infinite values")
    return array


def check_codes(codes: Codes, count: int, size: int) -> Codes:
    """Return ``codes`` if they are uint8 [count, size].

    Args:
        codes: Air codes.
        count: Number of codes that is needed.
        size: Bytes in each.

    Raises:
        KnowledgeBaseError: If they have another shape or type.
    """
    if codes.dtype != np.uint8 or codes.shape != (count, size):
        raise KnowledgeBaseError(f"codes are {codes.dtype} {list(codes.shape)}; they must be uint8 {[count, size]}")
    return codes


def check_entries(entries: Iterable[Entry], count: int) -> list[Entry]:
    """Return ``entries`` as a list.

    Raises:
        KnowledgeBaseError: If there are not ``count`` of them, or two have the same name.
    """
    listed = list(entries)
    if len(listed) != count:
        raise KnowledgeBaseError(f"there are {count} vectors for {len(listed)} entries; give one vector for each entry")
    names = Counter(entry.name for entry in listed)
    if len(names) < count:
        raise KnowledgeBaseError(f"two entries have the name {names.most_common(1)[0][0]!r}; names must be unique")
    return listed


def check_batch(
    air_code: AirCode, vectors: npt.ArrayLike, entries: Iterable[Entry], codes: Codes | None = None
) -> Batch:
    """Check entries that are to be added to a knowledge base, and encode them.

    Args:
        air_code: Quantiser of the base.
        vectors: float32 [N, D].
        entries: N entries.
        codes: Their air codes, uint8 [N, M]; by default the vectors are encoded.

    Raises:
        KnowledgeBaseError: If shapes or numbers do not match, vectors are not finite, or two entries share a name.
    """
    array = check_vectors(vectors, air_code.dim)
    listed = check_entries(entries, len(array))
    own = air_code.encode(array) if codes is None else check_codes(codes, len(array), air_code.size)
    return Batch(own, listed, array)
