"""Bursts for UHD's sink, what its blocks report, and the events that cannot cross a radio."""

import sys
import time

import gnuradio
import numpy as np
import pmt
import pytest
from gnuradio import blocks, gr
from gr_helpers import Collector, finish, picture, post
from usrp_stand_in import async_message, overflow_message

from crlsc_phy.errors import ModemError, RadioError
from crlsc_phy.images import fit_within, load_image
from crlsc_phy.phy.modem import BurstModem
from crlsc_phy.phy.numerology import Numerology
from gr_blocks import pdu
from gr_blocks.burst_modulator import burst_modulator
from gr_blocks.burst_receiver import burst_receiver
from gr_blocks.radio_events import radio_events
from gr_blocks.usrp_counter import usrp_counter
from gr_blocks.usrp_device import check_device

AMPLITUDE = 10 ** (-15 / 20)
GUARD = 1024


@pytest.mark.parametrize("mode", ["digital", "analog"])
def test_tagged_bursts_are_whole_packets_clear_of_clipping(top, image_folder, codec, mode):
    images = [fit_within(load_image(path), 256) for path in sorted(image_folder.glob("*.jpg"))[:4]]
    frames = [codec.encode(image, sequence, mode=mode) for sequence, image in enumerate(images)]
    modulator = burst_modulator(mode=mode, guard=GUARD, length_tag="packet_len")
    scale, sink, feedback = blocks.multiply_const_cc(AMPLITUDE), blocks.vector_sink_c(), Collector()
    top.connect(modulator, scale, sink)
    top.msg_connect((modulator, "feedback"), (feedback, "in"))
    for frame in frames:
        post(modulator, "frames", pdu.frame_to_pdu(frame))
    post(modulator, "frames", pdu.end_event())
    top.start()
    feedback.wait_for(5)
    post(modulator, "system", pmt.cons(pmt.intern("done"), pmt.from_long(1)))
    finish(top)

    samples = np.array(sink.data(), np.complex64)
    lengths = [
        (tag.offset, pmt.to_long(tag.value)) for tag in sink.tags() if pmt.symbol_to_string(tag.key) == "packet_len"
    ]
    # One packet behind the other: UHD drops what is between them, and cuts one short when the next begins.
    borders = np.cumsum([0, *(length for _, length in lengths)])
    assert [offset for offset, _ in lengths] == borders[:-1].tolist()
    assert borders[-1] == len(samples)
    assert len(lengths) == 5
    assert np.abs(samples).max() < 0.9
    for start, length in lengths:
        assert not samples[start + length - GUARD : start + length].any()
    modem = BurstModem(Numerology())
    received = [burst.frame for burst in [*modem.receive(samples), *modem.flush()]]
    assert [frame.header.sequence for frame in received] == [0, 1, 2, 3]
    if mode == "digital":
        assert [frame.to_bytes() for frame in received] == [frame.to_bytes() for frame in frames]
    for frame, image in zip(received, images, strict=True):
        assert codec.decode(frame).image.shape == image.shape


def test_a_length_tag_and_idle_zeros_exclude_each_other():
    with pytest.raises(ModemError, match="length_tag and idle"):
        burst_modulator(idle=True, length_tag="packet_len")


def test_gaps_are_counted_and_an_end_event_ends_endless_samples(top):
    def tag(offset):
        tag = gr.tag_t()
        moment = pmt.make_tuple(pmt.from_uint64(1), pmt.from_double(0.5))
        tag.offset, tag.key, tag.value = offset, pmt.intern("rx_time"), moment
        return tag

    source = blocks.vector_source_c(np.zeros(10000, np.complex64).tolist(), True, 1, [tag(0), tag(700), tag(9999)])
    head, receiver = blocks.head(8, 10000), burst_receiver()
    top.connect(source, head, receiver)
    top.start()
    finish(top)
    assert receiver.stats()["gaps"] == 2

    endless = burst_receiver()
    top.disconnect_all()
    top.connect(blocks.null_source(8), blocks.throttle(8, 1e6), endless)
    top.start()
    post(endless, "feedback", pdu.skip_event(0, "lost"))
    time.sleep(0.2)
    assert not endless._ended
    post(endless, "feedback", pdu.end_event())
    finish(top)


@pytest.fixture
def counter(top):
    block, feedback = usrp_counter(hold=0.5), Collector()
    top.msg_connect((block, "feedback"), (feedback, "in"))
    top.start()
    return block, feedback


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_reports_of_uhd_are_counted(counter):
    block, _ = counter
    for message in (
        async_message("burst_ack"),
        async_message("underflow"),
        async_message("underflow_in_packet", "seq_error"),
        async_message("seq_error_in_burst"),
        async_message("time_error"),
        overflow_message(3),
        overflow_message(2),
    ):
        post(block, "async_msgs", message)
    wait_until(lambda: block.overruns == 5)
    assert block.stats() == {
        "packets": 0,
        "acknowledged": 1,
        "underruns": 2,
        "overruns": 5,
        "sequence_errors": 2,
        "late": 1,
        "errors": 0,
    }


