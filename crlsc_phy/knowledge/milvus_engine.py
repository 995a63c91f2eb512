"""The doors to Milvus that a knowledge base needs: two collections, and errors of one line.

    NAME          a row an entry: its name as key, its code, what is known of it, and a vector
    NAME_base     a row a piece of the air code, and one with the state of the base

An etcd value holds too little for an air code, so it does not lie in the collection's properties.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge.milvus_rows import FIELDS, MOST_TEXT, Row, key_of

__all__ = ["Engine", "parse_index"]

# What milvus-lite 3.2 really builds, by the files it writes. Any other it takes, reports as finished, and answers by
# brute force.
_BUILT_BY_LITE = ("AUTOINDEX", "FLAT", "HNSW", "IVF_FLAT", "IVF_SQ8")
# Rows that are asked for or sent at a time: with the longest thumbnails 25 MB, and a server takes 64.
_AT_A_TIME = 256
# Rows a page of all; milvus-lite looks at every row for each page.
_A_PAGE = 512
_MOST_PIECES = 16_384
_LOADING_S = 600.0
_INDEX = re.compile(r"(?P<kind>[A-Z][A-Z0-9_]*)(?P<options>(?:;\w+=\w+)*)")
_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,240}")


def _pymilvus() -> Any:
    try:
        import pymilvus
    except ImportError:
        raise KnowledgeBaseError("Milvus needs pymilvus; run pip install 'crlsc-phy[milvus]'") from None
    # Each error is raised as well; its log is a traceback of pymilvus.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    return pymilvus


def parse_index(text: str) -> tuple[str, dict[str, str]]:
    """Kind and options of an index ``KIND[;option=value]``, such as ``HNSW;M=16;efConstruction=200``.

    Raises:
        KnowledgeBaseError: If it is none.
    """
    found = _INDEX.fullmatch(text)
    if not found:
        raise KnowledgeBaseError(f"{text!r} is no index; say KIND[;option=value], as in HNSW;M=16;efConstruction=200")
    pairs = (option.split("=") for option in found["options"].split(";")[1:])
    return found["kind"], dict(pairs)


class Engine:
    """A connection to the two collections of one knowledge base.

    Args:
        uri: ``http://host:19530`` of a server or a cluster, or a path that ends in ``.db`` for milvus-lite.
        collection: Name of the base's collection.
        token: ``user:password``, or a key.
        timeout: Of connecting and of each request, in seconds.
        make: Whether the file of milvus-lite may be made if there is none.

    Raises:
        KnowledgeBaseError: If pymilvus is not installed, or nothing answers.
    """

    def __init__(self, uri: str, collection: str, token: str = "", timeout: float = 10.0, make: bool = False) -> None:
        if not 0 < timeout < _LOADING_S:
            raise KnowledgeBaseError(f"the timeout is {timeout:g} s; give more than 0 and less than {_LOADING_S:g}")
        self.uri, self.collection, self._timeout = uri, collection, timeout
        self._base = f"{collection}_base"
        if not _COLLECTION.fullmatch(collection):
            raise KnowledgeBaseError(f"{collection!r} is no name of a collection; use letters, digits and _")
        self._pymilvus = _pymilvus()
        if "://" not in uri and not make and not Path(uri).exists():
            raise KnowledgeBaseError(f"{uri}: no such file of milvus-lite")
        self._client = self._connect(token)
        self.lite = self("get_server_version").startswith("milvus_lite")

    def _connect(self, token: str) -> Any:
        try:
            return self._pymilvus.MilvusClient(self.uri, token=token, timeout=self._timeout)
        except self._pymilvus.MilvusException as error:
            if "://" not in self.uri:
                hint = "it must end in .db, its folder must exist, and one process at a time may use it"
            else:
                hint = f"no Milvus answers there within {self._timeout:g} s, or it refuses the token"
            raise KnowledgeBaseError(f"{self.uri}: cannot be opened ({_line(error)}); {hint}") from None
        except ImportError as error:
            raise KnowledgeBaseError(
                f"{self.uri}: a file needs milvus-lite ({error}); install it or name a server"
            ) from None

    def __call__(self, method: str, *arguments: Any, timeout: float | None = None, **options: Any) -> Any:
        """Call a method of the client.

        Raises:
            KnowledgeBaseError: If the engine refuses it or does not answer in time.
        """
        try:
            return getattr(self._client, method)(*arguments, timeout=timeout or self._timeout, **options)
        except self._pymilvus.MilvusException as error:
            raise self._refused(error) from None

    def _refused(self, error: Exception) -> KnowledgeBaseError:
        return KnowledgeBaseError(f"{self.uri}#{self.collection}: {_line(error)}")

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def exists(self) -> bool:
        """Whether there is such a base."""
        return bool(self("has_collection", self._base))

    def taken(self) -> bool:
        """Whether there is a collection of entries, or of somebody else's rows."""
        return bool(self("has_collection", self.collection))

    def check_index(self, kind: str) -> None:
        """Refuse an index that would not be built.

        Raises:
            KnowledgeBaseError: If the engine would take it and answer by brute force.
        """
        if self.lite and kind not in _BUILT_BY_LITE:
            raise KnowledgeBaseError(
                f"milvus-lite builds no {kind} and would look at all entries instead; "
                f"choose {', '.join(_BUILT_BY_LITE)}, or a server"
            )

    def begin(self, index: str) -> None:
        """Make the collection of the pieces, in place of one without a state.

        Args:
            index: That the entries are to have.

        Raises:
            KnowledgeBaseError: If the engine does not build that index.
        """
        self.check_index(parse_index(index)[0])
        self("drop_collection", self._base)
        # A collection must have vectors.
        self._make(self._base, {"name": FIELDS["name"], "value": MOST_TEXT}, 2, "FLAT", {})

    def make(self, dim: int, index: str) -> None:
        """Make the collection of the entries if there is none, and load it.

        Args:
            dim: Size of a vector.
            index: Of the vectors, as :func:`parse_index` reads it.
        """
        kind, options = parse_index(index)
        if not self.taken():
            self._make(self.collection, FIELDS, dim, kind, options)
        self.load(kind)

    def _make(self, name: str, texts: Mapping[str, int], dim: int, kind: str, options: dict[str, str]) -> None:
        kinds = self._pymilvus.DataType
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        for field, longest in texts.items():
            schema.add_field(field, kinds.VARCHAR, max_length=longest, is_primary=field == "name")
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=dim)
        indexes = self._client.prepare_index_params()
        indexes.add_index("vector", index_name="vector", index_type=kind, metric_type="COSINE", params=options)
        # Strong: what an addition has returned from is found by every reader.
        self("create_collection", name, schema=schema, consistency_level="Strong")
        # Not waiting for it: the collection is empty, and pymilvus looks only every half second.
        self("create_index", name, indexes, sync=False)

    def load(self, kind: str) -> None:
        """Have the base in memory, searched by the index that it is said to have.

        Raises:
            KnowledgeBaseError: If there is no such collection, or it has another index.
        """
        found = self("describe_index", self.collection, "vector") or {}
        if found.get("index_type") != kind:
            raise KnowledgeBaseError(
                f"{self.uri}#{self.collection}: has the index {found.get('index_type')}, not {kind}; make it anew"
            )
        self.check_index(kind)
        for name in (self._base, self.collection):
            self("load_collection", name, timeout=_LOADING_S)

    def flush(self) -> None:
        """Have the engine seal what was written, which it then indexes."""
        self("flush", self.collection, timeout=_LOADING_S)

    def drop(self) -> None:
        """Delete both collections."""
        for name in (self.collection, self._base):
            self("drop_collection", name)

    def pieces(self) -> dict[str, str]:
        """What :meth:`keep` has kept, by name."""
        self("load_collection", self._base, timeout=_LOADING_S)
        rows = self("query", self._base, filter="", limit=_MOST_PIECES, output_fields=["name", "value"])
        return {row["name"]: row["value"] for row in rows}

    def keep(self, pieces: Mapping[str, str]) -> None:
        """Keep texts by name, in place of earlier ones."""
        for name, value in pieces.items():
            self("upsert", self._base, [{"name": name, "value": value, "vector": [1.0, 0.0]}])

    def count(self) -> int:
        """Rows of entries."""
        return int(self("query", self.collection, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def rows(self, names: Sequence[str], fields: Sequence[str]) -> dict[str, Row]:
        """The rows of those of ``names`` that are there."""
        found: dict[str, Row] = {}
        for start in range(0, len(names), _AT_A_TIME):
            keys = {key_of(name): name for name in names[start : start + _AT_A_TIME]}
            rows = self("get", self.collection, ids=list(keys), output_fields=["name", *fields])
            found |= {keys[row["name"]]: row for row in rows}
        return found

    def put(self, rows: Sequence[Row], progress: Callable[[int], None] | None = None) -> None:
        """Write rows, in place of those with the same key; ``progress`` is told how many each request has written."""
        for start in range(0, len(rows), _AT_A_TIME):
            part = rows[start : start + _AT_A_TIME]
            self("upsert", self.collection, part)
            if progress:
                progress(len(part))

    def delete(self, names: Sequence[str]) -> None:
        """Delete the rows of names."""
        for start in range(0, len(names), _AT_A_TIME):
            self("delete", self.collection, ids=[key_of(name) for name in names[start : start + _AT_A_TIME]])

    def all(self, fields: Sequence[str]) -> Iterator[list[Row]]:
        """Every row, some at a time, by rising key."""
        pages = self("query_iterator", self.collection, batch_size=_A_PAGE, output_fields=["name", *fields])
        try:
            while page := list(pages.next()):
                yield page
        except self._pymilvus.MilvusException as error:
            raise self._refused(error) from None
        finally:
            pages.close()

    def nearest(self, vectors: Any, count: int, fields: Sequence[str], params: Mapping[str, int]) -> list[list[Row]]:
        """The rows that the index finds nearest to each of the vectors, float32 [N, D] of unit norm."""
        found = self(
            "search",
            self.collection,
            data=vectors,
            anns_field="vector",
            limit=count,
            output_fields=list(fields),
            search_params={"metric_type": "COSINE", "params": dict(params)},
        )
        return [[hit["entity"] for hit in hits] for hits in found]


def _line(error: Exception) -> str:
    """What an exception of pymilvus says, on one line."""
    text = str(getattr(error, "message", "") or error)
    return " ".join(text.split())[:200]
