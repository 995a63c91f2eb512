"""The search index: its words, how well it finds, its file in the cache, and what was removed."""

import os

import numpy as np
import pytest

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase
from crlsc_phy.knowledge import index as indexes
from crlsc_phy.knowledge.index import IndexSpec

COUNT, DIM = 30_000, 64
SPEC = "IVF128,PQ32x4fs;nprobe=16;rerank=20"


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("Flat", IndexSpec("Flat")),
        (" IVF64,Flat;nprobe=8 ", IndexSpec("IVF64,Flat", 8)),
        ("IVF4096,PQ64x4fs;nprobe=32;rerank=20", IndexSpec("IVF4096,PQ64x4fs", 32, 20)),
        ("RaBitQ;rerank=10", IndexSpec("RaBitQ", rerank=10)),
    ],
)
def test_a_spec_is_read_and_written_as_the_same_text(text, spec):
    assert IndexSpec.parse(text) == spec
    assert str(spec) == text.strip()


@pytest.mark.parametrize("entries", [0, 20_000, 20_001, 1_000_000, 50_000_000])
@pytest.mark.parametrize("dim", [16, 60, 127, 512])
def test_the_spec_that_is_chosen_by_size_is_one(entries, dim):
    spec = IndexSpec.choose(entries, dim)
    assert IndexSpec.parse(str(spec)) == spec
    assert (spec.factory == "Flat") == (entries <= 20_000)


