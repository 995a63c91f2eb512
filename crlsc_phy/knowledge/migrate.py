"""Copies of knowledge bases between folders and Milvus; codes are copied bit for bit.

A copy that was interrupted continues when it is started again. It becomes visible when it is complete and has been read
back and compared: until then a copy in Milvus cannot be opened, and a folder has a temporary name.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import astuple
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.files import sync
from crlsc_phy.knowledge.base import Batch, Settings, check_batch
from crlsc_phy.knowledge.folder import StoreFolder, storing
from crlsc_phy.knowledge.local import KnowledgeBase
from crlsc_phy.knowledge.milvus import MilvusKnowledgeBase

__all__ = ["AnyBase", "migrate", "milvus_place", "open_base"]

AnyBase = KnowledgeBase | MilvusKnowledgeBase

_PREFIX = "milvus:"
# Entries in one addition: each is a generation of a folder, and takes two writes of the state in Milvus.
_A_SHARD = 16_384
_AN_ADDITION = 2_048


def milvus_place(place: str | Path) -> tuple[str, str] | None:
    """Return URI and collection of ``milvus:URI#COLLECTION``; None for a folder.

    Raises:
        KnowledgeBaseError: If URI or collection is missing.
    """
    text = str(place)
    if not text.startswith(_PREFIX):
        return None
    uri, _, collection = text.removeprefix(_PREFIX).rpartition("#")
    if not uri or not collection:
        raise KnowledgeBaseError(
            f"{text}: not a knowledge base; write milvus:URI#COLLECTION, as in milvus:http://localhost:19530#pictures"
        )
    return uri, collection


def open_base(place: str | Path, *, token: str = "", timeout: float = 10.0) -> AnyBase:
    """Open a knowledge base.

    Args:
        place: A folder, or ``milvus:URI#COLLECTION``.
        token: For Milvus: ``user:password`` or an API key.
        timeout: For Milvus: time limit of each request in seconds.

    Raises:
        KnowledgeBaseError: If it does not exist or is damaged.
    """
    milvus = milvus_place(place)
    return MilvusKnowledgeBase.open(*milvus, token=token, timeout=timeout) if milvus else KnowledgeBase.open(place)


def migrate(
    source: AnyBase,
    target: str | Path,
    *,
    index: str = "",
    token: str = "",
    timeout: float = 10.0,
    progress: Callable[[int], None] | None = None,
) -> AnyBase:
    """Copy a knowledge base; an interrupted copy continues.

    Codes and metadata stay as they are. Stored vectors are rounded to int8 in a folder.

    Args:
        source: Base to copy. Of a base in a folder, the generation in use is copied.
        target: New base: a folder, or ``milvus:URI#COLLECTION``.
        index: Search index of the copy, in the syntax of the target; chosen by size by default.
        token: For Milvus: ``user:password`` or an API key.
        timeout: For Milvus: time limit of each request in seconds.
        progress: Called with the number of entries in each part that was copied, and again when parts are compared.

    Returns:
        The copy.

    Raises:
        KnowledgeBaseError: If the target exists, an entry is too large for Milvus, the source was written to meanwhile,
            or the copy differs from it. The target then does not exist, or cannot be opened.
    """
    tell = progress or (lambda _: None)
    milvus = milvus_place(target)
    if milvus is None:
        return _to_folder(source, Path(target), index, tell)
    return _to_milvus(source, milvus, index, token, timeout, tell)


def _to_milvus(
    source: AnyBase, place: tuple[str, str], index: str, token: str, timeout: float, tell: Callable[[int], None]
) -> MilvusKnowledgeBase:
    copy = MilvusKnowledgeBase.create(
        *place,
        source.air_code,
        np.empty((0, source.air_code.dim), np.float32),
        [],
        filled_from=source.id,
        token=token,
        timeout=timeout,
        **_settings(source, index),
    )
    wanted = _fill(copy, source.batches(_AN_ADDITION), tell)
    copy.flush()
    _compare(source, wanted, copy, copy.place, tell)
    copy.finish()
    return copy


def _to_folder(source: AnyBase, path: Path, index: str, tell: Callable[[int], None]) -> KnowledgeBase:
    code = source.air_code
    StoreFolder(path).check_new()
    # The name contains the id of the source, since the copy of another state cannot be continued.
    prefix = f".{hashlib.sha256(path.name.encode(errors='surrogateescape')).hexdigest()[:16]}.from-"
    aside = path.with_name(prefix + source.id[:16])
    with storing(path):
        for left in path.parent.glob(f"{prefix}*"):
            if left != aside:
                shutil.rmtree(left)
    batches = source.batches(_A_SHARD)
    if StoreFolder(aside).exists():
        copy = KnowledgeBase.open(aside)
    else:
        # The largest number in these vectors sets the scale of all.
        first = next(batches, check_batch(code, np.empty((0, code.dim), np.float32), []))
        settings = _settings(source, index)
        copy = KnowledgeBase.create(aside, code, first.vectors, first.entries, codes=first.codes, **settings)
        batches = chain([first], batches)
    wanted = _fill(copy, batches, tell)
    _compare(source, wanted, copy, str(path), tell)
    with storing(path):
        aside.rename(path)
        sync(path.parent)
    return KnowledgeBase.open(path)


def _fill(copy: AnyBase, batches: Iterator[Batch], tell: Callable[[int], None]) -> int:
    """Add to a copy the entries that it lacks, and return the digest of all."""
    digest = 0
    for batch in batches:
        digest += _digest(batch)
        there = copy.known([entry.name for entry in batch.entries])
        fresh = [place for place, entry in enumerate(batch.entries) if entry.name not in there]
        copy.add(batch.vectors[fresh], [batch.entries[place] for place in fresh], codes=batch.codes[fresh])
        tell(len(batch.entries))
    return digest


def _compare(source: AnyBase, wanted: int, copy: AnyBase, place: str, tell: Callable[[int], None]) -> None:
    """Read a copy back, and raise a :class:`KnowledgeBaseError` if it differs from its source."""
    if isinstance(source, MilvusKnowledgeBase) and source.refresh():
        raise KnowledgeBaseError(f"{source.place}: was written to while it was copied; copy it again")
    found = 0
    for batch in copy.batches(_A_SHARD):
        found += _digest(batch)
        tell(len(batch.entries))
    if found != wanted or len(copy) != len(source):
        raise KnowledgeBaseError(f"{place}: differs from its source; delete it and copy again")


def _digest(batch: Batch) -> int:
    """Return a digest of entries and codes that does not depend on their order."""
    records = (repr((code.tobytes(), *astuple(entry))) for code, entry in zip(batch.codes, batch.entries, strict=True))
    return sum(int.from_bytes(hashlib.sha256(record.encode()).digest(), "big") for record in records)


def _settings(base: AnyBase, index: str) -> Settings:
    """Return the settings of a base for a copy with another index."""
    said: Any = base.manifest if isinstance(base, KnowledgeBase) else base.state
    same: Any = {name: getattr(said, name) for name in ("name", "aligned_to", "tau", "threshold", "keep_vectors")}
    settings: Settings = same | {"index": index}
    return settings
