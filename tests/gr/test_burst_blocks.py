import dataclasses
import time

import numpy as np
import pmt
import pytest
from gnuradio import blocks, channels, gr
from gr_helpers import Collector, finish, post

from crlsc_phy.cli.modem import main
from crlsc_phy.errors import ModemError
from crlsc_phy.frame import SYMBOL, FrameHeader, Mode, SemanticFrame
from crlsc_phy.phy.modem import BurstModem
from crlsc_phy.phy.taps import read_taps
from gr_blocks import pdu
from gr_blocks.burst_modulator import burst_modulator
from gr_blocks.burst_receiver import burst_receiver

GUARD = 500


def frame(sequence, size=120):
    rng = np.random.default_rng(sequence)
    header = FrameHeader(b"kb-1", 64, 64, 16, size, 2, sequence)
    return SemanticFrame(header, rng.bytes(16), rng.bytes(size))


def transmit(top, messages, count, **options):
    """The modulator, the samples and tags that it made, and its feedback."""
    modulator = burst_modulator(guard=GUARD, **options)
    sink, feedback = blocks.vector_sink_c(), Collector()
    top.connect(modulator, sink)
    top.msg_connect((modulator, "feedback"), (feedback, "in"))
    for message in messages:
        post(modulator, "frames", message)
    top.start()
    events = [pdu.read_event(message) for message in feedback.wait_for(count)]
    post(modulator, "system", pmt.cons(pmt.intern("done"), pmt.from_long(1)))
    finish(top, 20)
    return modulator, sink, events


def test_modulator_sends_each_burst_with_its_guard_and_event(top):
    frames = [frame(1), frame(2)]
    modulator, sink, events = transmit(top, [*map(pdu.frame_to_pdu, frames), pdu.end_event()], 3, mcs="16qam-1/2")
    modem = BurstModem(mcs="16qam-1/2")
    bursts = [modem.modulate(each) for each in frames]
    guard = np.zeros(GUARD, np.complex64)
    assert np.array_equal(sink.data(), np.concatenate((bursts[0], guard, bursts[1], guard, guard)))
    lengths = [len(burst) for burst in bursts]
    assert [tag.offset for tag in sink.tags()] == [lengths[0], GUARD + sum(lengths), 2 * GUARD + sum(lengths)]
    assert events == [
        {"event": "burst", "sequence": 1, "samples": lengths[0], "air_bytes": len(frames[0].to_bytes())},
        {"event": "burst", "sequence": 2, "samples": lengths[1], "air_bytes": len(frames[1].to_bytes())},
        {"event": "end"},
    ]
    assert modulator.stats() == {
        "bursts": 2,
        "samples": len(sink.data()),
        "mcs_changes": 0,
        "errors": 0,
        "dropped": 0,
    }


def test_modulator_bounds_its_queue_and_tells_which_frames_it_dropped(top):
    messages = [pdu.frame_to_pdu(frame(index)) for index in range(5)]
    modulator, _, events = transmit(top, messages, 5, queue_size=2)
    assert [(event["event"], event["sequence"]) for event in events] == [
        ("skip", 0),
        ("skip", 1),
        ("skip", 2),
        ("burst", 3),
        ("burst", 4),
    ]
    assert modulator.dropped == 3


def test_modulator_sends_no_damaged_frame(top):
    holes = dataclasses.replace(frame(1), semantic=None)
    modulator, _, events = transmit(top, [pdu.frame_to_pdu(holes), pmt.intern("x"), pdu.frame_to_pdu(frame(2))], 3)
    assert [event["event"] for event in events] == ["skip", "skip", "burst"]
    assert modulator.errors == 2


def test_idle_modulator_keeps_the_radio_fed(top):
    modulator, head, sink = (
        burst_modulator(idle=True),
        blocks.head(gr.sizeof_gr_complex, 50_000),
        blocks.vector_sink_c(),
    )
    top.connect(modulator, head, sink)
    top.start()
    finish(top, 20)
    assert not np.any(sink.data())
    assert len(sink.data()) == 50_000


def link(top, frames, reports=True, noise=0.15, **options):
    """Modulator and receiver back to back, reports on their way back; the blocks and the frames received."""
    modulator, receiver, collector = burst_modulator(guard=GUARD, **options), burst_receiver(), Collector()
    channel = channels.channel_model(noise_voltage=noise, frequency_offset=0.003, noise_seed=1)
    top.connect(modulator, channel, receiver)
    top.msg_connect((receiver, "frames"), (collector, "in"))
    if reports:
        top.msg_connect((receiver, "reports"), (modulator, "reports"))
    top.start()
    for count, each in enumerate(frames, 1):
        post(modulator, "frames", pdu.frame_to_pdu(each))
        # Each burst comes with its event behind it.
        collector.wait_for(2 * count)
    post(modulator, "system", pmt.cons(pmt.intern("done"), pmt.from_long(1)))
    finish(top, 20)
    received = [m for m in collector.collected if pdu.read_event(m) is None]
    return modulator, receiver, [pdu.frame_from_pdu(message)[0] for message in received]


def test_auto_mcs_rises_with_the_reports(top):
    frames = [frame(index, 600) for index in range(24)]
    modulator, receiver, received = link(top, frames, mcs="auto")
    assert received == frames
    # 16 dB: from the most robust MCS to 16-QAM or above.
    assert modulator.mcs_changes >= 1
    assert modulator._modem.mcs.bits_per_symbol >= 4
    assert receiver.stats()["segment_failures"] == 0


def test_auto_mcs_falls_where_nobody_reports(top):
    modulator, _, received = link(top, [frame(index) for index in range(20)], reports=False, mcs="auto")
    assert len(received) == 20
    assert modulator._modem.mcs.index == 0


