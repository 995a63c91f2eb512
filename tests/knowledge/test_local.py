"""The knowledge base as a folder."""

import json

import numpy as np
import pytest

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase


@pytest.fixture(scope="module")
def code() -> AirCode:
    return AirCode(np.random.default_rng(0).normal(size=(4, 256, 4)).astype(np.float32))


@pytest.fixture
def base(tmp_path, code) -> KnowledgeBase:
    vectors = np.random.default_rng(1).normal(size=(300, 16)).astype(np.float32)
    entries = [Entry(f"e/{i}", f"label {i % 30}", "made for this test", "CC0-1.0") for i in range(300)]
    return KnowledgeBase.create(tmp_path / "kb", code, vectors, entries)


def test_opens_as_it_was_made(tmp_path, base):
    again = KnowledgeBase.open(tmp_path / "kb")
    assert again.id == base.id
    assert len(again) == 300
    assert again.entries == base.entries
    assert np.array_equal(again.codes, base.codes)


def test_search_agrees_with_brute_force(code, base):
    queries = np.random.default_rng(2).normal(size=(20, 16)).astype(np.float32)
    stored = code.decode(base.codes)
    cosine = (queries @ stored.T) / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(stored, axis=1)
    for row, hits in zip(cosine, base.search(queries, 5), strict=True):
        assert np.allclose([hit.score for hit in hits], np.sort(row)[::-1][:5], atol=1e-5)
        assert hits[0].name == base.entries[int(row.argmax())].name


def test_k_beyond_the_size_gives_all(base):
    assert len(base.search(np.ones((1, 16), np.float32), 1000)[0]) == 300


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize("name", ["air_code.safetensors", "codes.npy", "entries.json", "manifest.json"])
def test_a_missing_file_is_named(tmp_path, name):
    (tmp_path / "kb" / name).unlink()
    with pytest.raises(KnowledgeBaseError, match=name.replace(".", r"\.")):
        KnowledgeBase.open(tmp_path / "kb")


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize("name", ["air_code.safetensors", "codes.npy", "entries.json"])
def test_a_flipped_byte_is_noticed(tmp_path, name):
    path = tmp_path / "kb" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(KnowledgeBaseError, match=f"{name} is damaged"):
        KnowledgeBase.open(tmp_path / "kb")


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has format 2"),
        ({"files": {"../../etc/passwd": "0"}}, "outside the folder"),
        ({"files": {"/etc/passwd": "0"}}, "outside the folder"),
        ({"files": 3}, "damaged"),
        ({"files": {}}, "lacks air_code"),
    ],
)
def test_a_hostile_or_newer_manifest_is_refused(tmp_path, change, message):
    path = tmp_path / "kb/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(KnowledgeBaseError, match=message):
        KnowledgeBase.open(tmp_path / "kb")


def test_create_refuses_what_it_cannot_keep(tmp_path, code, base):
    vectors, entry = np.zeros((2, 16), np.float32), Entry("a", "a", "test", "CC0-1.0")
    with pytest.raises(KnowledgeBaseError, match="exists already"):
        KnowledgeBase.create(tmp_path / "kb", code, vectors, [entry, entry])
    with pytest.raises(KnowledgeBaseError, match="2 vectors for 1"):
        KnowledgeBase.create(tmp_path / "other", code, vectors, [entry])
    with pytest.raises(KnowledgeBaseError, match="share a name"):
        KnowledgeBase.create(tmp_path / "other", code, vectors, [entry, entry])
    with pytest.raises(KnowledgeBaseError, match="takes"):
        base.search(np.zeros((1, 8), np.float32), 1)
