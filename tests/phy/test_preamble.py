"""Bursts are found at low SNR, with any CFO in range, and noise is not taken for one."""

import numpy as np
import pytest

from crlsc_phy.phy import PRESETS, BurstModem, Numerology
from crlsc_phy.phy.estimation import ChannelEstimator
from crlsc_phy.phy.ofdm import Ofdm


def noise(count, seed):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(count) + 1j * rng.standard_normal(count)).astype(np.complex64)


def test_noise_alone_is_no_burst():
    modem = BurstModem()
    for seed in range(4):
        assert not modem.receive(noise(500_000, seed))
    assert modem.counters.detected == 0


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("cfo", [-0.02, -0.0013, 0.02])
def test_found_at_minus_5_db(preset, cfo, make_frame, channel):
    numerology = Numerology.preset(preset)
    sender, receiver = BurstModem(numerology), BurstModem(numerology)
    iq = sender.modulate(make_frame(detail=0))
    bursts = []
    for seed in range(10):
        link = channel(snr_db=-5, cfo=cfo, lead=500 + 37 * seed, tail=500)
        bursts += receiver.receive(link(iq, numerology, seed))
    assert receiver.counters.detected == 10
    assert len(bursts) >= 6
    assert all(abs(b.cfo_hz - cfo * numerology.sample_rate) < 1e-4 * numerology.sample_rate for b in bursts)


def test_timing_takes_the_first_path_not_the_strongest(make_frame, channel):
    iq = BurstModem().modulate(make_frame())
    for seed in range(5):
        link = channel(snr_db=10, cfo=0.01, taps=(0.6, 0, 0, 0.2, 0, 0, 0, 0, 1), lead=300)
        (burst,) = BurstModem().receive(link(iq, seed=seed))
        assert abs(burst.start - 300) <= 1
        assert burst.frame.complete


def test_channel_estimate_gains_from_empty_taps():
    ofdm = Ofdm(Numerology())
    rng = np.random.default_rng(0)
    delays = ofdm.backoff + np.array([0, 1.3, 4.6])
    errors = []
    for _ in range(50):
        taps = rng.standard_normal(3) + 1j * rng.standard_normal(3)
        channel = np.exp(-2j * np.pi * np.outer(ofdm.carriers, delays) / 64) @ taps
        raw = channel + np.sqrt(0.5) * (rng.standard_normal(52) + 1j * rng.standard_normal(52))
        found = ChannelEstimator(ofdm).smooth(raw, np.ones(52))
        errors.append(np.mean(np.abs(found.channel - channel) ** 2))
        assert 1 < found.freedom < 14
    # Projection onto the 17 taps of the prefix alone would leave 17 / 52.
    assert np.mean(errors) < 0.22


def test_long_prefixes_are_solved_in_parts_as_if_at_once():
    """129 taps in windows of 65, against the normal equations solved whole."""
    ofdm = Ofdm(Numerology(fft_size=512, cp_length=128, occupied=416, pilots=16))
    rng = np.random.default_rng(0)
    basis = np.exp(-2j * np.pi * np.outer(ofdm.carriers, np.arange(129)) / 512)
    taps = (rng.standard_normal(129) + 1j * rng.standard_normal(129)) * np.exp(-np.arange(129) / 30)
    channel = basis @ taps
    for noise in (100.0, 0.1):
        # Some carriers are known better than others.
        variance = noise / np.where(np.arange(416) % 26 == 0, 5, 1)
        noisy = np.sqrt(variance / 2) * (rng.standard_normal(416) + 1j * rng.standard_normal(416))
        found = ChannelEstimator(ofdm).smooth((channel + noisy).astype(np.complex64), variance)
        prior, power = np.full(129, 0.0), np.mean(np.abs(channel + noisy) ** 2) - np.mean(variance)
        prior[:] = power / 129
        for _ in range(5):
            covariance = np.linalg.inv((basis.conj().T / variance) @ basis + np.diag(1 / prior))
            mean = covariance @ basis.conj().T @ ((channel + noisy) / variance)
            free = 1 - covariance.diagonal().real / prior
            prior = np.maximum(np.abs(mean) ** 2 / np.maximum(free, 1e-3), 1e-4 * power / 129)
        assert np.mean(np.abs(found.channel - basis @ mean) ** 2) < 0.02 * np.mean(np.abs(basis @ mean - channel) ** 2)
        assert found.freedom == pytest.approx(np.sum(free), rel=0.05)
