"""Peaks are measured as the textbook has them, and clipping takes them off without leaving the band."""

import numpy as np
import pytest
from scipy.special import erfc

from crlsc_phy.errors import ModemError
from crlsc_phy.phy import PRESETS, Numerology, qam
from crlsc_phy.phy.ofdm import Ofdm
from crlsc_phy.phy.papr import OVERSAMPLING, ccdf, check_papr, clip_and_filter, oversample, papr_db

LEVELS_DB = np.arange(0, 10, 0.5)


def make_grid(ofdm, symbols=200, bits=2, seed=0):
    count = symbols * ofdm.numerology.data_carriers * bits
    drawn = np.random.default_rng(seed).integers(0, 2, count, dtype=np.uint8)
    return ofdm.grid(qam.map_bits(drawn, bits).reshape(symbols, -1))


def to_samples(ofdm, grid):
    return oversample(ofdm.waveform(grid, ofdm.numerology.cp_length).ravel())


def clip(ofdm, grid, level_db, passes=4):
    return clip_and_filter(grid, ofdm.carriers, ofdm.numerology.fft_size, level_db, passes)


def power_of(values):
    return np.mean(np.abs(values) ** 2)


@pytest.mark.parametrize("count", [1, 2, 15, 64])
@pytest.mark.parametrize("factor", [1, 3, 4])
def test_oversampling_reads_between_the_samples(count, factor):
    rng = np.random.default_rng(count)
    # Tones strictly below half the sample rate: the only ones that samples tell apart.
    tones = np.arange(-((count - 1) // 2), (count - 1) // 2 + 1)
    weights = rng.standard_normal(len(tones)) + 1j * rng.standard_normal(len(tones))

    def signal(times):
        return np.exp(2j * np.pi * np.outer(times, tones) / count) @ weights

    fine = oversample(signal(np.arange(count)).astype(np.complex64), factor)
    assert fine.dtype == np.complex64
    assert np.allclose(fine, signal(np.arange(factor * count) / factor), atol=1e-4)


def test_half_the_sample_rate_is_a_real_tone():
    alternating = np.array([1, -1] * 4, np.complex64)
    assert np.allclose(oversample(alternating), np.cos(np.pi * np.arange(32) / 4), atol=1e-6)


def test_distribution_of_a_few_samples():
    samples = np.array([0, 1, 1j, 2], np.complex64)
    levels_db = 10 * np.log10([0.5, 0.7, 2, 2.6, 2.7])
    assert ccdf(samples, levels_db) == pytest.approx([0.75, 0.25, 0.25, 0.25, 0])
    assert papr_db(samples) == pytest.approx(10 * np.log10(4 / 1.5))


@pytest.mark.parametrize("preset", PRESETS)
def test_ofdm_has_the_peaks_of_gaussian_noise(preset):
    # Many independent carriers: the power is exponentially distributed.
    ofdm = Ofdm(Numerology.preset(preset))
    samples = to_samples(ofdm, make_grid(ofdm, 2000))
    expected = np.exp(-(10 ** (LEVELS_DB / 10)))
    often = expected > 1e-2
    assert ccdf(samples, LEVELS_DB)[often] == pytest.approx(expected[often], rel=0.05)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("level_db", [3, 4, 5, 6, 7, 8])
def test_peaks_come_down_at_equal_power(preset, level_db):
    ofdm = Ofdm(Numerology.preset(preset))
    grid = make_grid(ofdm)
    before = grid.copy()
    clipped = clip(ofdm, grid, level_db)
    assert np.array_equal(grid, before)
    assert (clipped.dtype, clipped.shape) == (np.complex64, grid.shape)
    assert power_of(clipped) == pytest.approx(power_of(grid), rel=1e-4)
    samples = to_samples(ofdm, clipped)
    assert ccdf(samples, np.array([level_db + 1.5]))[0] < 1e-3
    assert papr_db(samples) < level_db + 3
    assert papr_db(samples) < papr_db(to_samples(ofdm, grid)) - 0.5


def test_every_pass_lowers_the_peaks():
    ofdm = Ofdm(Numerology())
    grid = make_grid(ofdm)
    rare = [ccdf(to_samples(ofdm, clip(ofdm, grid, 5, passes)), np.array([6.0]))[0] for passes in (1, 2, 4, 8)]
    assert sorted(rare, reverse=True) == rare


def test_the_band_next_door_stays_quiet():
    ofdm = Ofdm(Numerology())
    grid = make_grid(ofdm, 400)

    def outside(samples):
        spectrum = np.abs(np.fft.fft(samples * np.hanning(len(samples)))) ** 2
        frequency = np.abs(np.fft.fftfreq(len(samples))) * OVERSAMPLING
        return spectrum[frequency > 0.6].sum() / spectrum.sum()

    plain = to_samples(ofdm, grid)
    level = np.sqrt(10 ** (4 / 10) * power_of(plain))
    only_clipped = plain * np.minimum(1, level / np.maximum(np.abs(plain), 1e-9))
    assert outside(to_samples(ofdm, clip(ofdm, grid, 4))) < 2 * outside(plain)
    assert outside(only_clipped) > 100 * outside(plain)


@pytest.mark.parametrize("level_db", [3, 4, 5, 6])
def test_error_is_below_that_of_clipping_alone(level_db):
    # Bussgang: clipping a complex Gaussian at g leaves alpha times the signal and noise of power 1 - e^-g2 - alpha^2;
    # the filter takes away the part of it that falls out of the band.
    ofdm = Ofdm(Numerology.preset("256"))
    grid = make_grid(ofdm, bits=6)
    clipped = clip(ofdm, grid, level_db, passes=1)
    g = 10 ** (level_db / 20)
    alpha = 1 - np.exp(-(g**2)) + np.sqrt(np.pi) / 2 * g * erfc(g)
    whole = (1 - np.exp(-(g**2)) - alpha**2) / alpha**2
    gain = np.vdot(grid, clipped) / np.vdot(grid, grid)
    error = power_of(clipped / gain - grid) / power_of(grid)
    assert 0.4 * whole < error < whole
    assert abs(gain.imag) < 1e-3


def test_error_falls_with_the_level():
    ofdm = Ofdm(Numerology())
    grid = make_grid(ofdm, 2000)
    errors_db = [10 * np.log10(power_of(clip(ofdm, grid, level_db) - grid)) for level_db in (3, 4, 5, 6, 7, 8)]
    assert errors_db == sorted(errors_db, reverse=True)
    # At 8 dB it hangs on a few peaks.
    assert errors_db[:5] == pytest.approx([-14.5, -17.5, -21.1, -25.5, -31.1], abs=0.7)


def test_what_is_low_enough_is_left_alone():
    ofdm = Ofdm(Numerology())
    grid = make_grid(ofdm)
    assert np.allclose(clip(ofdm, grid, 20), grid, atol=1e-5)
    silence = np.zeros((3, 52), np.complex64)
    assert np.array_equal(clip(ofdm, silence, 5), silence)
    assert clip(ofdm, silence[:0], 5).shape == (0, 52)


@pytest.mark.parametrize("level_db", [2.99, -5, np.nan, np.inf, "6", True])
def test_a_level_that_makes_no_sense_is_refused(level_db):
    ofdm = Ofdm(Numerology())
    with pytest.raises(ModemError, match=r"papr_db is .*; it must be a number of dB, 3 or higher"):
        clip(ofdm, make_grid(ofdm, 1), level_db)
    with pytest.raises(ModemError, match="papr_db"):
        check_papr(level_db)


def test_a_level_that_makes_sense_is_passed_on():
    assert check_papr(3) == 3
    assert check_papr(6.5) == 6.5
    for level_db in (np.float32(6.5), np.array(6.5)):
        assert type(check_papr(level_db)) is float


def test_lists_and_other_types_are_taken():
    torch = pytest.importorskip("torch")
    ofdm = Ofdm(Numerology())
    grid = make_grid(ofdm, 3)
    expected = clip(ofdm, grid, 5)
    for given in (grid.tolist(), torch.from_numpy(grid)):
        assert np.allclose(clip_and_filter(given, list(ofdm.carriers), 64, np.float32(5)), expected, atol=1e-5)
        assert papr_db(given[0]) == pytest.approx(papr_db(grid[0]), abs=1e-5)
        assert np.allclose(oversample(given[0]), oversample(grid[0]), atol=1e-5)


def test_no_pass_and_no_power_are_refused():
    ofdm = Ofdm(Numerology())
    with pytest.raises(ModemError, match="passes is 0"):
        clip(ofdm, make_grid(ofdm, 1), 5, passes=0)
    for samples in (np.zeros(5, np.complex64), np.empty(0, np.complex64)):
        with pytest.raises(ModemError, match="no power"):
            papr_db(samples)
        with pytest.raises(ModemError, match="no power"):
            ccdf(samples, LEVELS_DB)
