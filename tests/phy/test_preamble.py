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
