"""Analog detail arrives with the channel's noise on it and no more, whatever carriers faded."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crlsc_phy.errors import ModemError
from crlsc_phy.frame import SYMBOL, FrameHeader, Mode, SemanticFrame
from crlsc_phy.phy import ANALOG_TABLE, PRESETS, BurstModem, Numerology


def analog_frame(symbols, semantic=16):
    header = FrameHeader(b"kb-1", 64, 64, semantic, len(symbols) * SYMBOL.itemsize, mode=Mode.ANALOG)
    return SemanticFrame(header, bytes(range(semantic)), np.asarray(symbols, SYMBOL).tobytes())


def draw(count, seed=0):
    rng = np.random.default_rng(seed)
    symbols = rng.standard_normal(count) + 1j * rng.standard_normal(count)
    return (symbols / np.sqrt(np.mean(np.abs(symbols) ** 2))).astype(np.complex64)


def error_db(got, sent):
    return 10 * np.log10(np.mean(np.abs(got - sent) ** 2))


@settings(max_examples=25, deadline=None)
@given(
    preset=st.sampled_from(sorted(PRESETS)),
    mcs=st.sampled_from([mcs.name for mcs in ANALOG_TABLE]),
    count=st.integers(1, 3000),
    gain=st.floats(1e-3, 1e3),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_number_of_symbols_comes_back_at_unit_power(channel, preset, mcs, count, gain, seed):
    numerology = Numerology.preset(preset)
    symbols = draw(count, seed)
    frame = analog_frame(gain * symbols)
    link = channel(snr_db=35, cfo=(seed % 41 - 20) / 1000, lead=seed % 977)
    iq = link(BurstModem(numerology, mcs, "analog").modulate(frame), numerology, seed)
    # The receiver is set to another mode: what counts is the sender's.
    (burst,) = BurstModem(numerology).receive(iq)
    assert burst.mcs.name == mcs
    assert burst.frame.header == frame.header
    assert len(burst.llr) == burst.segments == 0
    assert error_db(burst.symbols, symbols) < -30
    # One symbol has no phase or power to be measured by, many have.
    assert error_db(burst.frame.symbols, burst.symbols) < -40


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("snr_db", [0, 5, 10, 15, 20, 25])
def test_error_is_the_noise(preset, snr_db, channel):
    numerology = Numerology.preset(preset)
    modem = BurstModem(numerology, mode="analog")
    symbols = draw(10_000)
    iq = modem.modulate(analog_frame(symbols))
    for seed in range(2):
        link = channel(snr_db=snr_db, cfo=0.02 * (-1) ** seed, sro_ppm=20 * (-1) ** seed, lead=300)
        (burst,) = modem.receive(link(iq, numerology, seed))
        assert error_db(burst.symbols, symbols) < -snr_db + 0.5
        assert 10 * np.log10(np.mean(burst.symbol_noise)) == pytest.approx(-snr_db, abs=0.5)
        assert burst.detail_snr_db == pytest.approx(snr_db, abs=0.5)


@pytest.mark.parametrize(("mcs", "gain_db"), [("analog-1/2", 3.01), ("analog-1/4", 6.02)])
def test_repetition_adds_up(mcs, gain_db, channel):
    modem = BurstModem(mcs=mcs, mode="analog")
    symbols = draw(5000)
    (burst,) = modem.receive(channel(snr_db=5, cfo=0.004, lead=200)(modem.modulate(analog_frame(symbols))))
    assert error_db(burst.symbols, symbols) == pytest.approx(-5 - gain_db, abs=0.4)
    assert burst.detail_snr_db == pytest.approx(5 + gain_db, abs=0.4)


def test_a_faded_carrier_takes_no_region(channel):
    # Two paths that cancel in the middle of the band.
    modem = BurstModem(mode="analog")
    symbols = draw(4000)
    (burst,) = modem.receive(channel(snr_db=20, taps=(1, -0.95), lead=200)(modem.modulate(analog_frame(symbols))))
    hit = burst.symbol_noise > 20 * np.median(burst.symbol_noise)
    assert 0.02 < hit.mean() < 0.3
    # Of any 32 neighbours, most are spared.
    assert np.max(np.convolve(hit, np.ones(32), "valid")) <= 16
    # What the receiver says of the noise is so, also where it is large, and its linear estimates do not blow up there.
    error = np.abs(burst.symbols - symbols) ** 2
    assert np.mean(error[hit] / burst.symbol_noise[hit]) == pytest.approx(1, rel=0.3)
    assert np.mean(np.abs(burst.frame.symbols - symbols)[hit] ** 2) < 0.5 * np.mean(error[hit])


def test_equal_symbols_do_not_add_up_to_a_peak():
    iq = BurstModem(mode="analog").modulate(analog_frame(np.ones(3000)))
    assert 10 * np.log10(np.max(np.abs(iq) ** 2)) < 12


def test_a_cut_burst_gives_small_symbols_where_it_was_cut(channel):
    modem = BurstModem(mode="analog")
    symbols = draw(4000)
    iq = channel(snr_db=20)(modem.modulate(analog_frame(symbols)))
    assert not modem.receive(iq[: 2 * len(iq) // 3])
    (burst,) = modem.flush()
    assert modem.counters.truncated == 1
    assert np.all(np.isfinite(burst.symbols))


@pytest.mark.parametrize(
    ("symbols", "match"),
    [(np.zeros(10), "mean power of 0"), ([1, np.nan], "mean power of nan"), ([np.inf], "must be finite")],
)
def test_symbols_without_power_are_not_sent(symbols, match):
    with pytest.raises(ModemError, match=match):
        BurstModem(mode="analog").modulate(analog_frame(symbols))


def test_modem_sends_only_its_mode(make_frame):
    with pytest.raises(ModemError, match="mode digital; this modem sends analog"):
        BurstModem(mode="analog").modulate(make_frame())
    with pytest.raises(ModemError, match="mode analog; this modem sends digital"):
        BurstModem().modulate(analog_frame(draw(4)))
    # The meaning alone goes with either.
    alone = make_frame(detail=0)
    modem = BurstModem(mode="analog")
    (burst,) = modem.receive(modem.modulate(alone))
    assert burst.frame == replace(alone)
