"""Numerologies, MCS, and the waveform they give."""

import time

import numpy as np
import pytest

from crlsc_phy.errors import ModemError
from crlsc_phy.phy import MCS_TABLE, PRESETS, BurstModem, Numerology
from crlsc_phy.phy.mcs import find_mcs


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sample_rate", 0),
        ("sample_rate", float("nan")),
        ("fft_size", 100),
        ("cp_length", 12),
        ("occupied", 20),
        ("occupied", 64),
        ("pilots", 1),
        ("pilots", 5),
        ("pilots", 26),
        ("guard", -1),
        ("network", 65536),
        ("signalling_repetition", 0),
        ("fft_size", 64.0),
        ("guard", "32"),
        ("sample_rate", "1e6"),
    ],
)
def test_bad_values_are_named(field, value):
    with pytest.raises(ModemError, match=f"numerology: {field} is"):
        Numerology(**{field: value})


def test_unknown_names_list_the_known():
    with pytest.raises(ModemError, match="64, 128, 256"):
        Numerology.preset("512")
    with pytest.raises(ModemError, match="qpsk-1/5"):
        BurstModem(mcs="bpsk")
    with pytest.raises(ModemError, match="digital, analog"):
        BurstModem(mode="hybrid")
    with pytest.raises(ModemError, match="min-sum, sionna"):
        BurstModem(ldpc="turbo")
    with pytest.raises(ModemError, match="MCS qpsk-1/2 is not one of mode 'analog'; choose one of analog-1/4, "):
        BurstModem(mcs="qpsk-1/2", mode="analog")


def test_numpy_scalars_are_options(make_frame):
    numerology = Numerology(np.float32(1e6), np.int16(64), np.uint8(16), np.int8(52), np.int64(4), np.uint8(32))
    assert numerology == Numerology()
    assert all(type(value) in (int, float) for value in vars(numerology).values())
    modem = BurstModem(numerology, np.int64(3), max_burst_samples=np.int16(20_000), papr_db=np.float32(8))
    (burst,) = modem.receive(modem.modulate(make_frame()))
    assert burst.frame == make_frame()


def test_mcs_by_index_or_name():
    assert [find_mcs(mcs.name) for mcs in MCS_TABLE] == [find_mcs(i) for i in range(len(MCS_TABLE))]
    assert find_mcs("16qam-3/4").efficiency == 3


@pytest.mark.parametrize("preset", PRESETS)
def test_power_and_band(preset, make_frame):
    numerology = Numerology.preset(preset, sample_rate=2e6)
    modem = BurstModem(numerology)
    frame = make_frame()
    iq = modem.modulate(frame)
    assert iq.dtype == np.complex64
    assert len(iq) == modem.burst_samples(frame.header) + numerology.guard
    power = np.abs(iq) ** 2
    assert np.mean(power) == pytest.approx(1, rel=1e-5)
    assert not iq[-numerology.guard :].any()
    # Without scrambling, a constant layer would give peaks far beyond this.
    constant = make_frame(detail=0)
    assert 10 * np.log10(np.max(np.abs(modem.modulate(constant)) ** 2)) < 12
    spectrum = np.abs(np.fft.fft(iq)) ** 2
    frequency = np.abs(np.fft.fftfreq(len(iq), 1 / numerology.fft_size))
    assert spectrum[frequency <= numerology.occupied / 2 + 1].sum() > 0.97 * spectrum.sum()


def test_channel_uses_count_everything(make_frame):
    modem = BurstModem()
    frame = make_frame(semantic=16, detail=288)
    # 480 samples of preamble, then 28 + 23 + 49 symbols of 80 samples.
    assert modem.channel_uses(frame.header) == pytest.approx(modem.burst_samples(frame.header) * 52 / 64)
    assert modem.burst_samples(frame.header) == 480 + 100 * 80


@pytest.mark.parametrize("size", [2048, 4096])
def test_a_burst_of_a_long_prefix_is_received_in_time(size, make_frame, channel):
    numerology = Numerology(fft_size=size, cp_length=size // 4, occupied=size * 13 // 16, pilots=16)
    modem, frame = BurstModem(numerology), make_frame(detail=300)
    iq = channel(snr_db=20, lead=500, tail=9000)(modem.modulate(frame), numerology)
    modem.receive(iq[:600])
    start = time.process_time()
    bursts = modem.receive(iq[600:]) + modem.flush()
    # Once 5 and 41 seconds. It takes 0.2 and 0.5.
    assert time.process_time() - start < 3
    assert [burst.frame for burst in bursts] == [frame]
