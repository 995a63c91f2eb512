"""Exceptions of any kind inside the blocks: each is a counter, a log line and a skip event, and the run goes on."""

import json
import os
import time

import numpy as np
import pmt
import pytest
from gnuradio import blocks, gr
from gr_helpers import Collector, finish, picture, post

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.frame import FrameHeader, SemanticFrame
from crlsc_phy.images import load_image, save_png
from crlsc_phy.net.codec.client import CodecClient
from crlsc_phy.phy.modem import BurstModem
from gr_blocks import pdu
from gr_blocks.block import Block
from gr_blocks.burst_modulator import burst_modulator
from gr_blocks.burst_receiver import burst_receiver
from gr_blocks.codec_client import codec_client
from gr_blocks.image_sink import image_sink
from gr_blocks.image_source import image_source
from gr_blocks.radio_events import radio_events
from gr_blocks.semantic_decoder import semantic_decoder
from gr_blocks.semantic_encoder import semantic_encoder
from gr_blocks.sionna_channel import sionna_channel
from gr_blocks.usrp_counter import usrp_counter


class PanicError(BaseException):
    """As Rust's panics come through PyO3: no Exception."""


FAULTS = [IndexError("list index out of range"), RuntimeError("two\nlines"), PanicError("panic"), SystemExit(3)]


def fault_at(number, error):
    """A function that raises ``error`` at its call ``number``, and passes its arguments on at the others."""

    def wrap(function):
        calls = []

        def call(*arguments, **options):
            calls.append(arguments)
            if len(calls) == number + 1:
                raise error
            return function(*arguments, **options)

        return call

    return wrap


def kinds(messages):
    return [event["event"] if (event := pdu.read_event(message)) else "data" for message in messages]


class Faulty(Block):
    """Raises whatever there is to be raised."""

    def __init__(self, error):
        super().__init__("faulty", {"in": "on_message"}, ("out",), [np.complex64], [np.complex64])
        self.error, self.calls = error, 0

    def begin(self):
        raise self.error

    end = begin

    def on_message(self, _message):
        raise self.error

    def process(self, inputs, outputs):
        self.calls += 1
        if self.calls == 1:
            raise self.error
        outputs[0][:] = inputs[0]
        return len(inputs[0])


@pytest.mark.parametrize("error", FAULTS, ids=repr)
def test_any_exception_anywhere_in_a_block_is_counted_and_the_flow_ends_as_it_should(top, error):
    faulty, sink = Faulty(error), blocks.vector_sink_c()
    top.connect(blocks.vector_source_c([1.0] * 100_000), faulty, sink)
    post(faulty, "in", pmt.intern("x"))
    top.start()
    finish(top)
    samples = np.array(sink.data())
    assert len(samples) == 100_000
    first_ones = np.flatnonzero(samples)[0]
    assert first_ones > 0
    assert not samples[:first_ones].any()
    assert (samples[first_ones:] == 1).all()
    # begin, end, a message and the first call of process.
    assert faulty.errors == 4
    assert list(faulty.messages) == [f"{type(error).__name__}: {' '.join(str(error).split())}"]


CODED = SemanticFrame(FrameHeader(b"kb-1", 32, 32, 0, 0, 0, 0), b"", b"")


@pytest.mark.parametrize("error", FAULTS[:3], ids=repr)
@pytest.mark.parametrize("kind", ["encoder", "decoder", "client", "modulator"])
def test_a_message_that_makes_a_block_stumble_is_skipped(top, monkeypatch, bundle_folder, codec, kind, error):
    if kind == "encoder":
        monkeypatch.setattr(SemanticCodec, "encode", fault_at(0, error)(SemanticCodec.encode))
        block, source, target = semantic_encoder(str(bundle_folder)), "images", "frames"
    elif kind == "decoder":
        monkeypatch.setattr(SemanticCodec, "decode", fault_at(0, error)(SemanticCodec.decode))
        block, source, target = semantic_decoder(str(bundle_folder)), "frames", "images"
    elif kind == "client":
        answer = [pmt.serialize_str(pdu.frame_to_pdu(CODED))]
        monkeypatch.setattr(CodecClient, "exchange", fault_at(0, error)(lambda *_: answer))
        block, source, target = codec_client("encode"), "images", "frames"
    else:
        monkeypatch.setattr(BurstModem, "modulate", fault_at(0, error)(BurstModem.modulate))
        block, source, target = burst_modulator(), "frames", "feedback"
        top.connect(block, blocks.null_sink(8))
    collector = Collector()
    top.msg_connect((block, target), (collector, "in"))
    for sequence in (5, 6):
        image = picture(1)
        message = pdu.image_to_pdu(image, sequence)
        post(block, source, message if source == "images" else pdu.frame_to_pdu(codec.encode(image, sequence)))
    top.start()
    skip, good = collector.wait_for(2, 20)
    event = pdu.read_event(skip)
    assert (event["event"], event["sequence"]) == ("skip", 5)
    assert type(error).__name__ in event["reason"]
    assert pdu.sequence_of(good) == 6 or kind == "client"
    assert block.errors == 1
    assert len(block.messages) == 1