@pytest.mark.parametrize(
    "text",
    ["", " ", ";nprobe=3", "Flat;nprobe=", "Flat;nprobe=-1", "Flat;nprobe=x", "Flat;rerank=2;nprobe=1", "Flat;k=3",
     "IVF8,Flat;nprobe=0", "Flat;rerank=" + "9" * 5000],
)  # fmt: skip
def test_what_is_no_spec_is_refused(text):
    with pytest.raises(KnowledgeBaseError, match="is not an index") as refusal:
        IndexSpec.parse(text)
    assert "\n" not in str(refusal.value)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def vectors():
    """30,000 clustered vectors."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, DIM))
    return unit(centres[rng.integers(200, size=COUNT)] + 0.5 * rng.normal(size=(COUNT, DIM))).astype(np.float32)


@pytest.fixture(scope="module")
def queries(vectors):
    rng = np.random.default_rng(1)
    return unit(vectors[rng.choice(COUNT, 200)] + 0.05 * rng.normal(size=(200, DIM))).astype(np.float32)


@pytest.fixture(scope="module")
def code(vectors):
    return AirCode(vectors[: 8 * 256].reshape(256, 8, 8, 8)[:, 0].transpose(1, 0, 2).copy())


@pytest.fixture(scope="module")
def large(tmp_path_factory, code, vectors):
    """The folder of a base with an index that is kept in a file."""
    path = tmp_path_factory.mktemp("large") / "kb"
    entries = [Entry(f"e/{i}", f"label {i % 100}") for i in range(COUNT)]
    KnowledgeBase.create(path, code, vectors, entries, keep_vectors=True, index=SPEC)
    return path


def recall(base, queries):
    """Of the ten nearest by brute force over what is kept, how many are found."""
    kept = unit(base._generation.vectors_at(base._generation.live))
    truth = np.argsort(-(queries @ kept.T), axis=1)[:, :10]
    rows = base._generation.live
    found = [set(hits.positions.tolist()) for hits in base.search(queries, 10)]
    return np.mean([len(set(rows[near].tolist()) & got) / 10 for near, got in zip(truth, found, strict=True)])


def test_a_fast_scan_with_rerank_finds_nine_of_ten_and_tells_true_cosines(large, queries):
    base = KnowledgeBase.open(large)
    assert recall(base, queries) >= 0.9
    hits = base.search(queries[:1], 10)[0]
    kept = base._generation.vectors_at(hits.positions)
    assert np.allclose(hits.scores, kept @ queries[0], atol=1e-5)
    assert (np.diff(hits.scores) <= 0).all()


def index_file(path):
    (file,) = (path / "cache").glob("*.faiss")
    return file


def test_the_file_of_an_index_is_used_by_the_next_opening(large, queries, monkeypatch):
    first = KnowledgeBase.open(large).search(queries, 10)
    before = index_file(large).stat()
    monkeypatch.setattr("crlsc_phy.knowledge.index.build", lambda *_: pytest.fail("built again"))
    again = KnowledgeBase.open(large).search(queries, 10)
    after = index_file(large).stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    assert [hits.positions.tolist() for hits in first] == [hits.positions.tolist() for hits in again]


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "stamp"])
def test_a_damaged_index_file_is_noticed_and_built_again(large, queries, harm):
    right = [hits.positions.tolist() for hits in KnowledgeBase.open(large).search(queries, 10)]
    file = index_file(large)
    data = bytearray(file.read_bytes())
    if harm == "flip":
        data[len(data) // 2 : len(data) // 2 + 4096] = bytes(4096)
        file.write_bytes(data)
    elif harm == "stamp":
        file.write_bytes(data[:-1])
        file.with_suffix(".json").write_text("[]")
    else:
        file.write_bytes(data[: len(data) // 3 if harm == "cut" else 0])
    assert [hits.positions.tolist() for hits in KnowledgeBase.open(large).search(queries, 10)] == right
    assert index_file(large).stat().st_size == len(data)


def test_what_was_removed_never_comes_back_also_when_it_was_all_the_nearest(tmp_path, large, queries):
    base = KnowledgeBase.open(large).snapshot(tmp_path / "kb")
    gone = {hit.name for hits in base.search(queries[:20], 60) for hit in hits}
    assert base.remove(gone) == len(gone)
    for opened in (base, KnowledgeBase.open(tmp_path / "kb")):
        found = opened.search(queries[:20], 60)
        assert all(len(hits) == 60 for hits in found)
        assert not gone & {hit.name for hits in found for hit in hits}
        assert recall(opened, queries[:20]) >= 0.85
    base.compact()
    assert not gone & {hit.name for hits in base.search(queries[:20], 60) for hit in hits}


@pytest.mark.parametrize("index", ["Flat", "IVF64,Flat", "RaBitQ;rerank=10", "IVF16,RaBitQ;nprobe=16;rerank=10"])
def test_small_bases_by_any_index_keep_to_what_is_left(tmp_path, code, vectors, index):
    some = vectors[:3000]
    base = KnowledgeBase.create(
        tmp_path / "kb", code, some, [Entry(f"e/{i}", "x") for i in range(3000)], keep_vectors=True, index=index
    )
    hits = base.search(some[:50], 5)
    assert np.mean([found[0].name == f"e/{i}" for i, found in enumerate(hits)]) > 0.9
    order = np.argsort(-(some @ some[0]))
    base.remove(f"e/{i}" for i in order[:2900])
    left = {f"e/{i}" for i in order[2900:]}
    found = {hit.name for hit in base.search(some[:1], 100)[0]}
    assert found <= left
    assert found == left
    base.remove(left)
    assert len(base.search(some[:2], 5)[0]) == 0


def test_an_index_that_does_not_fit_the_vectors_is_refused_in_one_line(tmp_path, code, vectors):
    base = KnowledgeBase.create(tmp_path / "kb", code, vectors[:300], [Entry(f"{i}", "") for i in range(300)])
    for text in ("Nonsense", "IVF8,PQ7x4fs", "PQ0"):
        base.configure(index=text)
        with pytest.raises(KnowledgeBaseError, match="cannot build .* for vectors of 64 numbers") as refusal:
            base.search(vectors[:1], 1)
        assert "\n" not in str(refusal.value)


def test_an_empty_base_answers_with_nothing(tmp_path, code, vectors):
    base = KnowledgeBase.create(tmp_path / "kb", code, vectors[:0], [])
    assert [list(hits) for hits in base.search(vectors[:2], 3)] == [[], []]


def add_some(base, vectors, count):
    """Add moved copies of ``count`` entries."""
    moved = unit(vectors[:count] + 0.05 * np.random.default_rng(2).normal(size=(count, DIM)))
    base.add(moved.astype(np.float32), [Entry(f"new/{i}", "new") for i in range(count)])
    return moved.astype(np.float32)


def test_an_addition_grows_the_kept_index_and_the_old_file_goes(tmp_path, large, vectors, queries, monkeypatch):
    base = KnowledgeBase.open(large).snapshot(tmp_path / "kb")
    base.search(queries[:1], 1)
    old = index_file(base.path)
    left = old.with_name(f".{old.name}.12345")
    left.write_bytes(b"of a killed process")
    os.utime(left, (0, 0))
    moved = add_some(base, vectors, 500)
    with monkeypatch.context() as patch:
        patch.setattr("crlsc_phy.knowledge.index.build", lambda *_: pytest.fail("built anew"))
        found = [hits[0].name for hits in base.search(moved, 1)]
    assert np.mean([name == f"new/{i}" for i, name in enumerate(found)]) > 0.95
    assert recall(base, queries) >= 0.9
    assert index_file(base.path) != old
    assert not left.exists()
    assert not old.with_suffix(".json").exists()


def test_an_index_is_built_anew_when_its_base_has_more_than_doubled_or_it_is_damaged(tmp_path, large, vectors, queries):
    base = KnowledgeBase.open(large).snapshot(tmp_path / "kb")
    base.search(queries[:1], 1)
    index_file(base.path).write_bytes(b"damaged")
    add_some(base, vectors, 100)
    assert recall(base, queries) >= 0.9
    more = unit(np.random.default_rng(3).normal(size=(COUNT + 200, DIM))).astype(np.float32)
    base.add(more, [Entry(f"more/{i}", "more") for i in range(len(more))])
    built = []
    build = indexes.build
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crlsc_phy.knowledge.index.build", lambda *given: built.append(given) or build(*given))
        assert base.search(more[:1], 1)[0][0].name == "more/0"
    assert len(built) == 1


@pytest.mark.parametrize(("entries", "dim", "index"), [
    (20_000, 512, "Flat"), (20_001, 64, "IVF512,PQ64x4fs;nprobe=64;rerank=40"),
    (100_000, 96, "IVF1024,PQ48x4fs;nprobe=64;rerank=40"),
    (1_000_000, 512, "PCAR256,IVF4096,PQ64x4fs;nprobe=64;rerank=40"),
])  # fmt: skip
def test_the_index_by_size(entries, dim, index):
    assert str(IndexSpec.choose(entries, dim)) == index


def test_beyond_256_numbers_an_index_of_principal_components_finds_nine_of_ten(tmp_path):
    rng = np.random.default_rng(0)
    spread = np.arange(1, 321) ** -0.55
    directions = np.linalg.qr(rng.normal(size=(320, 320)))[0]
    entries = unit((rng.normal(size=(21_000, 320)) * spread) @ directions).astype(np.float32)
    code = AirCode(entries[: 8 * 256].reshape(256, 8, 8, 40)[:, 0].transpose(1, 0, 2).copy())
    named = [Entry(str(i), "") for i in range(len(entries))]
    base = KnowledgeBase.create(tmp_path / "kb", code, entries, named, keep_vectors=True)
    assert base.spec.factory.startswith("PCAR256,")
    asked = unit(entries[:200] + 0.3 * unit((rng.normal(size=(200, 320)) * spread) @ directions)).astype(np.float32)
    assert recall(base, asked) >= 0.85
