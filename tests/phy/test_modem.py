"""Frames come back as they were sent; what the channel breaks is marked, and estimates are right."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crlsc_phy.errors import ModemError
from crlsc_phy.frame import FrameHeader, Mode, SemanticFrame
from crlsc_phy.phy import MCS_TABLE, PRESETS, BurstModem, Numerology
from crlsc_phy.phy.layout import Layout

MULTIPATH = (0.9, 0.4j, -0.3, 0.1 + 0.2j, 0.15)


@settings(max_examples=40, deadline=None)
@given(
    preset=st.sampled_from(sorted(PRESETS)),
    mcs=st.integers(0, len(MCS_TABLE) - 1),
    semantic=st.integers(0, 63),
    detail=st.integers(0, 3000),
    side=st.integers(1, 4096),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_frame_comes_back(channel, preset, mcs, semantic, detail, side, seed):
    rng = np.random.default_rng(seed)
    mode = Mode.DIGITAL if detail else Mode.SEMANTIC
    header = FrameHeader(rng.bytes(4), side, 4097 - side, semantic, detail, 3, seed % 65536, mode)
    frame = SemanticFrame(header, rng.bytes(semantic), rng.bytes(detail))
    numerology = Numerology.preset(preset)
    modem = BurstModem(numerology, mcs)
    iq = channel(snr_db=35, cfo=rng.uniform(-0.02, 0.02), lead=seed % 977)(modem.modulate(frame), numerology, seed)
    # The receiver is set to another MCS: what counts is the sender's.
    (burst,) = BurstModem(numerology, 0).receive(iq)
    assert burst.frame == frame
    assert burst.frame.complete
    assert burst.mcs.index == mcs
    assert burst.channel_uses == modem.channel_uses(header)
    assert len(burst.semantic_llr) == 8 * semantic


# Es/N0 [dB] at which each MCS is to be sound; within 2 dB of where the code itself breaks down.
SOUND = (-0.5, 1, 3, 5, 6.5, 8.5, 11.5, 13, 17, 18.5, 20.5)


@pytest.mark.parametrize(("mcs", "snr_db"), list(enumerate(SOUND)), ids=[m.name for m in MCS_TABLE])
def test_every_mcs_at_its_snr(mcs, snr_db, make_frame, channel):
    modem = BurstModem(mcs=mcs)
    frame = make_frame(detail=1500)
    link = channel(snr_db=snr_db, cfo=-0.011, sro_ppm=20, lead=200)
    bursts = [b for seed in range(3) for b in modem.receive(link(modem.modulate(frame), seed=seed))]
    assert [b.frame == frame for b in bursts] == [True] * 3


def test_signalling_outlives_the_detail(make_frame, channel):
    modem = BurstModem(mcs="16qam-1/2")
    frame = make_frame()
    link = channel(snr_db=-2.5, cfo=0.017, lead=400, tail=400)
    bursts = [b for seed in range(20) for b in modem.receive(link(modem.modulate(frame), seed=seed))]
    assert len(bursts) == 20
    assert all(b.frame == replace(frame, detail=None) for b in bursts)
    assert all(b.semantic_ok and b.segment_failures == b.segments == 2 for b in bursts)
    bits = np.unpackbits(np.frombuffer(frame.semantic, np.uint8))
    assert all(np.array_equal(b.semantic_llr > 0, bits) for b in bursts)


def test_lost_segments_are_erasures(make_frame, channel):
    # 40 segments near the SNR where half of them fail.
    modem = BurstModem(mcs="qpsk-3/4")
    frame = make_frame(detail=40 * 192 - 7)
    (burst,) = modem.receive(channel(snr_db=4.2, lead=100)(modem.modulate(frame)))
    assert 0 < burst.segment_failures < burst.segments == 40
    assert modem.counters.segment_failures == burst.segment_failures
    lost = np.zeros(len(frame.detail), bool)
    for start, stop in burst.frame.erasures:
        assert start < stop
        lost[start:stop] = True
    sent = np.frombuffer(frame.detail, np.uint8)
    received = np.frombuffer(burst.frame.detail, np.uint8)
    assert np.array_equal(received, np.where(lost, 0, sent))
    assert not burst.frame.complete


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("snr_db", [0, 5, 10, 15, 20, 25])
def test_snr_and_evm_estimates(preset, snr_db, make_frame, channel):
    numerology = Numerology.preset(preset)
    modem = BurstModem(numerology)
    link = channel(snr_db=snr_db, cfo=0.004, sro_ppm=-20, gain_db=-30, lead=300)
    bursts = [b for s in range(3) for b in modem.receive(link(modem.modulate(make_frame()), numerology, s))]
    assert len(bursts) == 3
    assert all(abs(b.snr_db - snr_db) < 1.5 for b in bursts)
    assert abs(np.mean([b.snr_db for b in bursts]) - snr_db) < 0.7
    assert all(b.evm_db < -snr_db + 1 for b in bursts)


@pytest.mark.parametrize(("mcs", "snr_db"), [("qpsk-1/2", -1), ("16qam-1/2", 4), ("64qam-2/3", 9)])
@pytest.mark.parametrize("taps", [(1,), MULTIPATH])
def test_llrs_mean_what_they_say(mcs, snr_db, taps, make_frame, channel):
    modem = BurstModem(mcs=mcs)
    frame = make_frame(detail=3000)
    layout = Layout.of(modem.numerology, frame.header, modem.mcs)
    coded = layout.detail.coded_bits(layout.segments.split(frame.detail, frame.header.check)).ravel()
    llr = []
    for seed in range(3):
        (burst,) = modem.receive(
            channel(snr_db=snr_db, cfo=0.01, taps=taps, lead=100)(modem.modulate(frame), seed=seed)
        )
        llr.append(burst.llr)
    magnitude = np.abs(np.concatenate(llr))
    wrong = (np.concatenate(llr) > 0) != np.tile(coded, 3)
    for low, high in ((0.3, 1), (1, 2), (2, 3), (3, 4)):
        inside = (magnitude >= low) & (magnitude < high)
        predicted = np.mean(1 / (1 + np.exp(magnitude[inside])))
        assert np.mean(wrong[inside]) == pytest.approx(predicted, rel=0.2)


def test_incomplete_and_oversize_frames_are_not_sent(make_frame):
    frame = make_frame()
    with pytest.raises(ModemError, match="only a complete frame"):
        BurstModem().modulate(replace(frame, semantic=None))
    with pytest.raises(ModemError, match="only a complete frame"):
        BurstModem().modulate(replace(frame, erasures=((0, 8),)))
    with pytest.raises(ModemError, match="the limit is 5000"):
        BurstModem(max_burst_samples=5000).modulate(frame)
