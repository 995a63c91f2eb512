"""The block that uses a codec service, in real flowgraphs, with a real service."""

import dataclasses
import subprocess
import sys

import numpy as np
import pmt
import pytest
from gr_helpers import Collector, Flowgraph, finish, picture, post

zmq = pytest.importorskip("zmq", reason="the codec service needs pyzmq")

from gnuradio import zeromq

from crlsc_phy.errors import ServiceError
from crlsc_phy.net.codec.server import CodecServer
from gr_blocks import pdu
from gr_blocks.codec_client import codec_client
from gr_blocks.flowgraph import load_flowgraph

ANY = "tcp://127.0.0.1:*"


@pytest.fixture
def server(codec):
    with CodecServer(codec, ANY) as running:
        yield running


@pytest.fixture
def address(server):
    return server.address


@pytest.fixture
def free_address(codec):
    with CodecServer(codec, ANY) as server:
        return server.address


def collect(top, block, port):
    collector = Collector()
    top.msg_connect((block, port), (collector, "in"))
    return collector


def test_images_there_and_back(top, codec, address):
    encoder, decoder = codec_client("encode", address), codec_client("decode", address)
    frames, images = collect(top, encoder, "frames"), collect(top, decoder, "images")
    top.msg_connect((encoder, "frames"), (decoder, "frames"))
    for number in range(5):
        post(encoder, "images", pdu.image_to_pdu(picture(number), number))
    post(encoder, "images", pdu.end_event())
    top.start()
    *received, end = images.wait_for(6)
    assert pdu.read_event(end) == {"event": "end"}
    for number, (message, coded) in enumerate(zip(received, frames.collected, strict=False)):
        frame = codec.encode(picture(number), sequence=number)
        assert pdu.frame_from_pdu(coded)[0] == frame
        image, meta = pdu.image_from_pdu(message)
        result = codec.decode(frame)
        assert np.array_equal(image, result.image)
        assert (meta["sequence"], meta["label"], meta["repaired"]) == (number, result.label, False)
        assert [near["name"] for near in meta["neighbours"]] == [near.name for near in result.neighbours[:3]]
    for block in (encoder, decoder):
        assert block.stats() == {"answers": 5, "errors": 0, "dropped": 0}


def test_a_lost_air_code_is_repaired(top, codec, address):
    lost = dataclasses.replace(codec.encode(picture(2), sequence=3), semantic=None)
    llrs = (2 * np.unpackbits(np.array(codec.bundle.knowledge.codes[17])).astype(np.float32) - 1) * 4
    decoder = codec_client("decode", address)
    images = collect(top, decoder, "images")
    post(decoder, "frames", pdu.frame_to_pdu(lost, semantic_llr=llrs, snr_db=3.5))
    top.start()
    _, meta = pdu.image_from_pdu(images.wait_for(1)[0])
    assert (meta["repaired"], meta["snr_db"]) == (True, 3.5)
    assert meta["label"] == codec.decode(lost, semantic_llr=llrs).label
    assert "semantic_llr" not in meta


def test_what_the_service_refuses_is_an_error_and_a_skip(top, codec, address):
    decoder = codec_client("decode", address)
    images = collect(top, decoder, "images")
    frame = codec.encode(picture(1), sequence=8)
    other = dataclasses.replace(frame, header=dataclasses.replace(frame.header, kb_id=b"else"))
    wrong = [pdu.frame_to_pdu(other), pdu.image_to_pdu(picture(1), 8), pmt.intern("nonsense")]
    for message in [*wrong, pdu.frame_to_pdu(frame)]:
        post(decoder, "frames", message)
    top.start()
    one, two, image = images.wait_for(3)
    assert "knowledge base" in pdu.read_event(one)["reason"]
    assert "message is an image; decode takes a frame" in pdu.read_event(two)["reason"]
    assert pdu.image_from_pdu(image)[1]["sequence"] == 8
    assert decoder.stats() == {"answers": 1, "errors": 3, "dropped": 0}


def test_the_service_may_go_and_come_back(top, codec, free_address):
    encoder = codec_client("encode", free_address, timeout_s=0.3)
    frames = collect(top, encoder, "frames")
    top.start()
    for turn in range(3):
        post(encoder, "images", pdu.image_to_pdu(picture(1), 2 * turn))
        away = pdu.read_event(frames.wait_for(2 * turn + 1)[-1])
        assert (away["event"], away["sequence"]) == ("skip", 2 * turn)
        assert "crlsc-codec serve" in away["reason"]
        with CodecServer(codec, free_address):
            post(encoder, "images", pdu.image_to_pdu(picture(1), 2 * turn + 1))
            frame, _ = pdu.frame_from_pdu(frames.wait_for(2 * turn + 2)[-1])
            assert frame == codec.encode(picture(1), sequence=2 * turn + 1)
    assert encoder.stats() == {"answers": 3, "errors": 3, "dropped": 0}
    assert len(encoder.messages) == 1


