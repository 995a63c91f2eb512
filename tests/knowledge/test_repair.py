"""Repair: a knowledge base as an error-correcting decoder."""

import numpy as np
import pytest

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase
from crlsc_phy.knowledge.joint import joint_extrinsic

DIM, SIZE, COUNT = 32, 8, 2000


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> KnowledgeBase:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(COUNT, 10)) @ generator.normal(size=(10, DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    code = AirCode.train(vectors, SIZE, rounds=20_000)
    entries = [Entry(str(i), f"label {i}") for i in range(COUNT)]
    return KnowledgeBase.create(tmp_path_factory.mktemp("repair") / "kb", code, vectors, entries)


def received(codes: np.ndarray, sigma: float, seed: int = 1) -> np.ndarray:
    """LLRs of codes sent with BPSK over AWGN."""
    signs = 2.0 * np.unpackbits(codes, axis=1) - 1
    noisy = signs + sigma * np.random.default_rng(seed).normal(size=signs.shape)
    return (2 * noisy / sigma**2).astype(np.float32)


def test_a_clean_code_is_known_by_every_rule(base):
    for i in (0, 77, 1999):
        for rule in ("soft", "nearest", "hamming"):
            found = base.repair(np.array(base.codes[i]), rule)
            assert np.array_equal(found.code, base.codes[i])
            assert found.known
            assert 0 <= found.confidence <= 1
        assert base.repair(received(base.codes[i : i + 1], 0.3)[0]).entry.name == str(i)


def test_soft_beats_what_hard_decisions_leave(base):
    chosen = np.arange(0, COUNT, 4)
    llrs = received(base.codes[chosen], 0.6)
    hard = np.packbits(llrs > 0, axis=1)
    assert 0.03 < (np.unpackbits(hard, axis=1) != np.unpackbits(base.codes[chosen], axis=1)).mean() < 0.07

    def right(batch, rule=None) -> float:
        found = base.repair_batch(batch, rule)
        return float(np.mean([np.array_equal(f.code, base.codes[i]) for f, i in zip(found, chosen, strict=True)]))

    soft, nearest, hamming = right(llrs), right(hard), right(hard, "hamming")
    assert soft > 0.9
    assert soft >= hamming > nearest
    assert right(hard, "soft") > nearest


def test_soft_scores_are_the_likelihoods_of_the_model(base):
    """The scan by faiss agrees with the sum over all 256 values of each byte, written out."""
    centroids, codes, tau = base.air_code.centroids.astype(np.float64), np.array(base.codes), base.tau
    counts = np.stack([np.bincount(column, minlength=256) for column in codes.T]) + 1.0
    usage = counts / counts.sum(axis=1, keepdims=True)
    llrs = received(codes[5:6], 0.7)[0]
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    total, unknown = np.zeros(COUNT), 0.0
    for m in range(SIZE):
        part = llrs[8 * m : 8 * m + 8].astype(np.float64)
        likelihood = np.prod(np.where(bits == 1, 1 / (1 + np.exp(-part)), 1 / (1 + np.exp(part))), axis=1)
        near = np.exp(-((centroids[m][:, None] - centroids[m][None]) ** 2).sum(axis=2) / tau**2)
        meant = usage[m][:, None] * near
        meant /= meant.sum(axis=0)
        total += np.log(likelihood @ meant)[codes[:, m]]
        unknown += np.log(likelihood @ usage[m])
    found = base.repair(llrs)
    assert found.entry.name == str(int(total.argmax()))
    assert found.distance == pytest.approx(-(total.max() - unknown - np.log(COUNT)), abs=1e-3)
    best = np.exp(total.max() - np.logaddexp(np.logaddexp.reduce(total), unknown + np.log(COUNT)))
    assert found.confidence == pytest.approx(best, abs=1e-3)


def test_what_is_not_in_the_base_is_said_and_kept_as_received(base):
    generator = np.random.default_rng(7)
    codes = generator.integers(256, size=(200, SIZE)).astype(np.uint8)
    for batch in (received(codes, 0.4), generator.normal(size=(200, 8 * SIZE)).astype(np.float32)):
        found = base.repair_batch(batch)
        assert np.mean([f.known for f in found]) < 0.05
        unknown = [(f, row) for f, row in zip(found, batch, strict=True) if not f.known]
        assert all(np.array_equal(f.code, np.packbits(row > 0)) for f, row in unknown)


def test_llrs_of_any_size_give_finite_answers(base):
    certain = 1e9 * (2.0 * np.unpackbits(base.codes[3]) - 1)
    for llrs in (certain, np.zeros(8 * SIZE), np.full(8 * SIZE, np.inf)):
        found = base.repair(llrs)
        assert np.isfinite([found.distance, found.confidence, found.entry.score]).all()
    assert base.repair(certain).entry.name == "3"


@pytest.mark.parametrize(
    "bad",
    [np.zeros(SIZE, np.float32), np.zeros(8 * SIZE, np.uint8), np.full(8 * SIZE, np.nan), np.zeros(3), "text", None],
)
def test_what_is_no_code_is_refused(base, bad):
    with pytest.raises(KnowledgeBaseError):
        base.repair(bad)


def test_rules_that_are_not_there_and_empty_bases_are_named(tmp_path, base):
    with pytest.raises(KnowledgeBaseError, match="choose soft, nearest or hamming"):
        base.repair(np.array(base.codes[0]), "guess")
    empty = KnowledgeBase.create(tmp_path / "empty", base.air_code, np.empty((0, DIM), np.float32), [])
    with pytest.raises(KnowledgeBaseError, match="empty"):
        empty.repair(np.array(base.codes[0]))
    assert [len(hits) for hits in empty.search(np.ones((2, DIM), np.float32), 3)] == [0, 0]


def naive_extrinsic(base, llrs):
    """What the base adds, written out over every entry and every value of every byte."""
    centroids, codes, tau = base.air_code.centroids.astype(np.float64), np.array(base.codes), base.tau
    counts = np.stack([np.bincount(column, minlength=256) for column in codes.T]) + 1.0
    usage = counts / counts.sum(axis=1, keepdims=True)
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    likelihood, meant = [], []
    for m in range(SIZE):
        part = llrs[8 * m : 8 * m + 8].astype(np.float64)
        likelihood.append(np.prod(np.where(bits == 1, 1 / (1 + np.exp(-part)), 1 / (1 + np.exp(part))), axis=1))
        near = usage[m][:, None] * np.exp(-((centroids[m][:, None] - centroids[m][None]) ** 2).sum(axis=2) / tau**2)
        meant.append(near / near.sum(axis=0))
    told = []
    for m in range(SIZE):
        others = [j for j in range(SIZE) if j != m]
        by_entry = np.prod([(likelihood[j] @ meant[j])[codes[:, j]] for j in others], axis=0)
        by_stranger = np.prod([likelihood[j] @ usage[j] for j in others])
        weight = 0.9 * (meant[m][:, codes[:, m]] * by_entry).mean(axis=1) + 0.1 * by_stranger * usage[m]
        joint = weight * likelihood[m]
        told += [np.log(joint[bits[:, i] == 1].sum() / joint[bits[:, i] == 0].sum()) for i in range(8)]
    return np.clip(np.array(told) - llrs, -10, 10)


def test_extrinsic_information_is_that_of_the_model(base):
    few = KnowledgeBase.create(
        base.path.parent / "few", base.air_code, base.air_code.decode(base.codes[:200]), list(base.entries)[:200]
    )
    llrs = received(few.codes[7:8], 1.0)[0]
    assert np.allclose(joint_extrinsic([few], llrs), naive_extrinsic(few, llrs), atol=2e-3)


def test_extrinsic_information_of_a_large_base_misses_nothing_that_counts(base):
    """Of 2,000 entries 256 are weighed."""
    llrs = received(base.codes[5:6], 0.9)[0]
    assert np.allclose(joint_extrinsic([base], llrs), naive_extrinsic(base, llrs), atol=0.05)


def test_extrinsic_information_tells_the_bits_of_an_entry(base):
    llrs = received(base.codes[:100], 1.0)
    signs = 2.0 * np.unpackbits(base.codes[:100], axis=1) - 1
    told = np.stack([joint_extrinsic([base], row) for row in llrs])
    assert ((llrs * signs) < 0).mean() > 0.1
    assert ((told * signs) > 0).mean() > 0.95


def test_bases_tell_together_what_either_knows(base, tmp_path):
    generator = np.random.default_rng(3)
    codes = generator.integers(256, size=(1, SIZE)).astype(np.uint8)
    private = KnowledgeBase.create(
        tmp_path / "pkb", base.air_code, base.air_code.decode(codes), [Entry("mine", "mine")], codes=codes
    )
    empty = KnowledgeBase.create(tmp_path / "empty", base.air_code, np.empty((0, DIM), np.float32), [])
    for code in (codes, base.codes[9:10]):
        llrs, signs = received(code, 0.8)[0], 2.0 * np.unpackbits(code) - 1
        assert (joint_extrinsic([base, private, empty], llrs) * signs > 0).mean() > 0.9
    with pytest.raises(KnowledgeBaseError, match="empty"):
        joint_extrinsic([empty], llrs)
    for bad in (np.full(8 * SIZE, np.nan), np.zeros(3)):
        with pytest.raises(KnowledgeBaseError):
            joint_extrinsic([base], bad)


def test_extrinsic_information_is_finite(base):
    for llrs in (1e9 * (2.0 * np.unpackbits(base.codes[3]) - 1), np.zeros(8 * SIZE), np.full(8 * SIZE, -np.inf)):
        assert np.isfinite(joint_extrinsic([base], llrs)).all()