def test_reports_that_are_none_are_counted(top):
    modulator = burst_modulator(mcs="auto", idle=True)
    top.connect(modulator, blocks.null_sink(gr.sizeof_gr_complex))
    top.start()
    for message in (pmt.intern("x"), pdu.make_event("report", sequence=1), pdu.end_event()):
        post(modulator, "reports", message)
    deadline = time.monotonic() + 10
    while modulator.errors < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert modulator.errors == 3
    assert "link report" in modulator.messages[-1]


def test_analog_frames_cross_with_noise_on_them(top):
    rng = np.random.default_rng(0)
    symbols = rng.standard_normal((800, 2), np.float32).view(np.complex64).ravel()
    header = FrameHeader(b"kb-1", 64, 64, 16, symbols.nbytes, 0, 1, Mode.ANALOG)
    sent = SemanticFrame(header, rng.bytes(16), symbols.astype(SYMBOL).tobytes())
    _, _, (received,) = link(top, [sent], mode="analog", mcs="analog-1/2")
    assert received.semantic == sent.semantic
    error = np.mean(np.abs(received.symbols - symbols / np.sqrt(np.mean(np.abs(symbols) ** 2))) ** 2)
    assert 1e-4 < error < 0.05


def test_receiver_records_taps_that_can_be_plotted(top, tmp_path):
    samples = over_the_air([frame(1), frame(2)])
    source = blocks.vector_source_c(samples.tolist(), False, 1, [tag(len(samples) - 1, pdu.end_event())])
    receiver, collector = burst_receiver(taps=str(tmp_path / "taps"), taps_most=1), Collector()
    top.connect(source, receiver)
    top.msg_connect((receiver, "frames"), (collector, "in"))
    top.start()
    collector.wait_for(3)
    finish(top)
    (burst,) = read_taps(tmp_path / "taps")
    assert {"metric", "channel", "symbols", "llr"} <= set(burst.names)
    assert main(["plot", str(tmp_path / "taps"), "--out", str(tmp_path / "taps.png")]) == 0
    assert (tmp_path / "taps.png").stat().st_size > 20_000


@pytest.mark.parametrize(
    "options",
    [
        {"numerology": "63"},
        {"mcs": "qpsk-9/8"},
        {"mcs": "99"},
        {"sample_rate": -1.0},
        {"mode": "analog", "mcs": "qpsk-1/2"},
        {"papr_db": 1.0},
        {"network": -1},
    ],
)
def test_modulator_refuses_wrong_options(options):
    with pytest.raises(ModemError):
        burst_modulator(**options)


def receive(top, samples, tags=(), count=1):
    source = blocks.vector_source_c(samples.tolist(), False, 1, list(tags))
    receiver, collector = burst_receiver(), Collector()
    top.connect(source, receiver)
    top.msg_connect((receiver, "frames"), (collector, "in"))
    top.start()
    return receiver, collector.wait_for(count)


def tag(offset, event):
    tag = gr.tag_t()
    tag.offset, tag.key, tag.value = offset, pmt.intern(pdu.EVENT_TAG), pdu.event_to_tag(event)
    return tag


def over_the_air(frames, noise=0.1, hurt=None, cfo=0.002):
    rng = np.random.default_rng(1)
    modem, parts = BurstModem(), []
    for each in frames:
        burst = modem.modulate(each)
        if hurt:
            burst[hurt[0] : hurt[1]] = 0
        parts += [np.zeros(GUARD, np.complex64), burst]
    samples = np.concatenate((*parts, np.zeros(GUARD, np.complex64)))
    samples = samples * np.exp(2j * np.pi * cfo * np.arange(len(samples)))
    return (samples + noise * rng.normal(size=(len(samples), 2)).view(complex)[:, 0] / 2**0.5).astype(np.complex64)


def test_receiver_hands_out_frames_with_estimates_then_the_events(top):
    frames = [frame(1), frame(2), frame(3)]
    samples = over_the_air(frames)
    # The end stands on the last sample: what the modem still holds must come before it.
    tags = [tag(len(samples) - 1, pdu.end_event())]
    receiver, messages = receive(top, samples, tags, 4)
    received = [pdu.frame_from_pdu(message) for message in messages[:3]]
    assert [each for each, _ in received] == frames
    for _, meta in received:
        assert meta["snr_db"] == pytest.approx(20 + 10 * np.log10(64 / 52), abs=1.5)
        assert meta["cfo_hz"] == pytest.approx(2000, abs=30)
        assert meta["evm_db"] < -15
        assert (meta["semantic_ok"], meta["detail_ok"]) == (True, True)
    assert pdu.read_event(messages[3]) == {"event": "end"}
    assert receiver.stats()["frames"] == receiver.stats()["bursts"] == 3


def test_receiver_hands_out_a_frame_whose_detail_is_lost(top):
    whole = frame(1)
    burst = len(BurstModem().modulate(whole))
    samples = over_the_air([whole], hurt=(burst - 1200, burst))
    receiver, messages = receive(top, samples, [tag(len(samples) - 1, pdu.end_event())])
    back, meta = pdu.frame_from_pdu(messages[0])
    assert back.semantic == whole.semantic
    assert back.detail != whole.detail
    assert (meta["semantic_ok"], meta["detail_ok"]) == (True, False)
    assert receiver.damaged == 1


def test_receiver_keeps_quiet_on_noise_and_rubbish(top):
    rng = np.random.default_rng(2)
    samples = rng.normal(size=(100_000, 2)).view(complex)[:, 0].astype(np.complex64)
    samples[5000:6000] = np.nan
    receiver, messages = receive(top, samples, [tag(len(samples) - 1, pdu.end_event())])
    assert [pdu.read_event(message) for message in messages] == [{"event": "end"}]
    assert receiver.frames == 0