def test_a_decoder_that_cannot_look_for_new_entries_decodes(top, monkeypatch, bundle_folder, codec):
    monkeypatch.setattr(SemanticCodec, "refresh", fault_at(0, OSError("no such device"))(SemanticCodec.refresh))
    decoder, collector = semantic_decoder(str(bundle_folder)), Collector()
    top.msg_connect((decoder, "images"), (collector, "in"))
    post(decoder, "frames", pdu.frame_to_pdu(codec.encode(picture(1), 3)))
    top.start()
    assert pdu.image_from_pdu(collector.wait_for(1)[0])[1]["sequence"] == 3
    assert decoder.messages[0] == "OSError: no such device"


@pytest.mark.parametrize("error", FAULTS, ids=repr)
@pytest.mark.parametrize("function", ["find_images", "read_labels", "load_image", "fit_within"])
def test_the_source_ends_whatever_a_file_does_to_it(top, monkeypatch, folder, function, error):
    (folder / "c.png").unlink()
    original = getattr(__import__("crlsc_phy.images", fromlist=[function]), function)
    monkeypatch.setattr(f"gr_blocks.image_source.{function}", fault_at(0, error)(original))
    source, collector = image_source(str(folder), in_flight=0), Collector()
    top.msg_connect((source, "images"), (collector, "in"))
    top.start()
    expected = {"find_images": 0, "read_labels": 3}.get(function, 2)
    assert kinds(collector.wait_for(expected + 1)) == ["data"] * expected + ["end"]
    assert source.errors == 1


def test_an_image_that_cannot_become_a_message_leaves_its_place_in_flight(top, monkeypatch, folder):
    monkeypatch.setattr(pdu, "image_to_pdu", fault_at(0, ValueError("no PMT"))(pdu.image_to_pdu))
    source, collector = image_source(str(folder), in_flight=2), Collector()
    top.msg_connect((source, "images"), (collector, "in"))
    top.start()
    assert [pdu.sequence_of(message) for message in collector.wait_for(3)] == [0, 1, None]
    assert source.stats() == {"images": 2, "errors": 2}  # c.png too


@pytest.mark.parametrize("function", ["psnr_db", "save_png", "draw_gallery"])
def test_the_sink_writes_its_results_whatever_fails(top, monkeypatch, tmp_path, function):
    def fail(*_):
        raise ArithmeticError("whatever")

    monkeypatch.setattr(f"gr_blocks.image_sink.{function}", fail)
    sink, feedback = image_sink(str(tmp_path)), Collector()
    top.msg_connect((sink, "feedback"), (feedback, "in"))
    post(sink, "sent", pdu.image_to_pdu(picture(1), 1, name="one"))
    post(sink, "images", pdu.image_to_pdu(picture(1), 1))
    post(sink, "images", pdu.end_event())
    top.start()
    feedback.wait_for(1)
    top.stop()
    finish(top)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["images_received"], metrics["rows"][0]["name"]) == (1, "one")
    assert (tmp_path / "gallery.png").is_file() == (function == "psnr_db")
    assert (tmp_path / "received/00001-one.png").is_file() == (function != "save_png")
    assert "ArithmeticError: whatever" in sink.messages


WRONG_EVENTS = [
    pdu.make_event("burst", sequence=[1]),
    pdu.make_event("burst", sequence={"a": 1}, samples="many"),
    pdu.make_event("skip", sequence=None, reason=5),
    pdu.make_event("burst", sequence=0, samples=np.zeros(3, np.float32), air_bytes="x"),
    pdu.make_event("what"),
    pmt.cons(pmt.intern("end"), pmt.PMT_NIL),
]


