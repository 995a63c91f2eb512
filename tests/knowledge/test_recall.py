"""What a base recalls lies among its entries, and brings unlike vectors of one thing together."""

import numpy as np
import pytest

from crlsc_phy.knowledge.recall import CHUNK, recall


def _unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def known():
    """Entries in a plane of eight dimensions out of sixteen."""
    rng = np.random.default_rng(0)
    return np.pad(_unit(rng.standard_normal((300, 8))), ((0, 0), (0, 8)))


def test_a_cold_base_recalls_the_nearest_entry_and_a_hot_one_the_mean_of_all(known):
    rng = np.random.default_rng(1)
    asked = _unit(rng.standard_normal((50, 16)))
    nearest = known[(asked @ known.T).argmax(axis=1)]
    np.testing.assert_allclose(recall(known, asked, 1e-5), nearest, atol=1e-3)
    np.testing.assert_allclose(recall(known, asked, 1e4), _unit(known.mean(axis=0)[None]).repeat(50, axis=0), atol=1e-2)


def test_two_encoders_agree_better_on_what_is_recalled(known):
    rng = np.random.default_rng(2)
    # Each encoder errs in its own direction, off the plane of the entries, and a little everywhere.
    first, second = (
        _unit(known + 0.8 * np.eye(16, dtype=np.float32)[axis] + 0.1 * rng.standard_normal(known.shape))
        for axis in (8, 9)
    )
    before = (first * second).sum(axis=1).mean()
    after = (recall(known, first) * recall(known, second)).sum(axis=1).mean()
    assert before < 0.7
    assert after > 0.9


def test_many_vectors_are_recalled_as_one_by_one(known):
    asked = _unit(np.random.default_rng(3).standard_normal((CHUNK + 3, 16)))
    found = recall(known, asked)
    assert found.dtype == np.float32
    assert found.shape == asked.shape
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found[-1:], recall(known, asked[-1:]), atol=1e-5)
