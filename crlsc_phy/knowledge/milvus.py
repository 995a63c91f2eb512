"""Knowledge base behind Milvus: a server, a cluster, or milvus-lite in this process.

Milvus finds candidates, and this module ranks them by the stored codes or vectors. Results are therefore those of a
base in a folder, however the index of the engine rounds. Codes are stored as they are, and the air code is stored with
them: another machine needs nothing but the address.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import faiss
import numpy.typing as npt

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge.air_code import AirCode, Codes, Vectors
from crlsc_phy.knowledge.base import THRESHOLD, Batch, Entry, Hits, Repair, Repairing, Rule, Settings, check_batch
from crlsc_phy.knowledge.milvus_engine import Engine, parse_index
from crlsc_phy.knowledge.milvus_rows import KNOWN, State, air_code_of, codes_of, entry_of, pieces_of, row_of, vectors_of
from crlsc_phy.knowledge.milvus_search import Search

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["MilvusKnowledgeBase"]

_INDEX = "HNSW;M=16;efConstruction=200"


class MilvusKnowledgeBase(Repairing):
    """Knowledge base behind Milvus; use :meth:`open` or :meth:`create`.

    There is no lock, so only one process at a time should write. Searches find what others have written at once;
    :attr:`id` changes with :meth:`refresh`. Repair considers the entries that the engine finds near a received code.
    A base in a folder considers every code, and a decoder needs one:
    :func:`crlsc_phy.knowledge.migrate.migrate` makes a copy.

    Attributes:
        air_code: Quantiser of its codes.
    """

    def __init__(self, engine: Engine, state: State, air_code: AirCode) -> None:
        self._engine, self._state, self.air_code = engine, state, air_code

    @classmethod
    def open(
        cls, uri: str, collection: str, *, air_code: str = "", token: str = "", timeout: float = 10.0
    ) -> MilvusKnowledgeBase:
        """Open a knowledge base.

        Args:
            uri: ``http://host:19530`` of a server or a cluster, or a path that ends in ``.db`` for milvus-lite.
            collection: Name of its collection.
            air_code: Hash of the air code that it must have; any by default.
            token: ``user:password``, or an API key.
            timeout: Time limit of connecting and of each request, in seconds.

        Raises:
            KnowledgeBaseError: If Milvus does not answer, or the base does not exist, is damaged or has another air
                code.
        """
        base = cls._open(Engine(uri, collection, token, timeout))
        if base.state.filled_from:
            raise KnowledgeBaseError(f"{base.place}: is incomplete; create or copy it again")
        if air_code and air_code != base.state.air_code:
            raise KnowledgeBaseError(
                f"{base.place}: has air code {base.state.air_code[:8]}, not {air_code[:8]}; encode its images again"
            )
        base._engine.load(parse_index(base.state.index)[0])
        return base

    @classmethod
    def _open(cls, engine: Engine) -> MilvusKnowledgeBase:
        place = engine.place
        if not engine.exists():
            raise KnowledgeBaseError(f"{place}: no such knowledge base")
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
        filled_from: str = "",
        token: str = "",
        timeout: float = 10.0,
        progress: Callable[[int], None] | None = None,
        **settings: Unpack[Settings],
    ) -> MilvusKnowledgeBase:
        """Make a knowledge base.

        Args:
            uri: See :meth:`open`; the file of milvus-lite may be a new one.
            collection: Name of its collection.
            air_code: Quantiser of its codes.
            vectors: float32 [N, D]; N may be 0.
            entries: N entries.
            codes: Their air codes, uint8 [N, M]; by default the vectors are encoded.
            filled_from: Id of a base that will be copied here. The copy cannot be opened before :meth:`finish`. Called
                again with the same id, this method continues with what is there; with another id it starts over.
            token: See :meth:`open`.
            timeout: See :meth:`open`, in seconds.
            progress: Called with the number of entries that each request has written.
            **settings: See :class:`~crlsc_phy.knowledge.base.Settings`. The index is ``HNSW;M=16;efConstruction=200``
                by default.

        Raises:
            KnowledgeBaseError: If there is a base already, shapes or numbers do not match, or the engine does not
                support the index.
        """
        batch = check_batch(air_code, vectors, entries, codes)
        index = settings.get("index") or _INDEX
        parse_index(index)
        engine = Engine(uri, collection, token, timeout, make=True)
        base = cls._begun(engine, filled_from) if engine.exists() else None
        if base is None:
            if engine.taken():
                raise KnowledgeBaseError(
                    f"{uri}#{collection}: is a collection, but not a knowledge base; choose another name"
                )
            chosen: Settings = {"threshold": THRESHOLD, **settings}
            chosen |= {"name": settings.get("name") or collection, "index": index}
            state = State(air_code=air_code.id, filled_from=filled_from or "its creation", **chosen)
            base = cls(engine, state, air_code)
            engine.begin(base.state.index)
            engine.keep(pieces_of(air_code))
            base._stamp()
        try:
            engine.make(base.air_code.dim, base.state.index)
            base.add(batch.vectors, batch.entries, codes=batch.codes, progress=progress)
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
        """Return the incomplete copy of another base; None, and nothing left, if there is no such copy."""
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
        """Have the engine index what was written last. Until then it searches these entries one by one."""
        self._engine.flush()

    def finish(self) -> None:
        """Mark a copy as complete, so that it can be opened."""
        self._state = replace(self._state, filled_from="")
        self._stamp()

    @classmethod
    def drop(cls, uri: str, collection: str, *, token: str = "", timeout: float = 10.0) -> None:
        """Delete a knowledge base, complete or not.

        Args:
            uri: See :meth:`open`.
            collection: Name of its collection.
            token: See :meth:`open`.
            timeout: See :meth:`open`, in seconds.

        Raises:
            KnowledgeBaseError: If Milvus does not answer, or the base does not exist.
        """
        engine = Engine(uri, collection, token, timeout)
        if not engine.exists():
            raise KnowledgeBaseError(f"{uri}#{collection}: no such knowledge base")
        # Fails for collections of other programs.
        engine.pieces()
        engine.drop()

    @property
    def place(self) -> str:
        """``URI#COLLECTION``, as in error messages."""
        return self._engine.place

    @property
    def state(self) -> State:
        """State when this base was opened, refreshed or last written."""
        return self._state

    @property
    def id(self) -> str:
        """SHA-256 of the state in hex; every write changes it."""
        return hashlib.sha256(f"{self._engine.collection} {self._state.to_json()}".encode()).hexdigest()

    @property
    def name(self) -> str:
        """Name of the base in search results."""
        return self._state.name

    def __len__(self) -> int:
        """Return the number of entries at present."""
        return self._engine.count()

    def close(self) -> None:
        """Close the connection."""
        self._engine.close()

    def refresh(self) -> bool:
        """Read the state again, and return whether it has changed.

        Raises:
            KnowledgeBaseError: If Milvus does not answer, or the base was deleted or made with another air code.
        """
        state = State.parse(self._engine.pieces().get("state", ""), self.place)
        if state.air_code != self.air_code.id:
            raise KnowledgeBaseError(f"{self.place}: was made again with another air code; open it again")
        changed = state != self._state
        self._state = state
        return changed

    def search(self, vectors: Vectors, k: int) -> list[Hits]:
        """Find the ``k`` nearest entries by cosine of queries, float32 [N, D], among the candidates of the engine.

        The results are those of :meth:`KnowledgeBase.search`, but their positions only count them, and ``k`` is at most
        16,384. A :class:`KnowledgeBaseError` is raised also if the engine does not answer.
        """
        return Search(self._engine, self._state, self.air_code).hits(vectors, k)

    def repair_batch(self, received: npt.ArrayLike, rule: Rule | None = None) -> list[Repair]:
        """Repair several received codes with the entries that the engine finds near them.

        They are uint8 [N, M] or LLRs float32 [N, 8 M]; see :meth:`repair`. A :class:`KnowledgeBaseError` is raised also
        if the engine does not answer.
        """
        return Search(self._engine, self._state, self.air_code).repairs(received, rule)

    def entry(self, name: str) -> Entry:
        """Return the entry with a name; raise a :class:`KnowledgeBaseError` if there is none."""
        rows = self._engine.rows([name], KNOWN)
        if name not in rows:
            raise KnowledgeBaseError(f"{self.place}: has no entry {name!r}")
        return entry_of(rows[name])

    def known(self, names: Sequence[str]) -> set[str]:
        """Return those of ``names`` that the base has."""
        return set(self._engine.rows(names, ()))

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield all entries, up to ``size`` at a time, in the order of their percent-encoded names."""
        rows = self._engine.all((*KNOWN, *self._state.kept))
        while part := list(islice(rows, size)):
            codes, entries = codes_of(part, self.air_code), [entry_of(row) for row in part]
            yield Batch(codes, entries, vectors_of(part, self.air_code, self._state.keep_vectors))

    @property
    def entries(self) -> Iterator[Entry]:
        """The entries, in the order of :meth:`batches`."""
        return map(entry_of, self._engine.all(KNOWN))

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
            entries: N entries.
            codes: Their air codes, uint8 [N, M]; by default the vectors are encoded.
            progress: Called with the number of entries that each request has written.

        Raises:
            KnowledgeBaseError: If shapes or numbers do not match, a name is in use, or a text is too long for Milvus.
                The base is then unchanged. If the engine fails in between, some of the entries may be there.
        """
        batch = check_batch(self.air_code, vectors, entries, codes)
        array = batch.vectors.copy() if self._state.keep_vectors else self.air_code.decode(batch.codes)
        faiss.normalize_L2(array)
        rows = [
            row_of(entry, code, self.air_code.id, vector)
            for entry, code, vector in zip(batch.entries, batch.codes, array, strict=True)
        ]
        there = self.known([entry.name for entry in batch.entries])
        if there:
            raise KnowledgeBaseError(f"{self.place}: has an entry {min(there)!r} already; use another name")
        if rows:
            # Before and after, so that a reader in between sees a state of its own.
            self._stamp()
            self._engine.put(rows, progress)
            self._stamp()

    def remove(self, names: Iterable[str]) -> int:
        """Remove entries, and return how many of ``names`` there were."""
        there = sorted(self.known(list(dict.fromkeys(names))))
        if there:
            self._stamp()
            self._engine.delete(there)
            self._stamp()
        return len(there)

    def _stamp(self) -> None:
        self._state = replace(self._state, stamp=uuid.uuid4().hex)
        self._engine.keep({"state": self._state.to_json()})