def test_queue_is_bounded_and_the_oldest_go(top, address):
    encoder = codec_client("encode", address, queue_size=2)
    frames = collect(top, encoder, "frames")
    for number in range(10):
        post(encoder, "images", pdu.image_to_pdu(picture(1), number))
    top.start()
    messages = frames.wait_for(10)
    assert [pdu.read_event(message)["sequence"] for message in messages[:8]] == list(range(8))
    assert [pdu.frame_from_pdu(message)[1]["sequence"] for message in messages[8:]] == [8, 9]
    assert encoder.stats() == {"answers": 2, "errors": 0, "dropped": 8}


def test_a_wrong_operation_is_refused_and_a_wrong_address_told(top):
    with pytest.raises(ServiceError, match="choose encode or decode"):
        codec_client("transcode")
    encoder = codec_client("encode", "nonsense")
    frames = collect(top, encoder, "frames")
    post(encoder, "images", pdu.image_to_pdu(picture(1), 4))
    top.start()
    assert pdu.read_event(frames.wait_for(1)[0])["sequence"] == 4
    assert "not an address to connect to" in encoder.messages[0]


def test_a_flowgraph_stops_while_the_service_is_away(free_address):
    top = Flowgraph()
    encoder = codec_client("encode", free_address, timeout_s=0.5)
    collect(top, encoder, "frames")
    post(encoder, "images", pdu.image_to_pdu(picture(1), 0))
    top.start()
    top.stop()
    finish(top, 5)


def test_gnuradio_s_own_zmq_blocks_use_the_service(codec):
    """Without any of our blocks: push to the service, pull from it."""
    with CodecServer(codec, ANY, pull=ANY, push=ANY) as server:
        top = Flowgraph()
        push = zeromq.push_msg_sink(server.addresses["pull"], 100, False)
        pull = zeromq.pull_msg_source(server.addresses["push"], 100, False)
        collector = Collector()
        top.msg_connect((pull, "out"), (collector, "in"))
        top.kept.append(push)
        source = codec_client("encode", server.address)
        top.msg_connect((source, "frames"), (push, "in"))
        for number in range(5):
            post(source, "images", pdu.image_to_pdu(picture(number), number))
        post(source, "images", pdu.end_event())
        top.start()
        messages = collector.wait_for(6, 20)
        top.stop()
        finish(top)
    events = [pdu.read_event(message) for message in messages]
    assert events.count({"event": "end"}) == 1
    received = {meta["sequence"]: image for image, meta in map(pdu.image_from_pdu, filter(is_image, messages))}
    assert sorted(received) == list(range(5))
    for number, image in received.items():
        assert np.array_equal(image, codec.decode(codec.encode(picture(number))).image)


def is_image(message):
    return pdu.read_event(message) is None


def test_nothing_heavy_is_loaded():
    program = "import sys; from gr_blocks.codec_client import codec_client; codec_client().start(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "faiss", "onnxruntime", "aiohttp"} & set(loaded)


@pytest.mark.parametrize(("operation", "ports"), [("encode", ("images", "frames")), ("decode", ("frames", "images"))])
def test_the_companion_connects_it(tmp_path, operation, ports):
    grc = tmp_path / "uses_it.grc"
    grc.write_text(GRC.format(operation=operation, taken=ports[0], given=ports[1]))
    load_flowgraph(grc, tmp_path / "build")
    text = (tmp_path / "build/uses_it.py").read_text()
    assert f"self.msg_connect((self.crlsc_codec_client_0, '{ports[1]}')" in text
    assert f"(self.crlsc_codec_client_0, '{ports[0]}'))" in text


GRC = """
options:
  parameters: {{id: uses_it, generate_options: no_gui, output_language: python}}
  states: {{coordinate: [0, 0], state: enabled}}
blocks:
- name: crlsc_codec_client_0
  id: crlsc_codec_client
  parameters: {{operation: {operation}}}
  states: {{coordinate: [0, 0], state: enabled}}
- name: blocks_message_debug_0
  id: blocks_message_debug
  parameters: {{}}
  states: {{coordinate: [0, 0], state: enabled}}
- name: zeromq_sub_msg_source_0
  id: zeromq_sub_msg_source
  parameters: {{address: 'tcp://127.0.0.1:9'}}
  states: {{coordinate: [0, 0], state: enabled}}
connections:
- [zeromq_sub_msg_source_0, out, crlsc_codec_client_0, {taken}]
- [crlsc_codec_client_0, {given}, blocks_message_debug_0, print]
metadata: {{file_format: 1}}
"""
