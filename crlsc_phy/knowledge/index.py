"""Search index of a knowledge base.

An index belongs to one machine and can be built again from codes or stored vectors at any time. Up to 20,000 entries a
query is compared with all of them. Beyond, the cells of an inverted file are scanned with 4-bit codes, and the best
candidates are ranked again by their stored vectors or decoded codes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge.air_code import Vectors

__all__ = ["IndexSpec", "build", "extend", "tune"]

LARGEST_FLAT = 20_000
# Training vectors for each cell; faiss advises 39 to 256.
_A_CELL = 64
_CHUNK = 1 << 16
_COMPONENTS = 256
_SPEC = re.compile(r"(?P<factory>[^;]+)(?:;nprobe=(?P<nprobe>[1-9][0-9]{0,8}))?(?:;rerank=(?P<rerank>[0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """Specification of an index: ``FACTORY[;nprobe=N][;rerank=N]``, such as ``IVF4096,PQ64x4fs;nprobe=32;rerank=20``.

    Attributes:
        factory: Description for ``faiss.index_factory``.
        nprobe: Number of cells of an inverted file that are searched.
        rerank: Candidates for each wanted result that are ranked again; 0 to take the ranking of the index.
    """

    factory: str
    nprobe: int = 1
    rerank: int = 0

    @classmethod
    def parse(cls, text: str) -> IndexSpec:
        """Read a specification from text.

        Raises:
            KnowledgeBaseError: If the text has another form.
        """
        found = _SPEC.fullmatch(text.strip())
        if not found:
            raise KnowledgeBaseError(
                f"{text!r} is not an index; write FACTORY[;nprobe=N][;rerank=N], as in IVF4096,PQ64x4fs;nprobe=32"
            )
        return cls(found["factory"], int(found["nprobe"] or 1), int(found["rerank"] or 0))

    @classmethod
    def choose(cls, entries: int, dim: int) -> IndexSpec:
        """Return the index for a number of entries with vectors of ``dim`` numbers."""
        if entries <= LARGEST_FLAT:
            return cls("Flat")
        # About 4 sqrt(N) cells, a power of two.
        cells = 1 << round(np.log2(4 * np.sqrt(entries)))
        # Embeddings have few strong components: these alone find more with the same number of bytes.
        first, size = (f"PCAR{_COMPONENTS},", _COMPONENTS) if dim > _COMPONENTS else ("", dim)
        parts = next(parts for parts in range(min(64, size), 0, -1) if size % parts == 0)
        return cls(f"{first}IVF{cells},PQ{parts}x4fs", nprobe=64, rerank=40)

    def __str__(self) -> str:
        probes = f";nprobe={self.nprobe}" if self.nprobe != 1 else ""
        return self.factory + probes + (f";rerank={self.rerank}" if self.rerank else "")


def build(spec: IndexSpec, dim: int, count: int, read: Callable[[int, int], Vectors], seed: int = 0) -> Any:
    """Build a faiss index by inner product over rows of unit norm.

    Args:
        spec: Specification; its ``rerank`` is not used here.
        dim: Size of a vector.
        count: Number of rows.
        read: Returns rows ``start`` to ``stop``, float32 [stop - start, dim].
        seed: Seed of the sample that the index is trained on.

    Raises:
        KnowledgeBaseError: If faiss does not know the index.
    """
    try:
        index = faiss.index_factory(dim, spec.factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].split("Error: ")[-1]
        raise KnowledgeBaseError(
            f"faiss cannot build {spec.factory!r} for vectors of {dim} numbers: {reason}"
        ) from None
    if not index.is_trained:
        try:
            index.train(_sample(index, count, read, seed))
        except RuntimeError:
            # Too few rows to train on, as in a base that lost most of them; a few rows need no index.
            return build(IndexSpec("Flat"), dim, count, read)
    extend(index, 0, count, read)
    tune(index, spec)
    return index


def extend(index: Any, start: int, stop: int, read: Callable[[int, int], Vectors]) -> None:
    """Add rows to a trained index.

    Args:
        index: faiss index that holds the rows before ``start``.
        start: First row to add.
        stop: Row after the last one.
        read: Returns rows ``start`` to ``stop``, float32 [stop - start, D].
    """
    for first in range(start, stop, _CHUNK):
        index.add(read(first, min(first + _CHUNK, stop)))


def _sample(index: Any, count: int, read: Callable[[int, int], Vectors], seed: int) -> Vectors:
    inverted = faiss.try_extract_index_ivf(index)
    wanted = max(_A_CELL * (inverted.nlist if inverted is not None else 1), 20_000)
    if wanted >= count:
        return read(0, count)
    chosen = np.sort(np.random.default_rng(seed).choice(count, wanted, replace=False))
    rows = []
    for start in range(0, count, _CHUNK):
        here = chosen[np.searchsorted(chosen, start) : np.searchsorted(chosen, start + _CHUNK)]
        rows.append(read(start, min(start + _CHUNK, count))[here - start])
    return np.concatenate(rows)


def tune(index: Any, spec: IndexSpec) -> None:
    """Set the number of cells that are searched."""
    inverted = faiss.try_extract_index_ivf(index)
    if inverted is not None:
        inverted.nprobe = min(spec.nprobe, inverted.nlist)
