"""The air code."""

import faiss
import numpy as np
import pytest

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import AirCode

ROUNDS = 30_000


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(4_000, 12)) @ generator.normal(size=(12, 16))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def code(vectors) -> AirCode:
    return AirCode.train(vectors, 4, seed=3, rounds=ROUNDS)


def test_training_is_deterministic(vectors, code):
    assert np.array_equal(AirCode.train(vectors, 4, seed=3, rounds=ROUNDS).centroids, code.centroids)


def test_codes_are_those_of_faiss(vectors, code):
    quantiser = faiss.ProductQuantizer(16, 4, 8)
    faiss.copy_array_to_vector(code.centroids.ravel(), quantiser.centroids)
    assert np.array_equal(code.encode(vectors[:500]), quantiser.compute_codes(vectors[:500]))
    assert np.array_equal(
        code.decode(code.encode(vectors[:500])), quantiser.decode(quantiser.compute_codes(vectors[:500]))
    )


def test_decoded_vectors_are_near(vectors, code):
    decoded = code.decode(code.encode(vectors))
    cosine = (decoded * vectors).sum(1) / np.linalg.norm(decoded, axis=1)
    assert cosine.mean() > 0.85


def test_centroid_order_softens_bit_errors(vectors, code):
    """Polysemous order: one flipped bit moves a vector less than it would with a random order of the centroids."""
    generator = np.random.default_rng(1)
    shuffled = AirCode(np.stack([part[generator.permutation(256)] for part in code.centroids]))

    def damage(which: AirCode) -> float:
        codes = which.encode(vectors[:2000])
        flipped = codes.copy()
        flipped[np.arange(2000), generator.integers(4, size=2000)] ^= (1 << generator.integers(8, size=2000)).astype(
            np.uint8
        )
        return float(((which.decode(flipped) - which.decode(codes)) ** 2).sum(1).mean())

    assert damage(code) < 0.9 * damage(shuffled)


def test_file_round_trip(tmp_path, code):
    code.save(tmp_path / "code.safetensors")
    assert np.array_equal(AirCode.load(tmp_path / "code.safetensors").centroids, code.centroids)


@pytest.mark.parametrize("content", [None, b"", b"garbage" * 10])
def test_a_broken_file_is_named(tmp_path, content):
    path = tmp_path / "code.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KnowledgeBaseError, match="not an air code"):
        AirCode.load(path)


def test_wrong_sizes_are_refused(vectors, code):
    with pytest.raises(KnowledgeBaseError, match="equal parts"):
        AirCode.train(vectors, 7)
    with pytest.raises(KnowledgeBaseError, match="too few"):
        AirCode.train(vectors[:100], 4)
    with pytest.raises(KnowledgeBaseError, match=r"takes \[N, 16\]"):
        code.encode(vectors[:, :8])
    with pytest.raises(KnowledgeBaseError, match="NaN"):
        code.encode(np.full((1, 16), np.nan, np.float32))
    with pytest.raises(KnowledgeBaseError, match="codes have shape"):
        code.decode(np.zeros((1, 5), np.uint8))
