"""An open generation of a knowledge base, which never changes and is safe to use from several threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import index as indexes
from crlsc_phy.knowledge.air_code import AirCode, Codes, Vectors
from crlsc_phy.knowledge.base import Entry, Hit, Hits, Repair, Rule, check_vectors
from crlsc_phy.knowledge.folder import CACHE, StoreFolder
from crlsc_phy.knowledge.index_cache import kept_index
from crlsc_phy.knowledge.manifest import Manifest
from crlsc_phy.knowledge.metadata import EntryTable
from crlsc_phy.knowledge.repair import Repairer, code_or_llrs, default_tau

__all__ = ["Generation"]

# The index of a base of up to this size is built faster than read: it holds the live rows alone and is not cached.
_LARGEST_UNCACHED = indexes.LARGEST_FLAT
# Pairs of a query and a row that are compared at a time: 64 MB of cosines.
_MOST_COMPARED = 1 << 24
_Answer = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
# NumPy parses headers with ast, which in Python 3.11 sometimes raises SystemError when two threads use it at once.
_READING_HEADERS = threading.Lock()
# np.load would also open zip files and pickles.
_open_array: Any = np.lib.format.open_memmap


class Generation:
    """An open generation.

    Args:
        folder: Folder of the base.
        manifest: Manifest of the generation, whose files have been checked.
        id: SHA-256 of the manifest in hex.

    Attributes:
        manifest, id: As given.
        air_code: Quantiser of its codes.
        rows: Number of rows, removed ones included.

    Raises:
        KnowledgeBaseError: If its files do not match the manifest.
    """

    def __init__(self, folder: StoreFolder, manifest: Manifest, id: str) -> None:
        self._folder, self.manifest, self.id = folder, manifest, id
        root = folder.path
        self.air_code = AirCode.load(root / manifest.air_code_file)
        if self.air_code.id != manifest.air_code:
            raise KnowledgeBaseError(f"{root}: {manifest.air_code_file} is not the air code that the manifest names")
        if (self.air_code.size, self.air_code.dim) != (manifest.code_bytes, manifest.dim):
            raise KnowledgeBaseError(f"{root}: the sizes of {manifest.air_code_file} are not those in the manifest")
        shards, dim = manifest.shards, manifest.dim
        self._codes = [self._array(f"{s.folder}/codes.npy", np.uint8, s.entries, manifest.code_bytes) for s in shards]
        self._tables = [EntryTable(root / s.folder / "entries.sqlite", s.entries) for s in shards]
        self._vectors: list[npt.NDArray[np.int8]] = []
        if manifest.keep_vectors:
            self._vectors = [self._array(f"{s.folder}/vectors.npy", np.int8, s.entries, dim) for s in shards]
        self._ends = np.cumsum([shard.entries for shard in shards], dtype=np.int64)
        self._starts = self._ends - np.array([shard.entries for shard in shards], np.int64)
        self.rows = int(self._ends[-1])
        self._live = np.ones(self.rows, np.bool_)
        if manifest.removed:
            removed = self._array(manifest.removed, np.int64, None)
            if len(removed) and not 0 <= removed.min() <= removed.max() < self.rows:
                raise KnowledgeBaseError(f"{root}: {manifest.removed} lists rows that do not exist")
            self._live[removed] = False
        if int(self._live.sum()) != manifest.entries:
            raise KnowledgeBaseError(f"{root}: the number of entries is not that in the manifest")
        self._all_live = manifest.entries == self.rows
        self._small = manifest.entries <= _LARGEST_UNCACHED
        self._building = threading.Lock()

    @classmethod
    def open(cls, folder: StoreFolder) -> Generation:
        """Open the current generation of a folder.

        Raises:
            KnowledgeBaseError: If a file is missing or damaged.
        """
        name = folder.current()
        try:
            manifest, identity = folder.read(name)
            folder.check(manifest)
            return cls(folder, manifest, identity)
        except (KnowledgeBaseError, OSError) as error:
            if folder.current() != name:
                # A writer has published another generation and deleted this one.
                return cls.open(folder)
            if isinstance(error, OSError):
                raise KnowledgeBaseError(f"{folder.path}: cannot be read ({error.strerror or error})") from None
            raise

    def _array(self, name: str, dtype: npt.DTypeLike, *shape: int | None) -> npt.NDArray[Any]:
        path = self._folder.path / name
        try:
            with _READING_HEADERS:
                array: npt.NDArray[Any] = _open_array(path, mode="r")
        except OSError:
            raise
        except Exception as error:
            # A damaged header makes numpy, ast and tokenize raise exceptions of many kinds.
            raise KnowledgeBaseError(f"{path}: not an array ({' '.join(str(error).split())[:200]})") from None
        fits = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
        if array.dtype != dtype or not fits:
            raise KnowledgeBaseError(
                f"{path}: holds {array.dtype} {list(array.shape)}, not {np.dtype(dtype)} {list(shape)}"
            )
        return array

    def __len__(self) -> int:
        return self.manifest.entries

    @cached_property
    def live(self) -> npt.NDArray[np.int64]:
        """Rows that are not removed, int64 [N]."""
        return np.flatnonzero(self._live)

    @cached_property
    def codes(self) -> Codes:
        """Codes of the live rows, uint8 [N, M]; mapped from the disk if they lie in one file."""
        return self._codes[0] if self._all_live and len(self._codes) == 1 else self.codes_at(self.live)

    @property
    def entries(self) -> Iterator[Entry]:
        """Entries of the live rows, in the order of :attr:`codes`."""
        live = iter(self._live)
        return (entry for table in self._tables for entry in table.all() if next(live))

    @property
    def rounded_vectors(self) -> npt.NDArray[np.int8] | None:
        """Stored vectors of the live rows as they are on the disk, int8 [N, D]; None if the base stores none."""
        return self._gather(self._vectors, self.live) if self._vectors else None

    def rows_of(self, names: Sequence[str]) -> dict[str, int]:
        """Return the live rows of those of ``names`` that exist."""
        found = {}
        for table, start in zip(self._tables, self._starts.tolist(), strict=True):
            found.update({name: row + start for name, row in table.rows(names).items() if self._live[row + start]})
        return found

    def rows_labelled(self, label: str) -> list[int]:
        """Return the live rows with a label."""
        parts = zip(self._tables, self._starts.tolist(), strict=True)
        rows = (row + start for table, start in parts for row in table.labelled(label))
        return [row for row in rows if self._live[row]]

    def entry_at(self, row: int) -> Entry:
        """Return the entry of a row."""
        shard = int(np.searchsorted(self._ends, row, side="right"))
        return self._tables[shard].entry(row - int(self._starts[shard]))

    def codes_at(self, rows: npt.NDArray[np.int64]) -> Codes:
        """Return the codes of rows, uint8 [n, M]."""
        return self._gather(self._codes, rows)

    def _named(self, rows: npt.NDArray[np.int64]) -> list[tuple[str, str]]:
        shards = np.searchsorted(self._ends, rows, side="right")
        found: dict[int, tuple[str, str]] = {}
        for shard in np.unique(shards):
            start = int(self._starts[shard])
            named = self._tables[shard].named([int(row) - start for row in rows[shards == shard]])
            found.update({row + start: value for row, value in named.items()})
        return [found[int(row)] for row in rows]

    def _gather(self, arrays: Sequence[npt.NDArray[Any]], rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        if len(arrays) == 1:
            only: npt.NDArray[Any] = arrays[0][rows]
            return only
        shards = np.searchsorted(self._ends, rows, side="right")
        gathered = np.empty((len(rows), arrays[0].shape[1]), arrays[0].dtype)
        for shard in np.unique(shards):
            here = shards == shard
            gathered[here] = arrays[shard][rows[here] - self._starts[shard]]
        return gathered

    def vectors_at(self, rows: npt.NDArray[np.int64]) -> Vectors:
        """Return the stored vectors of rows, or their decoded codes, float32 [n, D] of unit norm."""
        if self._vectors:
            vectors: Vectors = self._gather(self._vectors, rows).astype(np.float32)
        else:
            vectors = self.air_code.decode(self.codes_at(rows))
        # Neither is of unit norm, and long vectors would win every search.
        faiss.normalize_L2(vectors)
        return vectors

    @cached_property
    def spec(self) -> indexes.IndexSpec:
        """Search index."""
        if self.manifest.index:
            return indexes.IndexSpec.parse(self.manifest.index)
        return indexes.IndexSpec.choose(len(self) if self._small else self.rows, self.air_code.dim)

    @cached_property
    def _index(self) -> Any:
        rows = self.live if self._small else np.arange(self.rows)

        def read(start: int, stop: int) -> Vectors:
            return self.vectors_at(rows[start:stop])

        with self._building:
            if self._small:
                return indexes.build(self.spec, self.air_code.dim, len(rows), read)
            kept, files = "vectors" if self._vectors else "codes", self.manifest.files
            # With the air code: the same codes mean other vectors with another one.
            parts = [
                (self.manifest.air_code + files[f"{shard.folder}/{kept}.npy"].sha256, shard.entries)
                for shard in self.manifest.shards
            ]
            return kept_index(self._folder.path / CACHE, self.spec, self.air_code.dim, parts, read)

    def search(self, vectors: Vectors, k: int) -> list[Hits]:
        """Find the ``k`` nearest entries by cosine; see :meth:`KnowledgeBase.search`."""
        queries = check_vectors(vectors, self.air_code.dim).copy()
        faiss.normalize_L2(queries)
        if k < 1:
            raise KnowledgeBaseError(f"k is {k}; it must be at least 1")
        k = min(k, len(self))
        if not k:
            nothing = np.empty(0, np.int64), np.empty(0, np.float32)
            return [Hits(*nothing, self._named, self.manifest.name) for _ in queries]
        # More where some will turn out to be removed.
        wanted = k * max(self.spec.rerank, 1) + (0 if self._small or self._all_live else k)
        return [Hits(*answer, self._named, self.manifest.name) for answer in self._nearest(queries, k, wanted)]

    def _nearest(self, queries: Vectors, k: int, wanted: int) -> list[_Answer]:
        """Return the ``k`` best live rows of each query and their cosines.

        Args:
            queries: float32 [N, D] of unit norm.
            k: Answers for each, at most as many as there are entries.
            wanted: Candidates for each that the index is asked for.
        """
        count = self._index.ntotal
        scores, rows = self._index.search(queries, min(wanted, count))
        exhausted = (rows < 0).any(axis=1) | (wanted >= count)
        live = self.live[rows] if self._small else rows
        live = np.where((rows >= 0) & self._live[live], live, -1)
        short = (live >= 0).sum(axis=1) < k
        answers = [self._best(*one, k) for one in zip(queries, live, scores, strict=True)]
        more, every = np.flatnonzero(short & ~exhausted), np.flatnonzero(short & exhausted)
        again = self._nearest(queries[more], k, 4 * wanted) if more.size else []
        # An inverted file in whose cells near the query nearly everything was removed.
        again += self._exact(queries[every], k) if every.size else []
        for place, answer in zip((*more, *every), again, strict=True):
            answers[place] = answer
        return answers

    def _best(
        self, query: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], scores: npt.NDArray[np.float32], k: int
    ) -> _Answer:
        scores, rows = scores[rows >= 0], rows[rows >= 0]
        if self.spec.rerank:
            # The threads of BLAS take milliseconds to wake up beside busy ones.
            scores = np.einsum("nd,d->n", self.vectors_at(rows), query)
            order = np.argsort(-scores)
            scores, rows = scores[order], rows[order]
        return rows[:k], scores[:k]

    def _exact(self, queries: Vectors, k: int) -> list[_Answer]:
        """Compare queries, float32 [N, D], with every live row; otherwise like :meth:`_nearest`."""
        scores, rows = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        size = max(_MOST_COMPARED // len(queries), 1)
        for start in range(0, len(self), size):
            part = self.live[start : start + size]
            scores = np.concatenate((scores, queries @ self.vectors_at(part).T), axis=1)
            rows = np.concatenate((rows, np.broadcast_to(part, (len(queries), len(part)))), axis=1)
            order = np.argsort(-scores, axis=1)[:, :k]
            scores, rows = np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
        return list(zip(rows, scores, strict=True))

    @cached_property
    def repairer(self) -> Repairer:
        """Repair with the codes of the live rows."""
        with self._building:
            return Repairer(self.air_code, self.codes, self.tau)

    @property
    def tau(self) -> float:
        """Width of the soft rule of repair, calibrated or by default."""
        return self.manifest.tau or default_tau(self.air_code)

    def repair(self, received: npt.ArrayLike, rule: Rule | None = None) -> list[Repair]:
        """Repair received codes; see :meth:`KnowledgeBase.repair_batch`."""
        if not len(self):
            raise KnowledgeBaseError(f"{self._folder.path}: is empty, so it cannot repair codes")
        batch = code_or_llrs(received, self.air_code.size)
        found = self.repairer.find(batch, rule)
        rows = self.live[found.rows]
        codes, named = self.codes_at(rows), self._named(rows)
        meant, decoded = self.vectors_at(rows), self.air_code.decode(found.received)
        faiss.normalize_L2(decoded)
        scores = (meant * decoded).sum(axis=1)
        hits = [Hit(*name, float(score), self.manifest.name) for name, score in zip(named, scores, strict=True)]
        return found.answers(codes, hits, self.manifest.threshold)
