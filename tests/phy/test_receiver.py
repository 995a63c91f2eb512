"""The receiver's stream: any chunking, bursts in a row, and input that is no burst at all."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crlsc_phy.errors import ModemError
from crlsc_phy.frame import FrameHeader, SemanticFrame
from crlsc_phy.phy import PRESETS, BurstModem, Numerology
from crlsc_phy.phy.layout import Layout, pack_header

MULTIPATH = (0.9, 0.4j, -0.3, 0.1 + 0.2j, 0.15)


@pytest.fixture(scope="module")
def stream(make_frame, channel):
    """Frames of several sizes, their bursts back to back and far apart over a rough channel, and those received."""
    modem = BurstModem()
    frames = [make_frame(semantic=8 * i, detail=70 * i, seed=i, sequence=i) for i in range(5)]
    bursts = [modem.modulate(f) for f in frames]
    iq = np.concatenate((*bursts[:3], np.zeros(3000), bursts[3], np.zeros(700), bursts[4]))
    iq = channel(snr_db=12, cfo=-0.019, taps=MULTIPATH, lead=321)(iq)
    return frames, iq, BurstModem().receive(iq)


def cut(iq, borders):
    return np.split(iq, sorted(borders))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_chunking_does_not_matter(stream, data):
    frames, iq, whole = stream
    borders = data.draw(st.lists(st.integers(0, len(iq)), max_size=60))
    modem = BurstModem()
    bursts = [b for part in cut(iq, borders) for b in modem.receive(part)] + modem.flush()
    assert [b.frame for b in bursts] == frames
    assert [b.start for b in bursts] == [b.start for b in whole]
    assert np.allclose([b.snr_db for b in bursts], [b.snr_db for b in whole], atol=0.01)
    assert modem.counters.samples == len(iq)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("semantic", "detail"), [(0, 0), (1, 0), (16, 288), (16, 20_000)])
def test_burst_comes_out_with_its_guard(preset, semantic, detail, make_frame):
    modem = BurstModem(Numerology.preset(preset))
    frame = make_frame(semantic, detail)
    for _ in range(2):
        assert [b.frame for b in modem.receive(modem.modulate(frame))] == [frame]


def test_sample_by_sample(make_frame, channel):
    frame = make_frame(semantic=4, detail=0)
    modem = BurstModem()
    iq = channel(snr_db=10, lead=50)(modem.modulate(frame))
    bursts = [b for sample in iq for b in modem.receive(sample[None])] + modem.flush()
    assert [b.frame for b in bursts] == [frame]


@pytest.mark.parametrize("gain_db", [-60, 20])
@pytest.mark.parametrize("sro_ppm", [-20, 20])
def test_gain_clock_and_multipath(gain_db, sro_ppm, make_frame, channel):
    modem = BurstModem()
    frame = make_frame(detail=6000)
    link = channel(10, cfo=0.02, sro_ppm=sro_ppm, taps=MULTIPATH, gain_db=gain_db, lead=1000)
    (burst,) = modem.receive(link(modem.modulate(frame)))
    assert burst.frame == frame


def test_gain_steps_between_bursts(make_frame, channel):
    modem = BurstModem()
    frames = [make_frame(seed=i, sequence=i) for i in range(4)]
    levels = (1, 0.01, 1, 0.01)
    iq = np.concatenate(
        [level * np.r_[modem.modulate(f), np.zeros(400)] for f, level in zip(frames, levels, strict=True)]
    )
    # Noise 12 dB under the weaker bursts.
    iq = iq + 0.01 * channel(snr_db=12)(np.zeros(len(iq)))[: len(iq)]
    assert [b.frame for b in modem.receive(iq)] == frames


def test_bad_samples_are_counted_and_survived(make_frame):
    modem = BurstModem()
    frame = make_frame()
    iq = modem.modulate(frame)
    iq[3000:3010] = np.nan
    iq[4000] = np.inf + 1j
    iq[5000] = 1e30
    bursts = modem.receive(np.full(5000, np.nan)) + modem.receive(iq) + modem.receive(np.zeros(1000))
    assert [b.frame for b in bursts] == [frame]
    assert modem.counters.bad_samples == 5012


@pytest.mark.parametrize(
    "signal",
    [
        np.zeros(100_000),
        np.ones(100_000),
        np.exp(2j * np.pi * np.arange(100_000) / 16),
        np.full(100_000, 1e-30),
        np.where(np.arange(100_000) % 5000 < 3, 1e5, 1e-5),
    ],
    ids=["zeros", "constant", "tone on a sync line", "denormal", "impulses"],
)
def test_what_is_no_burst_does_no_harm(signal, make_frame):
    modem = BurstModem()
    frame = make_frame()
    assert not modem.receive(signal)
    assert len(modem._receiver._buffer) < 20_000
    # The next good burst is received.
    assert [b.frame for b in modem.receive(np.r_[modem.modulate(frame), np.zeros(1000)])] == [frame]


def lying_burst(modem, header):
    """A burst with a header that claims more than follows."""
    layout = Layout.of(modem.numerology, header, modem.mcs)
    data = layout.header.modulate(pack_header(header, modem.mcs))
    symbols = modem._ofdm.waveform(modem._ofdm.grid(data), modem.numerology.cp_length)
    return np.concatenate((modem._preamble.waveform, symbols.ravel()))


def test_layers_behind_the_header_of_another_frame_are_lost(make_frame):
    """The same sizes and another number: what passes for a picture must be that of its header."""
    modem, frame = BurstModem(), make_frame()
    other = replace(frame.header, sequence=frame.header.sequence ^ 1)
    layout = Layout.of(modem.numerology, other, modem.mcs)
    data = np.concatenate((layout.header.modulate(pack_header(other, modem.mcs)), layout.modulate(frame)))
    symbols = modem._ofdm.waveform(modem._ofdm.grid(data), modem.numerology.cp_length)
    (burst,) = modem.receive(np.concatenate((modem._preamble.waveform, symbols.ravel(), np.zeros(1000))))
    assert burst.frame == SemanticFrame(other, None, None)


def test_header_that_claims_too_much_is_bounded(make_frame):
    modem = BurstModem(max_burst_samples=100_000)
    frame = make_frame()
    header = FrameHeader(bytes(4), 4096, 4096, 63, (1 << 21) - 1)
    iq = np.r_[lying_burst(modem, header), modem.modulate(frame), np.zeros(1000)]
    assert [b.frame for b in modem.receive(iq)] == [frame]
    assert modem.counters.oversize == 1


def test_header_that_lies_within_the_limit_costs_at_most_one_burst(make_frame):
    modem = BurstModem()
    frame = make_frame()
    header = FrameHeader(bytes(4), 64, 64, 16, 3000)
    silence = np.zeros(60_000)
    iq = np.r_[lying_burst(modem, header), silence, modem.modulate(frame), np.zeros(1000)]
    lie, good = modem.receive(iq)
    assert lie.frame == SemanticFrame(header, None, None)
    assert np.isfinite(lie.snr_db)
    assert good.frame == frame


def test_what_stands_where_a_header_lied_is_received(make_frame):
    modem = BurstModem()
    frame = make_frame()
    lie = FrameHeader(bytes(4), 64, 64, 16, 3000)
    iq = np.r_[lying_burst(modem, lie), np.zeros(500), modem.modulate(frame), np.zeros(60_000)]
    assert [b.frame for b in modem.receive(iq)] == [SemanticFrame(lie, None, None), frame]


@pytest.mark.parametrize("tone", [1 / 16, -5 / 16, 0.0421, 0.0])
def test_a_tone_far_above_the_bursts_takes_only_those_it_covers(tone, make_frame, channel):
    modem = BurstModem()
    frames = [make_frame(seed=i, sequence=i) for i in range(3)]
    parts = [np.r_[modem.modulate(f), np.zeros(500)] for f in frames]
    iq = channel(snr_db=15, tail=500)(np.concatenate(parts))
    covered = slice(len(parts[0]), len(parts[0]) + len(parts[1]))
    iq[covered] += 10 * np.exp(2j * np.pi * tone * np.arange(len(parts[1])))
    received = [b.frame for b in modem.receive(iq) + modem.flush()]
    assert received == [frames[0], frames[2]]
    assert modem.counters.bursts == 2


@pytest.mark.parametrize("bits", [None, 3, 8])
def test_clipping_and_coarse_converters(bits, make_frame, channel):
    modem = BurstModem()
    frames = [make_frame(seed=i, sequence=i) for i in range(3)]
    iq = channel(snr_db=12, cfo=0.01, lead=300, tail=300)(np.concatenate([modem.modulate(f) for f in frames]))
    # Both parts clipped at half of their rms; or a converter whose full scale is twice the rms.
    full = 0.5 * np.sqrt(0.5) if bits is None else 2 * np.sqrt(0.5)
    parts = iq.view(np.float32).clip(-full, full)
    if bits:
        step = 2 * full / 2**bits
        parts = (np.floor(parts / step) + 0.5) * step
    assert [b.frame for b in modem.receive(parts.astype(np.float32).view(np.complex64)) + modem.flush()] == frames


def test_damaged_header_is_counted_and_next_burst_received(make_frame):
    modem = BurstModem()
    frame = make_frame()
    iq = modem.modulate(frame)
    broken = iq.copy()
    broken[480:2400] *= np.random.default_rng(0).standard_normal(1920)
    broken[480:2400] = broken[480:2400][::-1]
    bursts = modem.receive(np.r_[broken, np.zeros(500), iq, np.zeros(500)])
    assert [b.frame for b in bursts] == [frame]
    assert modem.counters.header_failures == 1


def test_flush_gives_what_there_is_of_a_cut_burst(make_frame):
    modem = BurstModem()
    frame = make_frame(detail=3000)
    iq = modem.modulate(frame)
    assert not modem.receive(iq[: len(iq) // 2])
    (burst,) = modem.flush()
    assert burst.frame.semantic == frame.semantic
    assert burst.segment_failures > 0
    assert modem.counters.truncated == 1
    # And the stream may go on.
    (again,) = modem.receive(np.r_[np.zeros(10), iq, np.zeros(1000)])
    assert again.frame == frame
    assert again.start == len(iq) // 2 + 10


@pytest.mark.parametrize("missing", [1, 3, 8, 24])
def test_a_burst_whose_first_samples_are_missing(missing, make_frame, channel):
    modem = BurstModem()
    frame = make_frame()
    iq = channel(snr_db=15, cfo=0.01, tail=100)(modem.modulate(frame))[missing:]
    (burst,) = modem.receive(iq) + modem.flush()
    assert burst.frame == frame
    assert abs(burst.start + missing) <= 1


def test_flush_of_nothing_gives_nothing():
    modem = BurstModem()
    assert modem.flush() == []
    modem.receive(np.zeros(1, np.complex64))
    assert modem.flush() == []
    assert modem.counters.samples == 1


@pytest.mark.parametrize("iq", [np.zeros((2, 100)), ["a"], 3.0])
def test_samples_of_another_shape_are_refused(iq):
    with pytest.raises(ModemError, match="samples"):
        BurstModem().receive(iq)


@pytest.mark.parametrize("other", [Numerology(network=7), Numerology.preset("128"), Numerology.preset("256")])
def test_bursts_of_other_senders_are_ignored(other, make_frame, channel):
    theirs, ours = make_frame(seed=1), make_frame(seed=2)
    iq = np.concatenate(
        (BurstModem(other).modulate(theirs), BurstModem().modulate(ours), BurstModem(other).modulate(theirs))
    )
    modem = BurstModem()
    assert [b.frame for b in modem.receive(channel(snr_db=15, tail=1000)(iq)) + modem.flush()] == [ours]
    assert modem.counters.bursts == 1


def test_a_header_like_those_before_is_read_deeper_in_noise(make_frame, channel):
    modem = BurstModem()
    modem.receive(np.pad(modem.modulate(make_frame(detail=0, sequence=9)), (100, 100)))
    read = {"fresh": 0, "experienced": 0}
    for seed in range(20):
        frame = make_frame(detail=0, sequence=100 + 1000 * seed)
        iq = channel(snr_db=-9.3, lead=300, tail=300)(modem.modulate(frame), seed=seed)
        for name, receiver in (("fresh", BurstModem()), ("experienced", modem)):
            headers = [b.frame.header for b in receiver.receive(iq)]
            assert headers in ([], [frame.header])
            read[name] += len(headers)
    assert read["fresh"] <= 8
    assert read["experienced"] >= 16


def test_habits_do_not_deafen_to_another_sender(make_frame, channel):
    modem = BurstModem()
    for sequence in range(10):
        modem.receive(np.pad(modem.modulate(make_frame(seed=1, sequence=sequence)), (100, 100)))
    other = make_frame(semantic=32, detail=0, seed=2, height=255, width=384, sequence=50_000)
    link = channel(snr_db=-7, lead=300, tail=300)
    bursts = [b for seed in range(20) for b in modem.receive(link(modem.modulate(other), seed=seed))]
    assert [b.frame.header for b in bursts] == [other.header] * 20
