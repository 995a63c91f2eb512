"""Calibration of repair: on pictures that move away from their entries, and on foreign ones."""

import numpy as np
import pytest

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase
from crlsc_phy.knowledge.calibration import calibrate, noisy_llrs

DIM, SIZE, COUNT = 32, 8, 500


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    return unit(rng.normal(size=(2 * COUNT, 12)) @ rng.normal(size=(12, DIM)))


@pytest.fixture(scope="module")
def code(vectors):
    return AirCode.train(vectors, SIZE, polysemous=False)


@pytest.fixture
def base(tmp_path, code, vectors):
    entries = [Entry(str(i), f"label {i}") for i in range(COUNT)]
    return KnowledgeBase.create(tmp_path / "kb", code, vectors[:COUNT], entries)


def pictures(base, vectors, distance, seed):
    moved = unit(vectors + distance * np.random.default_rng(seed).normal(size=vectors.shape) / np.sqrt(DIM))
    return base.air_code.encode(moved)


def outcome(base, codes, seed):
    found = base.repair_batch(noisy_llrs(codes, 0.05, np.random.default_rng(seed)))
    return np.array([f.entry.label for f in found]), np.array([f.known for f in found])


def test_it_names_more_and_still_refuses_what_is_foreign(base, vectors):
    labels = [f"label {i}" for i in range(COUNT)]
    known, foreign = vectors[:COUNT], vectors[COUNT:]
    base.configure(tau=base.tau / 4)
    right = np.array(labels)
    before = np.mean(outcome(base, pictures(base, known, 0.3, 5), 6)[0] == right)
    codes = np.concatenate([pictures(base, known, 0.3, 1), pictures(base, foreign, 0.3, 2)])
    found = calibrate(base, codes, labels + [""] * COUNT)
    base.configure(tau=found.tau, threshold=found.threshold)
    named, believed = outcome(base, pictures(base, known, 0.3, 5), 6)
    _, believed_foreign = outcome(base, pictures(base, foreign, 0.3, 7), 8)
    assert np.mean(named == right) > before
    assert np.mean(named == right) == pytest.approx(found.right, abs=0.05)
    assert believed.mean() > 3 * believed_foreign.mean()
    assert np.concatenate([believed, believed_foreign]).mean() == pytest.approx(found.believed, abs=0.05)


def test_it_is_the_same_each_time_and_changes_nothing(base, vectors):
    codes, labels = pictures(base, vectors[:COUNT], 0.2, 1), [f"label {i}" for i in range(COUNT)]
    before = base.id
    assert calibrate(base, codes, labels) == calibrate(base, codes, labels)
    assert KnowledgeBase.open(base.path).id == before


def test_the_llrs_have_the_bit_error_rate_asked_for():
    codes = np.random.default_rng(0).integers(256, size=(500, 32), dtype=np.uint8)
    llrs = noisy_llrs(codes, 0.05, np.random.default_rng(1))
    assert np.mean((llrs > 0) != np.unpackbits(codes, axis=1)) == pytest.approx(0.05, abs=0.003)


@pytest.mark.parametrize(("labels", "options", "message"), [
    (["nothing"] * 3, {}, "no calibration picture has a label"),
    ([""] * 3, {}, "no calibration picture has a label"),
    (["label 1"] * 2, {}, "codes are uint8"),
    (["label 1"] * 3, {"ber": 0.5}, "must be above 0 and below 0.5"),
    (["label 1"] * 3, {"ber": float("nan")}, "must be above 0 and below 0.5"),
])  # fmt: skip
def test_what_says_nothing_is_refused(base, labels, options, message):
    with pytest.raises(KnowledgeBaseError, match=message):
        calibrate(base, base.codes[:3], labels, **options)
