"""Search and repair with the candidates that Milvus finds, ranked by their stored codes or vectors."""

from __future__ import annotations

from collections.abc import Iterator

import faiss
import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge.air_code import AirCode, Vectors
from crlsc_phy.knowledge.base import Hit, Hits, Repair, Rule, check_vectors
from crlsc_phy.knowledge.milvus_engine import Engine, parse_index
from crlsc_phy.knowledge.milvus_rows import Row, State, codes_of, name_of, vectors_of
from crlsc_phy.knowledge.repair import Repairer, code_or_llrs, default_tau, expected_vectors

__all__ = ["Search"]

# Candidates that the engine is asked for: for each wanted result, and at least and at most for a query.
_CANDIDATES = 5
_FEWEST_CANDIDATES = 50
_MOST_CANDIDATES = 16_384
# Candidates for a code that is to be repaired.
_REPAIR_CANDIDATES = 256
# Candidates in one request: 8 MB with vectors of 512 numbers.
_A_REQUEST = 4_096
# Least number of nodes visited in a graph (HNSW), and number of cells searched in an inverted file (IVF).
_LEAST_EFFORT = 400
_PROBES = 32
_MOST_PROBES = 65_536


class Search:
    """Search and repair in one state of a knowledge base behind Milvus."""

    def __init__(self, engine: Engine, state: State, air_code: AirCode) -> None:
        self._engine, self._state, self._air_code = engine, state, air_code

    def hits(self, vectors: Vectors, k: int) -> list[Hits]:
        """Find the nearest entries; see :meth:`MilvusKnowledgeBase.search`."""
        queries = check_vectors(vectors, self._air_code.dim).copy()
        faiss.normalize_L2(queries)
        if not 1 <= k <= _MOST_CANDIDATES:
            raise KnowledgeBaseError(f"k is {k}; it must be 1 to {_MOST_CANDIDATES}")
        wanted = min(max(_CANDIDATES * k, _FEWEST_CANDIDATES), _MOST_CANDIDATES)
        found = self._found(queries, wanted, k)
        return [self._best(query, rows, k) for query, rows in zip(queries, found, strict=True)]

    def repairs(self, received: npt.ArrayLike, rule: Rule | None = None) -> list[Repair]:
        """Repair received codes; see :meth:`MilvusKnowledgeBase.repair_batch`."""
        batch = code_or_llrs(received, self._air_code.size)
        vectors = expected_vectors(self._air_code, batch)
        faiss.normalize_L2(vectors)
        population, tau = self._engine.count(), self._state.tau or default_tau(self._air_code)
        if not population:
            raise KnowledgeBaseError(f"{self._engine.place}: is empty, so it cannot repair codes")
        # How often the base uses each centroid is not known here; a trained quantiser uses them about equally.
        repairer = Repairer(self._air_code, np.empty((0, self._air_code.size), np.uint8), tau)
        answers = []
        for one, rows in zip(batch, self._found(vectors, _REPAIR_CANDIDATES, _REPAIR_CANDIDATES), strict=True):
            codes = codes_of(rows, self._air_code)
            found = repairer.among(codes, population).find(one[None], rule)
            row = rows[found.rows[0]]
            decoded = self._air_code.decode(found.received)
            faiss.normalize_L2(decoded)
            score = float(self._vectors_of([row])[0] @ decoded[0])
            hit = Hit(name_of(row), str(row["label"]), score, self._state.name)
            answers += found.answers(codes[found.rows], [hit], self._state.threshold)
        return answers

    def _found(self, queries: Vectors, wanted: int, least: int) -> Iterator[list[Row]]:
        """Yield the rows that the engine finds for each query.

        Args:
            queries: float32 [N, D] of unit norm.
            wanted: Candidates for each.
            least: Fewer than these are found only if the base has no more.
        """
        at_a_time = max(_A_REQUEST // wanted, 1)
        for start in range(0, len(queries), at_a_time):
            part, fields = queries[start : start + at_a_time], ("name", "label", "code", "air_code", *self._state.kept)
            found = self._engine.nearest(part, wanted, fields, self._effort(wanted))
            short = [place for place, rows in enumerate(found) if len(rows) < least]
            if short and "nprobe" in self._effort(wanted):
                # The cells searched hold too few entries, as in a base that lost most of them.
                more = self._engine.nearest(part[short], wanted, fields, {"nprobe": _MOST_PROBES})
                for place, rows in zip(short, more, strict=True):
                    found[place] = rows
            yield from found

    def _effort(self, wanted: int) -> dict[str, int]:
        kind = parse_index(self._state.index)[0]
        if kind.startswith("HNSW"):
            return {"ef": max(2 * wanted, _LEAST_EFFORT)}
        return {"nprobe": _PROBES} if kind.startswith("IVF") else {}

    def _best(self, query: npt.NDArray[np.float32], rows: list[Row], k: int) -> Hits:
        scores = self._vectors_of(rows) @ query
        order = np.argsort(-scores, kind="stable")[:k]
        named = [(name_of(rows[i]), str(rows[i]["label"])) for i in order]
        return Hits(np.arange(len(order)), scores[order], lambda at: [named[i] for i in at], self._state.name)

    def _vectors_of(self, rows: list[Row]) -> Vectors:
        return vectors_of(rows, self._air_code, self._state.keep_vectors)
