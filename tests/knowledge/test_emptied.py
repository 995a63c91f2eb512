"""Knowledge bases that lost all, or almost all, of their entries."""

import numpy as np
import pytest

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase
from crlsc_phy.knowledge.calibration import calibrate
from crlsc_phy.knowledge.index import LARGEST_FLAT
from crlsc_phy.knowledge.joint import joint_repair, joint_search

MANY = LARGEST_FLAT + 300
RNG = np.random.default_rng(5)
CENTRES = RNG.normal(size=(40, 16))
VECTORS = (CENTRES[np.arange(MANY) % 40] + 0.2 * RNG.normal(size=(MANY, 16))).astype(np.float32)


@pytest.fixture(scope="module")
def code() -> AirCode:
    return AirCode(np.random.default_rng(0).normal(size=(4, 256, 4)).astype(np.float32))


def listed(count: int) -> list[Entry]:
    return [Entry(f"n{i}", f"cluster {i % 40}") for i in range(count)]


@pytest.mark.parametrize("index", ["", "IVF64,Flat", "IVF64,PQ4x4fs;nprobe=2;rerank=4", "HNSW8"])
def test_the_few_that_are_left_are_found_wherever_they_lie(tmp_path, code, index):
    base = KnowledgeBase.create(tmp_path / "kb", code, VECTORS, listed(MANY), index=index)
    left = [f"n{i}" for i in (3, 77, 1000, 5001, MANY - 1)]
    assert base.remove(entry.name for entry in listed(MANY) if entry.name not in left) == MANY - 5
    for _ in range(2):
        for k in (5, 9):
            assert [sorted(hit.name for hit in hits) for hits in base.search(VECTORS[:20], k)] == [sorted(left)] * 20
        scores = base.search(VECTORS[77:78], 5)[0].scores
        assert (np.diff(scores) <= 0).all()
        assert base.repair(code.encode(VECTORS[77:78])[0]).entry.name == "n77"
        base.compact()


def test_a_query_whose_cells_were_all_emptied_gets_the_nearest_of_the_rest(tmp_path, code):
    """More entries are left than are looked at one by one, but none where an inverted file looks."""
    base = KnowledgeBase.create(
        tmp_path / "kb", code, VECTORS, listed(MANY), keep_vectors=True, index="IVF40,Flat;nprobe=1"
    )
    removed = base.named("cluster 7")[:200]
    vectors = VECTORS[[int(name[1:]) for name in removed]].copy()
    assert base.remove(removed) == 200
    assert len(base) > LARGEST_FLAT
    left = np.setdiff1d(np.arange(MANY), [int(name[1:]) for name in removed])
    units = VECTORS[left] / np.linalg.norm(VECTORS[left], axis=1, keepdims=True)
    queries = vectors[:3] / np.linalg.norm(vectors[:3], axis=1, keepdims=True)
    # More than a cell holds, so that the others must be looked at too.
    k = 700
    for query, hits in zip(queries, base.search(queries, k), strict=True):
        assert np.allclose(hits.scores, np.sort(units @ query)[::-1][:k], atol=0.01)
        assert not {hit.name for hit in hits} & set(removed)


def test_an_empty_base_answers_with_nothing(tmp_path, code):
    base = KnowledgeBase.create(tmp_path / "kb", code, VECTORS[:50], listed(50))
    other = KnowledgeBase.create(tmp_path / "other", code, VECTORS[:9], listed(9))
    base.remove(entry.name for entry in listed(50))
    llrs = 6.0 * np.unpackbits(code.encode(VECTORS[:1])[0]).astype(np.float32) - 3
    for _ in range(2):
        assert (len(base), list(base.entries), base.codes.shape) == (0, [], (0, 4))
        assert [list(hits) for hits in base.search(VECTORS[:3], 4)] == [[]] * 3
        assert joint_search([base], VECTORS[:3], 4) == [[]] * 3
        assert [hits[0].base for hits in joint_search([base, other], VECTORS[:3], 4)] == ["other"] * 3
        assert joint_repair([base, other], llrs).entry.base == "other"
        for refused in (lambda: base.repair(llrs), lambda: joint_repair([base], llrs)):
            with pytest.raises(KnowledgeBaseError, match="empty"):
                refused()
        with pytest.raises(KnowledgeBaseError, match="empty"):
            calibrate(base, other.codes[:2], ["cluster 0", "cluster 1"])
        assert len(base.snapshot(tmp_path / f"copy{base.manifest.number}")) == 0
        assert len(base.parcel()) == 0
        base.compact()
    assert other.merge(base).added == 0
    base.add(VECTORS[:1], listed(1))
    assert base.search(VECTORS[:1], 3)[0][0].name == "n0"
