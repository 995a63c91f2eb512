import dataclasses

import numpy as np
import pmt
import pytest
from gr_helpers import picture

from crlsc_phy.errors import FrameError, ImageError
from crlsc_phy.frame import FrameHeader, SemanticFrame
from gr_blocks import pdu

HEADER = FrameHeader(b"kb-1", 48, 64, semantic_bytes=16, detail_bytes=40, levels=2, sequence=65535)
WHOLE = SemanticFrame(HEADER, bytes(range(16)), bytes(range(100, 140)))
HOLES = dataclasses.replace(WHOLE, detail=bytes(10) + bytes(range(110, 135)) + bytes(5), erasures=((0, 10), (35, 40)))


@pytest.mark.parametrize("height", [1, 7, 300])
def test_image_survives(height):
    image = picture(1, height, 33)
    back, meta = pdu.image_from_pdu(pdu.image_to_pdu(image, 7, name="x", labels=["a"]))
    assert np.array_equal(back, image)
    assert meta == {"sequence": 7, "height": height, "width": 33, "name": "x", "labels": ["a"]}


@pytest.mark.parametrize(
    "frame",
    [
        WHOLE,
        HOLES,
        dataclasses.replace(WHOLE, semantic=None),
        dataclasses.replace(WHOLE, detail=None),
        dataclasses.replace(WHOLE, semantic=None, detail=None),
        SemanticFrame(FrameHeader(b"kb-1", 1, 1, 0, 0), b"", b""),
    ],
)
def test_frame_survives_with_its_losses(frame):
    back, meta = pdu.frame_from_pdu(pdu.frame_to_pdu(frame, snr_db=11.5))
    assert back == frame
    assert meta["snr_db"] == 11.5
    assert meta["semantic_ok"] is (frame.semantic is not None)
    assert meta["detail_ok"] is (frame.detail is not None and not frame.erasures)


def with_meta(message, **changes):
    meta = pmt.to_python(pmt.car(message)) | changes
    return pmt.cons(pmt.to_pmt(meta), pmt.cdr(message))


def with_byte_flipped(message, index):
    data = pmt.u8vector_elements(pmt.cdr(message))
    data[index] ^= 4
    return pmt.cons(pmt.car(message), pmt.init_u8vector(len(data), data))


GOOD_FRAME = pdu.frame_to_pdu(WHOLE)


@pytest.mark.parametrize(
    ("message", "match"),
    [
        (pmt.intern("hello"), "not a PDU"),
        (pmt.cons(pmt.make_dict(), pmt.init_f32vector(2, [1, 2])), "not a PDU"),
        (pmt.cons(pmt.intern("x"), pmt.cdr(GOOD_FRAME)), "no metadata"),
        (pmt.cons(pmt.cons(pmt.intern("x"), pmt.from_long(1)), pmt.cdr(GOOD_FRAME)), "no metadata"),
        (pmt.cons(pmt.to_pmt({"a": 1}), pmt.cdr(GOOD_FRAME)), "which layers arrived"),
        (with_meta(GOOD_FRAME, erasures=[3, 50]), "which layers arrived"),
        (with_meta(GOOD_FRAME, erasures=[3]), "which layers arrived"),
        (with_byte_flipped(GOOD_FRAME, 3), "header is damaged"),
        (with_byte_flipped(GOOD_FRAME, 20), "semantic layer is damaged"),
        (with_byte_flipped(GOOD_FRAME, 60), "detail layer is damaged"),
        (pmt.cons(pmt.car(GOOD_FRAME), pmt.init_u8vector(0, [])), "cut short"),
    ],
)
def test_bad_frame_message_is_refused(message, match):
    with pytest.raises(FrameError, match=match):
        pdu.frame_from_pdu(message)


@pytest.mark.parametrize(
    ("message", "match"),
    [
        (pmt.PMT_NIL, "not a PDU"),
        (with_meta(pdu.image_to_pdu(picture(1), 1), width=41), "metadata says"),
        (with_meta(pdu.image_to_pdu(picture(1), 1), height=-1), "metadata says"),
        (with_meta(pdu.image_to_pdu(picture(1), 1), sequence="one"), "whole number 'sequence'"),
    ],
)
def test_bad_image_message_is_refused(message, match):
    with pytest.raises(ImageError, match=match):
        pdu.image_from_pdu(message)


def test_events_cross_a_stream_as_tags():
    event = pdu.burst_event(9, samples=1000, air_bytes=80)
    back = pdu.read_event(pdu.event_from_tag(pdu.event_to_tag(event)))
    assert back == {"event": "burst", "sequence": 9, "samples": 1000, "air_bytes": 80}


@pytest.mark.parametrize("message", [pmt.PMT_NIL, pmt.intern("end"), GOOD_FRAME, pdu.image_to_pdu(picture(1), 1)])
def test_other_messages_are_no_events(message):
    assert pdu.read_event(message) is None
