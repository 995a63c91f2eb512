"""Constellations are those of TS 38.211 and LLRs mean what they say."""

import numpy as np
import pytest

from crlsc_phy.phy import qam


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_mapping_and_llrs_are_sionnas(bits):
    torch = pytest.importorskip("torch")
    mapping = pytest.importorskip("sionna.phy.mapping")
    rng = np.random.default_rng(bits)
    data = rng.integers(0, 2, bits * 500, dtype=np.uint8)
    symbols = qam.map_bits(data, bits)
    expected = mapping.Mapper("qam", bits)(torch.tensor(data, dtype=torch.float32)).numpy()
    assert np.allclose(symbols, expected, atol=1e-6)

    noise = rng.uniform(0.05, 0.5, len(symbols)).astype(np.float32)
    received = symbols + np.sqrt(noise / 2) * (rng.standard_normal(500) + 1j * rng.standard_normal(500))
    received = received.astype(np.complex64)
    reference = mapping.Demapper("app", "qam", bits)(torch.tensor(received), torch.tensor(noise)).numpy()
    assert np.allclose(qam.demap(received, noise, bits), reference, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_lists_and_other_types_are_taken(bits):
    data = np.random.default_rng(0).integers(0, 2, 12 * bits, dtype=np.uint8)
    symbols = qam.map_bits(data, bits)
    assert np.array_equal(qam.map_bits(data.tolist(), bits), symbols)
    assert np.array_equal(qam.map_bits(data > 0, bits), symbols)
    expected = qam.demap(symbols, np.full(12, 0.5, np.float32), bits)
    assert np.allclose(qam.demap(symbols.astype(complex).tolist(), [0.5] * 12, bits), expected, rtol=1e-5)
    assert qam.demap(symbols.astype(complex), np.full(12, 0.5), bits).dtype == np.float32


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_llrs_stay_finite_where_noise_is_tiny_or_huge(bits):
    symbols = np.array([0, 1 + 1j, -3, 100j], np.complex64)
    for noise in (1e-9, 1e9):
        assert np.isfinite(qam.demap(symbols, np.full(4, noise, np.float32), bits)).all()
