import dataclasses
import shutil

import numpy as np
import pmt
import pytest
from gnuradio import blocks, gr
from gr_helpers import Collector, picture, post

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.frame import FrameHeader, SemanticFrame
from crlsc_phy.knowledge import Entry, KnowledgeBase
from crlsc_phy.phy import BurstModem
from gr_blocks import pdu
from gr_blocks.burst_receiver import burst_receiver
from gr_blocks.semantic_decoder import semantic_decoder
from gr_blocks.semantic_encoder import semantic_encoder


def run(top, block, target, messages, count):
    """What comes out of ``target`` when ``messages`` have been waiting at the block's input."""
    collector = Collector()
    top.msg_connect((block, target), (collector, "in"))
    source = {"frames": "images", "images": "frames"}[target]
    for message in messages:
        post(block, source, message)
    top.start()
    return collector.wait_for(count)


def test_encoder_makes_the_frame_of_the_codec(top, bundle_folder, codec):
    image = picture(1, 50, 70)
    encoder = semantic_encoder(str(bundle_folder))
    message, end = run(top, encoder, "frames", [pdu.image_to_pdu(image, 70_000), pdu.end_event()], 2)
    frame, meta = pdu.frame_from_pdu(message)
    assert frame == codec.encode(image, sequence=70_000 - 65_536)
    assert meta["sequence"] == 70_000 - 65_536
    assert pdu.read_event(end) == {"event": "end"}
    assert encoder.stats() == {"frames": 1, "errors": 0, "dropped": 0}


def test_encoder_takes_the_one_that_it_is_told(top, bundle_folder, codec):
    image, name = picture(1, 50, 70), list(codec.bundle.config.get("encoders", [""]))[-1]
    encoder = semantic_encoder(str(bundle_folder), encoder=name)
    (message,) = run(top, encoder, "frames", [pdu.image_to_pdu(image, 3)], 1)
    assert pdu.frame_from_pdu(message)[0] == SemanticCodec.load(bundle_folder, encoder=name).encode(image, sequence=3)


def test_decoder_makes_the_image_of_the_codec(top, bundle_folder, codec):
    frame = codec.encode(picture(2), sequence=3)
    decoder = semantic_decoder(str(bundle_folder), neighbours=2)
    (message,) = run(top, decoder, "images", [pdu.frame_to_pdu(frame, snr_db=9.5)], 1)
    image, meta = pdu.image_from_pdu(message)
    result = codec.decode(frame)
    assert np.array_equal(image, result.image)
    assert (meta["sequence"], meta["label"], meta["snr_db"]) == (3, result.label, 9.5)
    assert [near["name"] for near in meta["neighbours"]] == [near.name for near in result.neighbours[:2]]
    assert (meta["semantic_ok"], meta["detail_ok"]) == (True, True)


@pytest.mark.parametrize("lost", ["semantic", "detail"])
def test_decoder_makes_a_picture_of_what_arrived(top, bundle_folder, codec, lost):
    frame = dataclasses.replace(codec.encode(picture(2)), **{lost: None})
    (message,) = run(top, semantic_decoder(str(bundle_folder)), "images", [pdu.frame_to_pdu(frame)], 1)
    image, meta = pdu.image_from_pdu(message)
    assert np.array_equal(image, codec.decode(frame).image)
    assert [meta["semantic_ok"], meta["detail_ok"]] == [lost != "semantic", lost != "detail"]


def damaged(message):
    data = bytearray(pmt.u8vector_elements(pmt.cdr(message)))
    data[-9] ^= 1
    return pmt.cons(pmt.car(message), pmt.init_u8vector(len(data), list(data)))


def of_another_base(frame):
    return dataclasses.replace(frame, header=dataclasses.replace(frame.header, kb_id=b"else"))


def of_another_version(message):
    data = bytearray(pmt.u8vector_elements(pmt.cdr(message)))
    data[0] += 16
    return pmt.cons(pmt.car(message), pmt.init_u8vector(len(data), list(data)))