@pytest.mark.parametrize(
    ("message", "match"),
    [
        (pmt.intern("hello"), "not a report of UHD"),
        (pmt.cons(pmt.intern("uhd_async_msg"), pmt.from_long(1)), "no dictionary"),
        (async_message("user_payload"), "'user_payload'"),
    ],
)
def test_other_messages_are_errors_of_one_line(counter, message, match):
    block, _ = counter
    post(block, "async_msgs", message)
    wait_until(lambda: block.errors == 1)
    assert match in block.messages[0]


def test_the_end_waits_for_the_last_sample(counter):
    block, feedback = counter
    post(block, "async_msgs", async_message("burst_ack"))
    post(block, "events", pdu.burst_event(0, 5000, 100))
    post(block, "events", pdu.end_event())
    assert pdu.read_event(feedback.wait_for(1)[0])["event"] == "burst"
    time.sleep(0.1)
    assert len(feedback.collected) == 1
    post(block, "async_msgs", async_message("burst_ack"))
    assert pdu.read_event(feedback.wait_for(2)[1])["event"] == "end"
    time.sleep(0.6)
    assert len(feedback.collected) == 2
    assert block.stats()["errors"] == 0


def test_a_device_that_does_not_acknowledge_delays_the_end_only(counter):
    block, feedback = counter
    post(block, "events", pdu.burst_event(0, 5000, 100))
    post(block, "events", pdu.end_event())
    assert pdu.read_event(feedback.wait_for(2, 5)[1])["event"] == "end"
    assert "2 of 2 packets not acknowledged" in block.messages[0]
    post(block, "events", pmt.intern("no event"))
    wait_until(lambda: block.errors == 2)


def received(sequence):
    return pdu.image_to_pdu(picture(sequence), sequence)


def run_events(top, steps, count, **options):
    """What leaves a block of radio events after messages to its ports: sequence numbers, and kinds of events."""
    block, out = radio_events(**options), Collector()
    top.msg_connect((block, "frames"), (out, "in"))
    top.start()
    for port, message in steps:
        before = (len(block._waiting), block.frames, len(out.collected), block.errors)
        post(block, port, message)
        # Between two ports there is no order but that of time.
        wait_until(
            lambda before=before: before != (len(block._waiting), block.frames, len(out.collected), block.errors)
        )
    names = []
    for message in out.wait_for(count, 10):
        event = pdu.read_event(message)
        names.append(pdu.sequence_of(message) if event is None else f"{event['event']} {event.get('sequence', '')}")
    time.sleep(0.05)
    assert len(out.collected) == count
    return block, names


def burst(sequence):
    return pdu.burst_event(sequence, 1000, 100)


def test_events_wait_for_their_frames(top):
    steps = [
        ("events", burst(0)),
        ("events", burst(1)),
        ("events", pdu.skip_event(2, "queue")),
        ("events", burst(3)),
        ("frames", received(0)),
        ("frames", received(3)),
        ("frames", received(4)),
        ("events", burst(4)),
        ("events", pdu.end_event()),
    ]
    block, names = run_events(top, steps, 9, idle=30, sender=True)
    assert names == [0, "burst 0", "burst 1", "skip 2", 3, "burst 3", 4, "burst 4", "end "]
    assert block.stats() == {"frames": 3, "lost": 1, "errors": 0}


def test_a_dead_radio_loses_all_and_still_ends(top):
    steps = [("events", burst(0)), ("events", burst(1)), ("events", pdu.end_event())]
    block, names = run_events(top, steps, 3, idle=0.3, sender=True)
    assert names == ["burst 0", "burst 1", "end "]
    assert block.lost == 2


def test_a_reception_ends_by_count(top):
    _, names = run_events(top, [("frames", received(7)), ("frames", received(8))], 3, idle=0, most=2)
    assert names == [7, 8, "end "]


def test_a_reception_ends_by_idle_time(top):
    began = time.monotonic()
    _, names = run_events(top, [("frames", received(7))], 2, idle=0.4)
    assert names == [7, "end "]
    assert time.monotonic() - began > 0.4


def test_wrong_messages_are_counted(top):
    block, _ = run_events(top, [("frames", pmt.intern("x")), ("events", pmt.intern("x"))], 0, idle=0)
    assert block.errors == 2


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ("addr=192.0.2.1", r"no USRP found .*'addr=192.0.2.1'.*uhd_find_devices"),
        ("a=b=c", "'a=b=c' are not readable for UHD"),
    ],
)
def test_a_missing_device_is_one_line(arguments, match):
    with pytest.raises(RadioError, match=match) as caught:
        check_device(arguments)
    assert "\n" not in str(caught.value)


def test_a_gnu_radio_without_uhd_is_one_line(monkeypatch):
    monkeypatch.delattr(gnuradio, "uhd", raising=False)
    monkeypatch.setitem(sys.modules, "gnuradio.uhd", None)
    with pytest.raises(RadioError, match="UHD cannot be imported"):
        check_device("")
