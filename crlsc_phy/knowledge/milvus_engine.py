"""Connection to Milvus: the two collections of a knowledge base, and errors of one line.

    NAME          one row for each entry: its name as key, its code, metadata and a vector
    NAME_base     rows with the pieces of the air code, and one with the state of the base

The properties of a collection are stored in etcd, whose values are too small for an air code.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from crlsc_phy.errors import KnowledgeBaseError, brief
from crlsc_phy.knowledge.milvus_rows import FIELDS, MOST_TEXT, Row, key_of

__all__ = ["Engine", "parse_index"]

# The indexes that milvus-lite 3.2 really builds, as its files show. It accepts others and reports them as finished, but
# searches by brute force.
_BUILT_BY_LITE = ("AUTOINDEX", "FLAT", "HNSW", "IVF_FLAT", "IVF_SQ8")
# Rows in one request: 25 MB with the longest thumbnails, and a server takes 64 MB.
_AT_A_TIME = 256
# Rows in one page of all rows; milvus-lite reads every row for each page.
_A_PAGE = 512
_MOST_PIECES = 16_384
_LOADING_S = 600.0
_INDEX = re.compile(r"(?P<kind>[A-Z][A-Z0-9_]*)(?P<options>(?:;\w+=\w+)*)")
_Item = TypeVar("_Item")
_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,240}")


def _pymilvus() -> Any:
    try:
        import pymilvus
    except ImportError:
        raise KnowledgeBaseError("pymilvus is not installed; run pip install 'crlsc-phy[milvus]'") from None
    # Errors are raised too; the log would add tracebacks of pymilvus.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    return pymilvus


def parse_index(text: str) -> tuple[str, dict[str, str]]:
    """Return kind and options of an index ``KIND[;option=value]``, such as ``HNSW;M=16;efConstruction=200``.

    Raises:
        KnowledgeBaseError: If the text has another form.
    """
    found = _INDEX.fullmatch(text)
    if not found:
        raise KnowledgeBaseError(
            f"{text!r} is not an index; write KIND[;option=value], as in HNSW;M=16;efConstruction=200"
        )
    pairs = (option.split("=") for option in found["options"].split(";")[1:])
    return found["kind"], dict(pairs)


class Engine:
    """Connection to the two collections of one knowledge base.

    Args:
        uri: ``http://host:19530`` of a server or a cluster, or a path that ends in ``.db`` for milvus-lite.
        collection: Name of the collection of entries.
        token: ``user:password``, or an API key.
        timeout: Time limit of connecting and of each request, in seconds.
        make: Whether to make the file of milvus-lite if there is none.

    Raises:
        KnowledgeBaseError: If pymilvus is not installed, or Milvus does not answer.
    """

    def __init__(self, uri: str, collection: str, token: str = "", timeout: float = 10.0, make: bool = False) -> None:
        if not 0 < timeout < _LOADING_S:
            raise KnowledgeBaseError(f"timeout is {timeout:g} s; it must be above 0 and below {_LOADING_S:g}")
        self.uri, self.collection, self._timeout = uri, collection, timeout
        self._base = f"{collection}_base"
        if not _COLLECTION.fullmatch(collection):
            raise KnowledgeBaseError(f"{collection!r} is not a valid name of a collection; use letters, digits and _")
        self._pymilvus = _pymilvus()
        if "://" not in uri and not make and not Path(uri).exists():
            raise KnowledgeBaseError(f"{uri}: no such file of milvus-lite; give its path, or the URI of a server")
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
        """Call a method of the client, with ``timeout`` in seconds, by default that of the connection.

        Raises:
            KnowledgeBaseError: If the engine refuses the request or does not answer in time.
        """
        try:
            return getattr(self._client, method)(*arguments, timeout=timeout or self._timeout, **options)
        except self._pymilvus.MilvusException as error:
            raise KnowledgeBaseError(f"{self.place}: {_line(error)}") from None

    @property
    def place(self) -> str:
        """``URI#COLLECTION``, as in error messages."""
        return f"{self.uri}#{self.collection}"

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def exists(self) -> bool:
        """Return whether the knowledge base exists."""
        return bool(self("has_collection", self._base))

    def taken(self) -> bool:
        """Return whether the collection exists, whoever made it."""
        return bool(self("has_collection", self.collection))

    def check_index(self, kind: str) -> None:
        """Raise a :class:`KnowledgeBaseError` if the engine would accept the index but search by brute force."""
        if self.lite and kind not in _BUILT_BY_LITE:
            raise KnowledgeBaseError(
                f"milvus-lite does not build {kind}; choose {', '.join(_BUILT_BY_LITE)}, or use a server"
            )

    def begin(self, index: str) -> None:
        """Make the collection of the state and the air code; an unfinished one is replaced.

        The engine must be able to build ``index``, which the entries will have.
        """
        self.check_index(parse_index(index)[0])
        self("drop_collection", self._base)
        # A collection must have vectors.
        self._make(self._base, {"name": FIELDS["name"], "value": MOST_TEXT}, 2, "FLAT", {})

    def make(self, dim: int, index: str) -> None:
        """Make the collection of the entries, with vectors of ``dim`` numbers, if there is none, and load it."""
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
        # Strong: an entry is found by every reader as soon as its addition has returned.
        self("create_collection", name, schema=schema, consistency_level="Strong")
        # Without waiting: the collection is empty, and pymilvus polls only every half second.
        self("create_index", name, indexes, sync=False)

    def load(self, kind: str) -> None:
        """Load the collections into memory, and check the index of the entries.

        Raises:
            KnowledgeBaseError: If a collection does not exist, or the index is of another kind.
        """
        found = self("describe_index", self.collection, "vector") or {}
        if found.get("index_type") != kind:
            raise KnowledgeBaseError(
                f"{self.place}: has the index {found.get('index_type')}, not {kind}; make it again"
            )
        self.check_index(kind)
        for name in (self._base, self.collection):
            self("load_collection", name, timeout=_LOADING_S)

    def flush(self) -> None:
        """Have the engine seal what was written, so that it is indexed."""
        self("flush", self.collection, timeout=_LOADING_S)

    def drop(self) -> None:
        """Delete both collections."""
        for name in (self.collection, self._base):
            self("drop_collection", name)

    def pieces(self) -> dict[str, str]:
        """Return the texts that :meth:`keep` stored, by name."""
        self("load_collection", self._base, timeout=_LOADING_S)
        rows = self("query", self._base, filter="", limit=_MOST_PIECES, output_fields=["name", "value"])
        return {row["name"]: row["value"] for row in rows}

    def keep(self, pieces: Mapping[str, str]) -> None:
        """Store texts by name, replacing earlier ones."""
        for name, value in pieces.items():
            self("upsert", self._base, [{"name": name, "value": value, "vector": [1.0, 0.0]}])

    def count(self) -> int:
        """Return the number of entries."""
        return int(self("query", self.collection, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def rows(self, names: Sequence[str], fields: Sequence[str]) -> dict[str, Row]:
        """Return the rows of those of ``names`` that exist, with some fields."""
        found: dict[str, Row] = {}
        for part in _parts(names):
            keys = {key_of(name): name for name in part}
            rows = self("get", self.collection, ids=list(keys), output_fields=["name", *fields])
            found |= {keys[row["name"]]: row for row in rows}
        return found

    def put(self, rows: Sequence[Row], progress: Callable[[int], None] | None = None) -> None:
        """Write rows, replacing those with the same key; call ``progress`` with the number that each request wrote."""
        for part in _parts(rows):
            self("upsert", self.collection, part)
            if progress:
                progress(len(part))

    def delete(self, names: Sequence[str]) -> None:
        """Delete the rows of some names."""
        for part in _parts(names):
            self("delete", self.collection, ids=[key_of(name) for name in part])

    def all(self, fields: Sequence[str]) -> Iterator[Row]:
        """Yield all rows with some fields, in the order of their keys."""
        pages = self("query_iterator", self.collection, batch_size=_A_PAGE, output_fields=["name", *fields])
        try:
            while page := list(pages.next()):
                for row in page:
                    if "vector" in row:
                        # As a list it takes 8 times as much memory.
                        row["vector"] = np.asarray(row["vector"], np.float32)
                yield from page
        except self._pymilvus.MilvusException as error:
            raise KnowledgeBaseError(f"{self.place}: {_line(error)}") from None
        finally:
            pages.close()

    def nearest(self, vectors: Any, count: int, fields: Sequence[str], params: Mapping[str, int]) -> list[list[Row]]:
        """Return the rows that the index finds nearest to each query.

        Args:
            vectors: Queries, float32 [N, D] of unit norm.
            count: Rows for each query.
            fields: Fields of the rows.
            params: Search parameters of the index, such as ``ef`` or ``nprobe``.
        """
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


def _parts(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    return (items[start : start + _AT_A_TIME] for start in range(0, len(items), _AT_A_TIME))


def _line(error: Exception) -> str:
    """Return the message of an exception of pymilvus on one line."""
    return brief(str(getattr(error, "message", "") or error))