def test_decoder_makes_no_picture_of_a_wrong_frame_and_goes_on(top, bundle_folder, codec):
    frame = codec.encode(picture(2), sequence=4)
    good = pdu.frame_to_pdu(frame)
    wrong = [pdu.frame_to_pdu(of_another_base(frame)), damaged(good), of_another_version(good), pmt.intern("nonsense")]
    decoder = semantic_decoder(str(bundle_folder))
    *events, image = run(top, decoder, "images", [*wrong, good], 4)
    assert [pdu.read_event(event)["event"] for event in events] == ["skip"] * 3
    assert "knowledge base" in pdu.read_event(events[0])["reason"]
    assert pdu.image_from_pdu(image)[1]["sequence"] == 4
    assert decoder.stats() == {"images": 1, "repaired": 0, "errors": 4, "dropped": 0}
    assert [bool(line) for line in decoder.messages] == [True] * 4


def test_encoder_skips_what_the_codec_does_not_take_and_goes_on(top, bundle_folder):
    encoder = semantic_encoder(str(bundle_folder))
    images = [pdu.image_to_pdu(picture(1, 8, 8), 0), pdu.image_to_pdu(picture(1), 1)]
    skip, frame = run(top, encoder, "frames", images, 2)
    assert pdu.read_event(skip)["sequence"] == 0
    assert pdu.frame_from_pdu(frame)[1]["sequence"] == 1
    assert encoder.errors == 1


@pytest.mark.parametrize(
    ("block", "target", "message"),
    [
        (semantic_encoder, "frames", pdu.image_to_pdu(picture(1), 6)),
        (semantic_decoder, "images", pdu.frame_to_pdu(SemanticFrame(FrameHeader(b"kb-1", 32, 32, 0, 0, 0, 6), b""))),
    ],
)
def test_a_bundle_that_does_not_load_is_told_once_and_passes_nothing(top, tmp_path, block, target, message):
    instance = block(str(tmp_path / "nowhere"))
    for event in map(pdu.read_event, run(top, instance, target, [message] * 3, 3)):
        assert (event["event"], event["sequence"]) == ("skip", 6)
    assert instance.errors == 4
    assert len(instance.messages) == 2
    assert "nowhere" in instance.messages[0]


def test_queue_is_bounded_and_the_oldest_go(top, bundle_folder):
    encoder = semantic_encoder(str(bundle_folder), queue_size=2)
    messages = run(top, encoder, "frames", [pdu.image_to_pdu(picture(i), i) for i in range(10)], 10)
    assert [pdu.read_event(message)["sequence"] for message in messages[:8]] == list(range(8))
    assert [pdu.frame_from_pdu(message)[1]["sequence"] for message in messages[8:]] == [8, 9]
    assert encoder.stats() == {"frames": 2, "errors": 0, "dropped": 8}


def test_an_instance_is_cheap_until_the_flowgraph_starts():
    assert semantic_encoder()._codec is None
    assert semantic_decoder()._codec is None


def test_decoder_repairs_a_lost_air_code(top, bundle_folder, codec):
    frame = codec.encode(picture(2))
    code = np.array(codec.bundle.knowledge.codes[17])
    llrs = (2 * np.unpackbits(code).astype(np.float32) - 1) * 4
    llrs[::16] *= -0.5
    lost = dataclasses.replace(frame, semantic=None)
    decoder = semantic_decoder(str(bundle_folder))
    (message,) = run(top, decoder, "images", [pdu.frame_to_pdu(lost, semantic_llr=llrs)], 1)
    _, meta = pdu.image_from_pdu(message)
    result = codec.decode(lost, semantic_llr=llrs)
    assert result.repaired
    assert (meta["repaired"], meta["semantic_ok"], meta["label"]) == (True, False, result.label)
    assert "semantic_llr" not in meta
    assert decoder.stats()["repaired"] == 1