def test_odd_events_neither_stop_the_sink_nor_spoil_its_results(top, tmp_path):
    sink, feedback = image_sink(str(tmp_path)), Collector()
    top.msg_connect((sink, "feedback"), (feedback, "in"))
    near = {"label": "a", "name": "b", "score": 0.5, "base": "skb", "array": np.zeros(2, np.float32)}
    post(sink, "sent", pdu.image_to_pdu(picture(1), 0, name="one\ntwo", labels=["x\ny"]))
    post(sink, "images", pdu.image_to_pdu(picture(1), 0, neighbours=[near], label="several\nlines"))
    for event in (*WRONG_EVENTS, pdu.end_event()):
        post(sink, "images", event)
    top.start()
    # All events come back: without the end the source would wait for ever.
    assert kinds(feedback.wait_for(6)) == ["burst", "burst", "skip", "burst", "what", "end"]
    top.stop()
    finish(top)
    (row,) = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    assert (row["samples"], row["air_bytes"], row["received"]) == (None, None, True)
    assert row["neighbours"] == [{"label": "a", "name": "b", "score": 0.5, "base": "skb"}]
    assert (tmp_path / "gallery.png").is_file()


@pytest.mark.parametrize(
    ("make", "port", "target"),
    [
        (lambda: image_source("nowhere"), "feedback", "images"),
        (lambda: usrp_counter(hold=0.2), "events", "feedback"),
        (lambda: usrp_counter(hold=0.2), "async_msgs", "feedback"),
        (lambda: radio_events(idle=0.3, sender=True), "events", "frames"),
        (lambda: radio_events(idle=0.3, sender=True), "frames", "frames"),
    ],
)
def test_odd_events_leave_the_other_blocks_running(top, make, port, target):
    block, collector = make(), Collector()
    top.msg_connect((block, target), (collector, "in"))
    for event in (*WRONG_EVENTS, pmt.PMT_NIL, pmt.from_long(3)):
        post(block, port, event)
    top.start()
    last = {"async_msgs": "events", "frames": "events"}.get(port, port)
    before = len(collector.collected)
    deadline = time.monotonic() + 10
    while block.errors < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    post(block, last, pdu.end_event())
    if last == "feedback":
        finish(top)
    else:
        deadline = time.monotonic() + 10
        while "end" not in kinds(collector.collected[before:]) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "end" in kinds(collector.collected)


def test_a_receiver_that_stumbles_once_hears_the_next_burst(top, monkeypatch):
    rng = np.random.default_rng(1)
    frames = [
        SemanticFrame(FrameHeader(b"kb-1", 64, 64, 16, 120, 2, sequence), rng.bytes(16), rng.bytes(120))
        for sequence in range(3)
    ]
    modem = BurstModem()
    samples = np.concatenate([np.pad(modem.modulate(each), 40_000) for each in frames])
    monkeypatch.setattr(BurstModem, "receive", fault_at(0, IndexError("out of range"))(BurstModem.receive))
    monkeypatch.setattr(BurstModem, "flush", fault_at(0, PanicError("panic"))(BurstModem.flush))
    end = gr.tag_t()
    end.offset, end.key = len(samples) - 1, pmt.intern(pdu.EVENT_TAG)
    end.value = pdu.event_to_tag(pdu.end_event())
    receiver, collector = burst_receiver(), Collector()
    # In pieces: what comes with the exception is lost.
    top.connect(blocks.vector_source_c(samples.tolist(), False, 1, [end]), blocks.throttle(8, 1e6), receiver)
    top.msg_connect((receiver, "frames"), (collector, "in"))
    top.start()
    finish(top)
    *received, last = collector.collected
    assert pdu.read_event(last) == {"event": "end"}
    assert [pdu.frame_from_pdu(message)[0] for message in received] == frames
    assert list(receiver.messages) == ["IndexError: out of range", "PanicError: panic"]
    assert (receiver.stats()["bursts"], receiver.errors) == (3, 2)


def test_a_frame_that_the_receiver_cannot_send_does_not_hold_up_the_end(top, monkeypatch):
    frame = SemanticFrame(FrameHeader(b"kb-1", 64, 64, 16, 12, 2, 7), bytes(16), bytes(12))
    samples = np.pad(BurstModem().modulate(frame), 500)
    monkeypatch.setattr(pdu, "frame_to_pdu", fault_at(0, MemoryError())(pdu.frame_to_pdu))
    end = gr.tag_t()
    end.offset, end.key = len(samples) - 1, pmt.intern(pdu.EVENT_TAG)
    end.value = pdu.event_to_tag(pdu.end_event())
    receiver, collector = burst_receiver(), Collector()
    top.connect(blocks.vector_source_c(samples.tolist(), False, 1, [end]), receiver)
    top.msg_connect((receiver, "frames"), (collector, "in"))
    top.start()
    finish(top)
    assert kinds(collector.collected) == ["end"]
    assert receiver.errors == 1


