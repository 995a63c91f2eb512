"""Entries of one base in another: duplicates, provenance, and nothing trusted."""

from dataclasses import replace

import numpy as np
import pytest

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase

CODE = AirCode(np.random.default_rng(0).normal(size=(4, 256, 4)).astype(np.float32))
VECTORS = np.random.default_rng(1).normal(size=(8, 16)).astype(np.float32)


def base(path, names, vectors=VECTORS, code=CODE, keep_vectors=False) -> KnowledgeBase:
    entries = [Entry(name, "cat") for name in names]
    return KnowledgeBase.create(path, code, vectors[: len(entries)], entries, keep_vectors=keep_vectors)


def test_merging_tells_duplicates_from_what_is_alike_and_keeps_origins(tmp_path):
    mine = base(tmp_path / "mine", ["a", "b"])
    theirs = base(tmp_path / "theirs", ["a", "other b", "c"])
    merged = mine.merge(theirs)
    assert (merged.added, merged.duplicates, merged.alike) == (2, 1, (("other b", "b"),))
    assert mine.entry("c").origin == f"theirs@{theirs.id[:12]}/c"
    assert mine.entry("a").origin == ""
    again = mine.merge(theirs)
    assert (again.added, again.duplicates) == (0, 3)
    third = base(tmp_path / "third", [])
    third.merge(mine, ["c"])
    assert third.entry("c").origin == f"theirs@{theirs.id[:12]}/c"


def test_a_duplicate_that_another_writer_brought_meanwhile_is_one(tmp_path):
    mine, also_mine = base(tmp_path / "mine", ["a"]), KnowledgeBase.open(tmp_path / "mine")
    theirs = base(tmp_path / "theirs", ["a", "b"])
    also_mine.merge(theirs)
    assert mine.merge(theirs).duplicates == 2


def test_a_name_with_another_code_and_another_air_code_are_refused(tmp_path):
    mine = base(tmp_path / "mine", ["a"])
    with pytest.raises(KnowledgeBaseError, match="'a' with another code; rename one of them"):
        mine.merge(base(tmp_path / "theirs", ["a"], VECTORS[::-1]))
    with pytest.raises(KnowledgeBaseError, match="has the air code"):
        mine.merge(base(tmp_path / "foreign", ["x"], code=AirCode(CODE.centroids + 1)))
    assert len(KnowledgeBase.open(tmp_path / "mine")) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": np.zeros((2, 5), np.uint8)}, "codes are"),
        ({"codes": np.zeros((2, 4), np.float32)}, "codes are"),
        ({"codes": np.zeros((3, 4), np.uint8)}, "codes are"),
        ({"entries": [Entry("x", ""), Entry("x", "")]}, "two entries have the name"),
        ({"vectors": np.full((2, 16), np.nan, np.float32)}, "NaN"),
        ({"vectors": np.zeros((1, 16), np.float32)}, "1 vectors for 2"),
    ],
)
def test_a_parcel_that_does_not_fit_is_refused(tmp_path, change, message):
    mine = base(tmp_path / "mine", ["a"])
    parcel = base(tmp_path / "theirs", ["x", "y"], keep_vectors=True).parcel()
    with pytest.raises(KnowledgeBaseError, match=message):
        mine.receive(replace(parcel, **change))
    assert mine.receive(parcel).added == 2
