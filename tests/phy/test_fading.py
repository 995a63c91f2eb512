"""Channels that change during a burst are followed, and clocks that are off over long ones."""

import numpy as np
import pytest

from crlsc_phy.frame import SYMBOL, FrameHeader, Mode, SemanticFrame
from crlsc_phy.phy import BurstModem, Numerology
from crlsc_phy.phy.layout import Layout
from crlsc_phy.phy.linear import invert
from crlsc_phy.phy.tracking import steady_drift


def fade(iq, doppler, powers, seed):
    """Independent Rayleigh paths a sample apart, Doppler in cycles/sample."""
    rng = np.random.default_rng(seed)
    grid = np.arange(0, len(iq) + 32, 32)
    total = np.zeros(len(iq), complex)
    for delay, power in enumerate(np.asarray(powers) / sum(powers)):
        angles, phases = rng.uniform(0, 2 * np.pi, (2, 24, 1))
        knots = np.exp(1j * (2 * np.pi * doppler * np.cos(angles) * grid + phases)).sum(axis=0) * np.sqrt(power / 24)
        at = np.arange(len(iq))
        gain = np.interp(at, grid, knots.real) + 1j * np.interp(at, grid, knots.imag)
        total += gain * np.roll(iq, delay)
    return total


@pytest.mark.parametrize(("preset", "detail"), [("64", 1500), ("128", 6000), ("256", 6000)])
@pytest.mark.parametrize("powers", [(1,), (0.5, 0.3, 0.1, 0.1)])
def test_detail_survives_100_hz(preset, detail, powers, make_frame, channel):
    numerology = Numerology.preset(preset)
    modem = BurstModem(numerology, "16qam-1/2")
    frame = make_frame(detail=detail)
    iq = np.pad(modem.modulate(frame), (300, 300))
    segments = failures = 0
    for seed in range(6):
        faded = fade(iq, 100 / numerology.sample_rate, powers, seed)
        bursts = modem.receive(channel(snr_db=25, cfo=0.01, sro_ppm=20)(faded, numerology, seed)) + modem.flush()
        segments += sum(b.segments for b in bursts)
        failures += sum(b.segment_failures for b in bursts)
    # One flat fade deeper than 14 dB in six bursts would be no surprise.
    assert segments >= 5 * Layout.of(numerology, frame.header, modem.mcs).segments.count
    assert failures <= segments / 6


def test_a_long_prefix_full_of_paths_that_fade(make_frame, channel):
    """More taps than are followed one by one: the weaker ones stand still meanwhile."""
    numerology = Numerology(20e6, 1024, 256, 832, 16)
    modem, frame = BurstModem(numerology, "16qam-1/2"), make_frame(detail=6000)
    faded = fade(np.pad(modem.modulate(frame), (300, 300)), 5e-7, np.exp(-np.arange(128) / 26), 2)
    (burst,) = modem.receive(channel(snr_db=25, cfo=0.01, sro_ppm=20)(faded, numerology)) + modem.flush()
    assert burst.frame == frame
    assert burst.evm_db < -12


def test_llrs_mean_what_they_say_in_fading(make_frame, channel):
    modem = BurstModem(mcs="16qam-1/2")
    frame = make_frame(detail=1500)
    layout = Layout.of(modem.numerology, frame.header, modem.mcs)
    coded = layout.detail.coded_bits(layout.segments.split(frame.detail, frame.header.check)).ravel()
    iq = np.pad(modem.modulate(frame), (300, 300))
    llr, wrong = [], []
    for seed in range(8):
        faded = fade(iq, 1e-4, (0.6, 0.4), seed)
        for burst in modem.receive(channel(snr_db=9, cfo=-0.01)(faded, seed=seed)) + modem.flush():
            llr.append(np.abs(burst.llr))
            wrong.append((burst.llr > 0) != coded)
    llr, wrong = np.concatenate(llr), np.concatenate(wrong)
    for low, high in ((0.3, 1), (1, 2), (2, 3), (3, 4)):
        inside = (llr >= low) & (llr < high)
        assert np.mean(wrong[inside]) == pytest.approx(np.mean(1 / (1 + np.exp(llr[inside]))), rel=0.15)


@pytest.mark.parametrize("ppm", [-40, 40])
@pytest.mark.parametrize("fading", [False, True])
def test_clock_error_over_a_long_burst(ppm, fading, channel):
    rng = np.random.default_rng(0)
    count = 48 * 5000
    symbols = (rng.standard_normal((count, 2), np.float32) * np.float32(np.sqrt(0.5))).view(np.complex64).ravel()
    header = FrameHeader(b"kb-1", 64, 64, 16, 8 * count, mode=Mode.ANALOG)
    modem = BurstModem(mode="analog")
    iq = np.pad(modem.modulate(SemanticFrame(header, bytes(16), symbols.astype(SYMBOL).tobytes())), (300, 300))
    if fading:
        iq = fade(iq, 5e-5, (1,), 1)
    (burst,) = modem.receive(channel(snr_db=20, cfo=0.01, sro_ppm=ppm)(iq)) + modem.flush()
    # 16 samples by the end, as long as the cyclic prefix.
    error = np.abs(burst.symbols - symbols / np.sqrt(np.mean(np.abs(symbols) ** 2))) ** 2
    assert 10 * np.log10(np.mean(error / burst.symbol_noise)) == pytest.approx(0, abs=0.5)
    if not fading:
        assert 10 * np.log10(np.mean(error)) < -19.5


def test_inverse_is_numpys():
    rng = np.random.default_rng(0)
    for n in (1, 4, 17, 60):
        root = rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n))
        for matrix in (root @ root.conj().T + np.eye(n), root.real @ root.real.T + np.eye(n)):
            inverse, logarithm = invert(matrix)
            assert inverse.dtype == matrix.dtype
            assert np.allclose(inverse, np.linalg.inv(matrix))
            assert logarithm == pytest.approx(np.linalg.slogdet(matrix)[1])


def test_steady_drift_of_a_known_one():
    rng = np.random.default_rng(0)
    spacing, size, drift = 13, 64, 0.0021
    symbols, pilots = 2000, 4
    carriers = spacing * np.arange(pilots)
    phase = -2 * np.pi * np.outer(drift * np.arange(symbols), carriers) / size
    walk = np.cumsum(rng.standard_normal((symbols, 1)) * 0.1, axis=0)
    noise = rng.standard_normal((symbols, pilots, 2)).view(complex)[..., 0] * 0.2
    found = steady_drift((np.exp(1j * (phase + walk)) + noise).astype(np.complex64), spacing, size, 0.004)
    assert found == pytest.approx(drift, abs=2e-5)