def test_a_channel_that_stumbles_sends_silence_and_goes_on(top):
    block, sink = sionna_channel("awgn", None), blocks.vector_sink_c()
    block._channel.__class__ = type("Stumbling", (type(block._channel),), {"__call__": stumble_once})
    top.connect(blocks.vector_source_c([1.0] * 100_000), block, sink)
    top.start()
    finish(top)
    samples = np.array(sink.data())
    assert len(samples) == 100_000
    assert samples[0] == 0
    assert samples[-1] == 1
    assert list(block.messages) == ["FloatingPointError: overflow"]


def stumble_once(channel, samples):
    if not hasattr(channel, "stumbled"):
        channel.stumbled = True
        raise FloatingPointError("overflow")
    return super(type(channel), channel).__call__(samples)


@pytest.mark.parametrize(
    ("taps", "expected"),
    [
        (pmt.init_c32vector(2, [1, 0.5j]), (1, 0.5j)),
        (pmt.init_c64vector(2, [1, 0.5j]), (1, 0.5j)),
        (pmt.init_f32vector(2, [1, 0.5]), (1, 0.5)),
        (pmt.init_f64vector(2, [1, 0.5]), (1, 0.5)),
        (pmt.init_s16vector(2, [1, 2]), (1, 2)),
        (pmt.to_pmt([1, 0.5j]), (1, 0.5j)),
        (pmt.from_complex(0.5j), (0.5j,)),
        (pmt.from_double(0.5), (0.5,)),
        (pmt.from_long(2), (2,)),
    ],
)
def test_taps_of_a_message_may_be_any_vector_or_a_number(top, taps, expected):
    block, sink = sionna_channel("static", None), blocks.vector_sink_c()
    top.connect(blocks.vector_source_c([1.0] * 50_000), block, sink)
    post(block, "set", pmt.dict_add(pmt.make_dict(), pmt.intern("taps"), taps))
    top.start()
    finish(top)
    assert (block.changes, block.errors) == (1, 0)
    assert sink.data()[-1] == pytest.approx(sum(expected), abs=1e-5)


@pytest.mark.parametrize("taps", [pmt.intern("one"), pmt.to_pmt(["a"]), pmt.PMT_NIL, pmt.init_f64vector(0, [])])
def test_taps_that_are_none_change_nothing(top, taps):
    block, sink = sionna_channel("static", None), blocks.vector_sink_c()
    top.connect(blocks.vector_source_c([1.0] * 50_000), block, sink)
    post(block, "set", pmt.dict_add(pmt.make_dict(), pmt.intern("taps"), taps))
    top.start()
    finish(top)
    assert (block.changes, block.errors) == (0, 1)
    assert sink.data()[-1] == pytest.approx(1)


@pytest.mark.parametrize(
    "name",
    [b"caf\xe9", b"x" * 240, "é".encode() * 120, b"a\nb", b"\xff\xfe"],
    ids=["latin-1", "long", "long and not ASCII", "two lines", "no text"],
)
def test_any_file_name_comes_through(top, tmp_path, name):
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    file_name = os.fsdecode(name + b".png")
    save_png(images / "a.png", picture(1))
    (images / "a.png").rename(images / file_name)
    (images / "index.json").write_text(json.dumps([{"file": file_name, "label": "\ud800 odd"}]))
    source, sink = image_source(str(images)), image_sink(str(out))
    top.msg_connect((source, "images"), (sink, "sent"))
    top.msg_connect((source, "images"), (sink, "images"))
    top.msg_connect((sink, "feedback"), (source, "feedback"))
    top.start()
    finish(top)
    assert source.stats() == {"images": 1, "errors": 0}
    assert sink.stats() == {"images": 1, "lost": 0, "errors": 0, "dropped": 0}
    (row,) = json.loads((out / "metrics.json").read_text())["rows"]
    assert row["name"] == name.decode(errors="backslashreplace").replace("\\x", "\\udc")
    assert row["true_labels"] == ["\\ud800 odd"]
    (file,) = (out / "received").iterdir()
    assert np.array_equal(load_image(file), picture(1))
    assert (out / "gallery.png").is_file()


def test_a_broken_file_with_an_odd_name_is_named_in_the_log_and_a_skip_event_can_name_it(top, tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"no image")
    source, collector = image_source(str(tmp_path), in_flight=0), Collector()
    top.msg_connect((source, "images"), (collector, "in"))
    top.start()
    assert kinds(collector.wait_for(1)) == ["end"]
    assert "caf\\udce9.png" in source.messages[0]
    assert pdu.read_event(pdu.skip_event(1, "caf\udce9.png"))["reason"] == "caf\\udce9.png"
