"""A knowledge base behind Milvus: a server, a cluster, or milvus-lite in this process.

Milvus searches; what it finds is ranked again here, by what is kept of the entries. So the answers are those of a base
in a folder, whatever the engine's own index rounds. The codes are kept as they are and never made anew, and the air
code lies beside them: the address is all that another machine needs.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import faiss
import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge.air_code import AirCode, Codes, Vectors
from crlsc_phy.knowledge.base import (
    Batch,
    Entry,
    Hit,
    Hits,
    Repair,
    Repairing,
    Rule,
    check_codes,
    check_entries,
    check_vectors,
)
from crlsc_phy.knowledge.milvus_engine import Engine, parse_index
from crlsc_phy.knowledge.milvus_rows import (
    KNOWN,
    Row,
    State,
    air_code_of,
    codes_of,
    entry_of,
    name_of,
    pieces_of,
    row_of,
)
from crlsc_phy.knowledge.repair import THRESHOLD, Repairer, code_or_llrs, default_tau, expected_vectors

__all__ = ["MilvusKnowledgeBase"]

_INDEX = "HNSW;M=16;efConstruction=200"
# Of entries that the engine finds, for each that is wanted.
_CANDIDATES = 5
_FEWEST_CANDIDATES = 50
_MOST_CANDIDATES = 16_384
# Of entries that the engine finds, for a code that is to be repaired.
_REPAIR_CANDIDATES = 256
# Candidates asked for at a time; with vectors of 512 numbers 8 MB.
_A_REQUEST = 4_096
# What the engine looks at: hops of a graph at least, and cells of an inverted file.
_LEAST_EFFORT = 400
_PROBES = 32
_MOST_PROBES = 65_536


class MilvusKnowledgeBase(Repairing):
    """A knowledge base behind Milvus; make one with :meth:`create` or :meth:`open`.

    There is no lock: one process at a time should write. Searches see what others have written; :attr:`id` does after
    :meth:`refresh`. It repairs with what the engine finds near a received code; a copy in a folder
    (:func:`crlsc_phy.knowledge.migrate.migrate`) looks at every code, and a decoder needs one.

    Args:
        engine: The connection.
        state: As read.
        air_code: The quantiser of its codes.

    Attributes:
        air_code: As given.
    """

    def __init__(self, engine: Engine, state: State, air_code: AirCode) -> None:
        self._engine, self._state, self.air_code = engine, state, air_code

    @classmethod
    def open(
        cls, uri: str, collection: str, *, air_code: str = "", token: str = "", timeout: float = 10.0
    ) -> MilvusKnowledgeBase:
        """Open a base.

        Args:
            uri: ``http://host:19530`` of a server or a cluster, or a path that ends in ``.db`` for milvus-lite.
            collection: Its name there.
            air_code: Hash of the air code that it must have; any by default.
            token: ``user:password``, or a key.
            timeout: Of connecting and of each request, in seconds.

        Raises:
            KnowledgeBaseError: If nothing answers, there is no such base, it has another air code or is damaged.
        """
        base = cls._open(Engine(uri, collection, token, timeout))
        if base.state.filled_from:
            raise KnowledgeBaseError(f"{base.place}: was not filled to the end; make it or copy it again")
        if air_code and air_code != base.state.air_code:
            raise KnowledgeBaseError(
                f"{base.place} has the air code {base.state.air_code[:8]}, not {air_code[:8]}; encode its images anew"
            )
        base._engine.load(parse_index(base.state.index)[0])
        return base

    @classmethod
    def _open(cls, engine: Engine) -> MilvusKnowledgeBase:
        place = f"{engine.uri}#{engine.collection}"
        if not engine.exists():
            raise KnowledgeBaseError(f"{place}: there is no such knowledge base")
        pieces = engine.pieces()
        state = State.parse(pieces.pop("state", ""), place)
        return cls(engine, state, air_code_of(pieces, state.air_code, place))

    @classmethod
    def create(
        cls,
        uri: str,
        collection: str,
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
        filled_from: str = "",
        token: str = "",
        timeout: float = 10.0,
        progress: Callable[[int], None] | None = None,
    ) -> MilvusKnowledgeBase:
        """Make a base.

        Args:
            uri: As of :meth:`open`; the file of milvus-lite may be a new one.
            collection: Its name there.
            air_code: Gives each entry its code.
            vectors: float32 [N, D]; N may be 0.
            entries: One a vector.
            codes: uint8 [N, M], kept as they are; by default the vectors are encoded.
            name: What hits call the base; the collection's name by default.
            keep_vectors: Whether searches rank by the vectors rather than by what their codes decode to.
            index: ``KIND[;option=value]`` in Milvus's words; ``HNSW;M=16;efConstruction=200`` by default.
            aligned_to: For a private base, the id of the shared one that it goes with.
            tau: Of soft repair, see :mod:`crlsc_phy.knowledge.repair`; from the centroids' distances by default.
            threshold: Log-likelihood ratio from which repair believes an entry.
            filled_from: Id of a base that is to be copied here. The copy cannot be opened before :meth:`finish`; made
                again with the same id it goes on with what is there, with another it begins anew.
            token: As of :meth:`open`.
            timeout: As of :meth:`open`.
            progress: Told how many entries each request has written.

        Raises:
            KnowledgeBaseError: If there is a base already, vectors and entries do not fit, or the engine would not
                build the index.
        """
        array = check_vectors(vectors, air_code.dim)
        listed = check_entries(entries, len(array))
        index = index or _INDEX
        parse_index(index)
        engine = Engine(uri, collection, token, timeout, make=True)
        base = cls._begun(engine, filled_from) if engine.exists() else None
        if base is None:
            if engine.taken():
                raise KnowledgeBaseError(
                    f"{uri}#{collection}: is a collection, but no knowledge base; choose another name"
                )
            base = cls(
                engine,
                State(
                    name=name or collection,
                    air_code=air_code.id,
                    index=index,
                    keep_vectors=keep_vectors,
                    aligned_to=aligned_to,
                    tau=tau,
                    threshold=threshold,
                    filled_from=filled_from or "its creation",
                ),
                air_code,
            )
            engine.begin(base.state.index)
            engine.keep(pieces_of(air_code))
            base._stamp()
        try:
            engine.make(base.air_code.dim, base.state.index)
            base.add(array, listed, codes=codes, progress=progress)
            if not filled_from:
                base.flush()
                base.finish()
        except KnowledgeBaseError:
            if not filled_from:
                engine.drop()
            raise
        return base

    @classmethod
    def _begun(cls, engine: Engine, filled_from: str) -> MilvusKnowledgeBase | None:
        """The base that was being filled from another; None if there is none, or one that is worth nothing.

        Raises:
            KnowledgeBaseError: If there is a whole base.
        """
        if "state" not in engine.pieces():
            return None
        base = cls._open(engine)
        if not base.state.filled_from:
            raise KnowledgeBaseError(
                f"{base.place}: there is a knowledge base already; add to it, or choose another name"
            )
        if base.state.filled_from == filled_from:
            return base
        engine.drop()
        return None

    def flush(self) -> None:
        """Have the engine seal and index what was written last; until then it is found by looking at all of it."""
        self._engine.flush()

    def finish(self) -> None:
        """Let a base that was filled from another be opened."""
        self._state = replace(self._state, filled_from="")
        self._stamp()

    @classmethod
    def drop(cls, uri: str, collection: str, *, token: str = "", timeout: float = 10.0) -> None:
        """Delete a base, whole or not.

        Raises:
            KnowledgeBaseError: If nothing answers, or there is none.
        """
        engine = Engine(uri, collection, token, timeout)
        if not engine.exists():
            raise KnowledgeBaseError(f"{uri}#{collection}: there is no such knowledge base")
        # Fails on collections that another program has made.
        engine.pieces()
        engine.drop()

    @property
    def place(self) -> str:
        """``URI#COLLECTION``, as errors name it."""
        return f"{self._engine.uri}#{self._engine.collection}"

    @property
    def state(self) -> State:
        """As it was when this base was opened, refreshed or last written."""
        return self._state

    @property
    def id(self) -> str:
        """SHA-256 of the state in hex; another after every write."""
        return hashlib.sha256(f"{self._engine.collection} {self._state.to_json()}".encode()).hexdigest()

    @property
    def name(self) -> str:
        """What hits call the base."""
        return self._state.name

    def __len__(self) -> int:
        """Entries that are there now."""
        return self._engine.count()

    def close(self) -> None:
        """End the connection."""
        self._engine.close()

    def refresh(self) -> bool:
        """Read the state anew; returns whether others have written since.

        Raises:
            KnowledgeBaseError: If nothing answers, or the base is gone or was made anew with another air code.
        """
        state = State.parse(self._engine.pieces().get("state", ""), self.place)
        if state.air_code != self.air_code.id:
            raise KnowledgeBaseError(f"{self.place}: has another air code now; open it again")
        changed = state != self._state
        self._state = state
        return changed

    def search(self, vectors: Vectors, k: int) -> list[Hits]:
        """The nearest entries by cosine, of those that the engine finds.

        Args:
            vectors: float32 [N, D].
            k: How many for each.

        Returns:
            For each vector up to ``k`` answers, best first. Their positions only count the answers.

        Raises:
            KnowledgeBaseError: If the vectors have another size or are not finite, or the engine does not answer.
        """
        queries = check_vectors(vectors, self.air_code.dim).copy()
        faiss.normalize_L2(queries)
        if not 1 <= k <= _MOST_CANDIDATES:
            raise KnowledgeBaseError(f"k is {k}; ask for 1 to {_MOST_CANDIDATES} entries")
        wanted = min(max(_CANDIDATES * k, _FEWEST_CANDIDATES), _MOST_CANDIDATES)
        found = self._found(queries, wanted, k)
        return [self._best(query, rows, k) for query, rows in zip(queries, found, strict=True)]

    def repair_batch(self, received: npt.ArrayLike, rule: Rule | None = None) -> list[Repair]:
        """Which entries were meant by received codes, among those that the engine finds nearest to what they decode to.

        Args:
            received: Codes uint8 [N, M], or LLRs float32 [N, 8 M].
            rule: ``soft`` for LLRs and ``nearest`` for codes by default.

        Raises:
            KnowledgeBaseError: If they are neither, the base is empty, or the engine does not answer.
        """
        batch = code_or_llrs(received, self.air_code.size)
        vectors = expected_vectors(self.air_code, batch)
        faiss.normalize_L2(vectors)
        population, tau = len(self), self._state.tau or default_tau(self.air_code)
        # What the whole base uses is not known here; the centroids of a trained quantiser are used alike.
        usage = np.full((self.air_code.size, 256), 1 / 256, np.float32)
        answers = []
        for one, rows in zip(batch, self._found(vectors, _REPAIR_CANDIDATES, _REPAIR_CANDIDATES), strict=True):
            if not rows:
                raise KnowledgeBaseError("an empty knowledge base repairs nothing")
            codes = codes_of(rows, self.air_code)
            found = Repairer(self.air_code, codes, tau, usage, population).find(one[None], rule)
            row = rows[found.rows[0]]
            decoded = self.air_code.decode(found.received)
            faiss.normalize_L2(decoded)
            score = float(self._vectors_of([row])[0] @ decoded[0])
            hit = Hit(name_of(row), str(row["label"]), score, self.name)
            answers += found.answers(codes[found.rows], [hit], self._state.threshold)
        return answers

    def _found(self, queries: Vectors, wanted: int, least: int) -> Iterator[list[Row]]:
        """Yield up to ``wanted`` rows near each query of unit norm; fewer than ``least`` only if there are no more."""
        at_a_time = max(_A_REQUEST // wanted, 1)
        kept = ("vector",) if self._state.keep_vectors else ()
        for start in range(0, len(queries), at_a_time):
            part, fields = queries[start : start + at_a_time], ("name", "label", "code", "air_code", *kept)
            found = self._engine.nearest(part, wanted, fields, self._effort(wanted))
            short = [place for place, rows in enumerate(found) if len(rows) < least]
            if short and "nprobe" in self._effort(wanted):
                # The cells that were looked at hold too few, as where most entries were removed.
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
        return Hits(np.arange(len(order)), scores[order], lambda at: [named[i] for i in at], self.name)

    def _vectors_of(self, rows: list[Row]) -> Vectors:
        """What is kept of rows, float32 [n, D] of unit norm."""
        codes = codes_of(rows, self.air_code)
        if self._state.keep_vectors:
            vectors = np.array([row["vector"] for row in rows], np.float32).reshape(-1, self.air_code.dim)
        else:
            vectors = self.air_code.decode(codes)
        faiss.normalize_L2(vectors)
        return vectors

    def entry(self, name: str) -> Entry:
        """All that is known of an entry.

        Raises:
            KnowledgeBaseError: If there is none of that name.
        """
        rows = self._engine.rows([name], KNOWN)
        if name not in rows:
            raise KnowledgeBaseError(f"{self.place}: has no entry {name!r}")
        return entry_of(rows[name])

    def known(self, names: Sequence[str]) -> set[str]:
        """Those of ``names`` that are there."""
        return set(self._engine.rows(names, ()))

    def batches(self) -> Iterator[Batch]:
        """Every entry, some at a time, by rising percent-encoded name."""
        kept = ("vector",) if self._state.keep_vectors else ()
        for rows in self._engine.all((*KNOWN, *kept)):
            yield Batch(codes_of(rows, self.air_code), [entry_of(row) for row in rows], self._vectors_of(rows))

    @property
    def entries(self) -> Iterator[Entry]:
        """All that is known of each entry, in the order of :meth:`batches`."""
        return (entry for batch in self.batches() for entry in batch.entries)

    def add(
        self,
        vectors: npt.ArrayLike,
        entries: Iterable[Entry],
        *,
        codes: Codes | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Add entries.

        Args:
            vectors: float32 [N, D].
            entries: One a vector.
            codes: uint8 [N, M], kept as they are; by default the vectors are encoded.
            progress: Told how many entries each request has written.

        Raises:
            KnowledgeBaseError: If they do not fit, a name is there already, or a text is longer than Milvus keeps; the
                base is then unchanged. If the engine fails on the way, the first of them may be there.
        """
        array = check_vectors(vectors, self.air_code.dim)
        listed = check_entries(entries, len(array))
        kept = self.air_code.encode(array) if codes is None else check_codes(codes, len(array), self.air_code.size)
        array = array.copy() if self._state.keep_vectors else self.air_code.decode(kept)
        faiss.normalize_L2(array)
        rows = [
            row_of(entry, code, self.air_code.id, vector)
            for entry, code, vector in zip(listed, kept, array, strict=True)
        ]
        there = self.known([entry.name for entry in listed])
        if there:
            raise KnowledgeBaseError(f"{self.place}: has an entry {min(there)!r} already")
        if rows:
            # Before and after: a reader who comes in between sees a state of its own.
            self._stamp()
            self._engine.put(rows, progress)
            self._stamp()

    def remove(self, names: Iterable[str]) -> int:
        """Remove entries; returns how many there were."""
        there = sorted(self.known(list(dict.fromkeys(names))))
        if there:
            self._stamp()
            self._engine.delete(there)
            self._stamp()
        return len(there)

    def _stamp(self) -> None:
        self._state = replace(self._state, stamp=uuid.uuid4().hex)
        self._engine.keep({"state": self._state.to_json()})