def test_receiver_and_decoder_restore_a_lost_air_code_with_a_private_base(top, bundle_folder, codec, tmp_path):
    """From samples: the soft bits cross between the blocks, and the private base knows the picture."""
    image, shared = picture(4, 64, 64), codec.bundle.knowledge
    KnowledgeBase.create(
        tmp_path / "pkb", shared.air_code, codec.embed(image)[None], [Entry("mine", "of my own")], tau=shared.tau
    )
    frame, modem, rng = codec.encode(image, levels=0), BurstModem(), np.random.default_rng(1)
    burst = np.pad(modem.modulate(frame), 400)
    noise = rng.standard_normal((20, 2 * len(burst))).view(complex) * np.sqrt(10**0.93 * 64 / 52 / 2)
    samples = np.concatenate((burst, (burst + noise).ravel())).astype(np.complex64)
    end = gr.tag_t()
    end.offset, end.key, end.value = len(samples) - 1, pmt.intern(pdu.EVENT_TAG), pdu.event_to_tag(pdu.end_event())
    source, receiver = blocks.vector_source_c(samples.tolist(), False, 1, [end]), burst_receiver()
    decoder, collector = semantic_decoder(str(bundle_folder), private=str(tmp_path / "pkb")), Collector()
    top.connect(source, receiver)
    top.msg_connect((receiver, "frames"), (decoder, "frames"))
    top.msg_connect((decoder, "images"), (collector, "in"))
    top.start()
    while pdu.read_event(collector.collected[-1] if collector.collected else pmt.PMT_NIL) != {"event": "end"}:
        collector.wait_for(len(collector.collected) + 1)
    top.wait()
    metas = [pdu.image_from_pdu(message)[1] for message in collector.collected[:-1]]
    lost = [meta for meta in metas if not meta["semantic_ok"]]
    restored = [meta for meta in lost if meta["repaired"]]
    assert len(lost) >= 6
    assert len(restored) >= 0.7 * len(lost)
    assert decoder.stats()["repaired"] == len(restored)
    assert all((m["neighbours"][0]["name"], m["neighbours"][0]["base"]) == ("mine", "pkb") for m in restored)


def test_a_private_base_that_does_not_fit_is_told_when_the_flowgraph_starts(top, bundle_folder, tmp_path):
    decoder = semantic_decoder(str(bundle_folder), private=str(tmp_path / "nowhere"))
    (message,) = run(
        top, decoder, "images", [pdu.frame_to_pdu(SemanticFrame(FrameHeader(b"kb-1", 32, 32, 0, 0), b""))], 1
    )
    assert pdu.read_event(message)["event"] == "skip"
    assert "nowhere" in decoder.messages[0]


def test_decoder_takes_up_new_entries_while_it_runs(top, bundle_folder, codec, tmp_path, monkeypatch):
    monkeypatch.setattr("gr_blocks.semantic_decoder.LOOK_EVERY_S", 0.0)
    copy = shutil.copytree(bundle_folder, tmp_path / "bundle")
    frame = codec.encode(picture(2))
    decoder = semantic_decoder(str(copy), neighbours=1)
    collector = Collector()
    top.msg_connect((decoder, "images"), (collector, "in"))
    post(decoder, "frames", pdu.frame_to_pdu(frame))
    top.start()
    collector.wait_for(1)
    knowledge = KnowledgeBase.open(copy / "skb")
    knowledge.add(
        knowledge.air_code.decode(np.frombuffer(frame.semantic, np.uint8)[None]), [Entry("new", "just added")]
    )
    post(decoder, "frames", pdu.frame_to_pdu(frame))
    before, after = (pdu.image_from_pdu(message)[1] for message in collector.wait_for(2))
    assert before["neighbours"][0]["name"] != "new"
    assert after["neighbours"][0]["name"] == "new"
    assert decoder.errors == 0
