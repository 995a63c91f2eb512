"""The knowledge base as its users see it: search, additions, removals, compaction, snapshots."""

import json
import threading

import numpy as np
import pytest

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase
from crlsc_phy.knowledge.joint import joint_repair, joint_search
from crlsc_phy.knowledge.verify import verify


@pytest.fixture(scope="module")
def code() -> AirCode:
    return AirCode(np.random.default_rng(0).normal(size=(4, 256, 4)).astype(np.float32))


def entries(start: int, stop: int) -> list[Entry]:
    return [
        Entry(f"e/{i}", f"label {i % 30}", "made for this test", "CC0-1.0", f"number {i}", thumbnail=bytes([i % 256]))
        for i in range(start, stop)
    ]


VECTORS = np.random.default_rng(1).normal(size=(300, 16)).astype(np.float32)
QUERIES = np.random.default_rng(2).normal(size=(20, 16)).astype(np.float32)


@pytest.fixture(params=[False, True], ids=["codes", "vectors"])
def base(request, tmp_path, code) -> KnowledgeBase:
    return KnowledgeBase.create(tmp_path / "kb", code, VECTORS, entries(0, 300), keep_vectors=request.param)


def cosines(stored: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return (queries @ stored.T) / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(stored, axis=1)


def test_opens_as_it_was_made(tmp_path, base):
    again = KnowledgeBase.open(tmp_path / "kb")
    assert again.id == base.id
    assert again.name == "kb"
    assert len(again) == 300
    assert list(again.entries) == entries(0, 300)
    assert np.array_equal(again.codes, base.codes)
    assert again.entry("e/7") == entries(7, 8)[0]
    assert again.named("label 7") == [f"e/{i}" for i in range(7, 300, 30)]


def test_search_agrees_with_brute_force(code, base):
    stored = VECTORS if base.manifest.vector_scale else code.decode(base.codes)
    names = [entry.name for entry in base.entries]
    for row, hits in zip(cosines(stored, QUERIES), base.search(QUERIES, 5), strict=True):
        assert np.allclose(hits.scores, np.sort(row)[::-1][:5], atol=0.01)
        assert hits[0].name == names[int(row.argmax())]
        assert hits[0].base == "kb"


def test_k_beyond_the_size_gives_all(base):
    assert len(base.search(np.ones((1, 16), np.float32), 1000)[0]) == 300


def test_additions_are_found_and_survive_opening_anew(tmp_path, base):
    before = base.id
    new = np.eye(2, 16, dtype=np.float32)
    base.add(new, entries(300, 302))
    assert base.id != before
    asked = new if base.manifest.vector_scale else base.air_code.decode(base.codes[-2:])
    for each in (base, KnowledgeBase.open(tmp_path / "kb")):
        assert [hits[0].name for hits in each.search(asked, 1)] == ["e/300", "e/301"]
        assert each.codes.shape == (302, 4)
        assert list(each.entries)[-1] == entries(301, 302)[0]


def test_what_was_removed_is_not_found(base):
    nearest = [hit.name for hit in base.search(VECTORS[:1], 20)[0]]
    assert base.remove([*nearest, "never there"]) == 20
    assert base.remove(nearest) == 0
    found = [hit.name for hit in base.search(VECTORS[:1], 280)[0]]
    assert len(found) == 280
    assert not set(found) & set(nearest)
    with pytest.raises(KnowledgeBaseError, match="has no entry"):
        base.entry(nearest[0])
    base.add(VECTORS[:1], [Entry(nearest[0], "again")])
    assert base.search(VECTORS[:1], 1)[0][0].label == "again"


def test_compaction_changes_no_answer_and_gives_back_the_space(tmp_path, base):
    base.remove([f"e/{i}" for i in range(0, 300, 3)])
    base.add(np.eye(1, 16, dtype=np.float32), entries(300, 301))
    before, codes = base.search(QUERIES, 7), np.array(base.codes)
    listed = list(base.entries)
    for _ in range(3):
        base.compact()
    for old, new in zip(before, base.search(QUERIES, 7), strict=True):
        assert [hit.name for hit in old] == [hit.name for hit in new]
        assert np.array_equal(old.scores, new.scores)
    assert np.array_equal(base.codes, codes)
    assert list(base.entries) == listed
    assert len([path for path in (tmp_path / "kb").iterdir() if path.name.isdigit()]) == 1


def test_readers_see_one_generation_until_they_refresh(tmp_path, base):
    reader = KnowledgeBase.open(tmp_path / "kb")
    assert not reader.refresh()
    base.remove(["e/0"])
    base.compact()
    assert reader.entry("e/0").name == "e/0"
    assert len(reader.search(VECTORS[:1], 300)[0]) == 300
    assert reader.refresh()
    assert reader.id == base.id
    assert len(reader) == 299


def test_threads_search_while_one_writes(base):
    reader, wrong, done = KnowledgeBase.open(base.path), [], threading.Event()

    def search() -> None:
        while not done.is_set():
            reader.refresh()
            wrong.extend(row for row in reader.search(VECTORS[:3], 3) if len(row) != 3)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(5):
        base.add(QUERIES[i : i + 1], entries(300 + i, 301 + i))
        base.compact()
    done.set()
    for thread in threads:
        thread.join(20)
    assert not wrong
    reader.refresh()
    assert len(reader) == 305


def test_a_snapshot_stands_alone(tmp_path, base):
    base.remove(["e/5"])
    copy = base.snapshot(tmp_path / "copy")
    base.remove(["e/6"])
    assert len(copy) == 299
    assert copy.entry("e/6").name == "e/6"
    with pytest.raises(KnowledgeBaseError, match="exists already"):
        base.snapshot(tmp_path / "copy")


def test_settings_are_kept(tmp_path, base):
    base.configure(tau=0.5, threshold=3.0, index="HNSW16")
    again = KnowledgeBase.open(tmp_path / "kb")
    assert (again.manifest.tau, again.manifest.threshold, str(again.spec)) == (0.5, 3.0, "HNSW16")
    assert len(again.search(QUERIES, 3)) == 20


def test_search_and_repair_span_shared_and_private(tmp_path, code, base):
    private = KnowledgeBase.create(tmp_path / "pkb", code, QUERIES, entries(0, 20), aligned_to=base.id)
    assert private.manifest.aligned_to == base.id
    near = joint_search([base, private], np.concatenate((VECTORS[:1], QUERIES[:1])), 4)
    assert near[0][0].base == "kb"
    assert (near[1][0].base, near[1][0].name) == ("pkb", "e/0")
    assert [hit.score for hit in near[0]] == sorted((hit.score for hit in near[0]), reverse=True)
    llrs = 6.0 * np.unpackbits(private.codes[3]).astype(np.float32) - 3
    assert joint_repair([base, private], llrs).entry.base == "pkb"
    foreign = KnowledgeBase.create(tmp_path / "foreign", AirCode(code.centroids + 1), QUERIES, entries(0, 20))
    with pytest.raises(KnowledgeBaseError, match="2 air codes"):
        joint_search([base, foreign], QUERIES, 1)


def test_verify_goes_back_to_what_is_whole(tmp_path, base):
    base.add(np.eye(1, 16, dtype=np.float32), entries(300, 301))
    assert verify(tmp_path / "kb").faults == ()
    path = tmp_path / "kb/000002/codes.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    found = verify(tmp_path / "kb")
    assert "000002/codes.npy is damaged" in found.faults[0]
    assert found.generation == ""
    mended = verify(tmp_path / "kb", repair=True)
    assert mended.generation == "000001"
    assert len(KnowledgeBase.open(tmp_path / "kb")) == 300
    (tmp_path / "kb/current").write_text("rubbish")
    assert verify(tmp_path / "kb", repair=True).generation == "000001"


@pytest.mark.parametrize(
    ("vectors", "listed", "message"),
    [
        (np.zeros((2, 16), np.float32), entries(0, 1), "2 vectors for 1"),
        (np.zeros((2, 16), np.float32), [*entries(0, 1)] * 2, "two entries have the name"),
        (np.zeros((2, 8), np.float32), entries(0, 2), "takes"),
        (np.full((2, 16), np.nan, np.float32), entries(0, 2), "NaN"),
        ([["a"] * 16] * 2, entries(0, 2), "not numbers"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_nothing_changes(tmp_path, code, base, vectors, listed, message):
    with pytest.raises(KnowledgeBaseError, match=message):
        KnowledgeBase.create(tmp_path / "other", code, vectors, listed)
    assert not (tmp_path / "other").exists()
    with pytest.raises(KnowledgeBaseError, match=message):
        base.add(vectors, listed)
    assert KnowledgeBase.open(tmp_path / "kb").id == base.id


def test_names_are_unique_and_a_base_is_made_once(tmp_path, code, base):
    with pytest.raises(KnowledgeBaseError, match="has an entry 'e/3' already"):
        base.add(VECTORS[:1], entries(3, 4))
    with pytest.raises(KnowledgeBaseError, match="there is a knowledge base already"):
        KnowledgeBase.create(tmp_path / "kb", code, VECTORS[:1], entries(0, 1))
    with pytest.raises(KnowledgeBaseError, match="is not an index"):
        base.configure(index="NoSuch;what")


def test_an_earlier_form_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(KnowledgeBaseError, match="format of an earlier version, build it again"):
        KnowledgeBase.open(tmp_path)
