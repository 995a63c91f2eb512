"""The semantic frame: bit-exact round trip, and a clear error for everything that is not a frame."""

import binascii
import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crlsc_phy.errors import FrameError
from crlsc_phy.frame import FRAME_VERSION, SYMBOL, FrameHeader, Mode, SemanticFrame, crc16


@st.composite
def frames(draw):
    semantic = draw(st.binary(max_size=63))
    mode = draw(st.sampled_from(Mode))
    unit = SYMBOL.itemsize if mode is Mode.ANALOG else 1
    count = unit * draw(st.integers(0, 300 // unit))
    detail = draw(st.binary(min_size=count, max_size=count))
    header = FrameHeader(
        kb_id=draw(st.binary(min_size=4, max_size=4)),
        height=draw(st.integers(1, 4096)),
        width=draw(st.integers(1, 4096)),
        semantic_bytes=len(semantic),
        detail_bytes=len(detail),
        levels=draw(st.integers(0, 255)),
        sequence=draw(st.integers(0, 65535)),
        mode=mode,
    )
    return SemanticFrame(header, semantic, detail)


@pytest.fixture
def frame() -> SemanticFrame:
    return SemanticFrame(FrameHeader(b"\1\2\3\4", 64, 48, 16, 100, levels=4, sequence=7), bytes(range(16)), b"d" * 100)


@given(frames())
def test_round_trip_is_bit_exact(frame):
    data = frame.to_bytes()
    assert SemanticFrame.from_bytes(data) == frame
    assert SemanticFrame.from_bytes(data).to_bytes() == data


@given(frames(), st.data())
def test_no_flipped_bit_goes_unnoticed(frame, data):
    raw = bytearray(frame.to_bytes())
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FrameError):
        SemanticFrame.from_bytes(bytes(raw))


@given(frames(), st.data())
def test_a_frame_cut_short_is_refused(frame, data):
    raw = frame.to_bytes()
    with pytest.raises(FrameError, match="cut short|header says"):
        SemanticFrame.from_bytes(raw[: data.draw(st.integers(0, len(raw) - 1))])


@given(st.binary(max_size=200))
def test_noise_is_not_a_frame(data):
    with pytest.raises(FrameError):
        SemanticFrame.from_bytes(data)


def test_header_is_compact(frame):
    assert FrameHeader.SIZE == len(frame.header.to_bytes()) == 20


def test_bytes_behind_the_frame_are_refused(frame):
    with pytest.raises(FrameError, match="header says"):
        SemanticFrame.from_bytes(frame.to_bytes() + b"\0")


def test_a_newer_version_is_named(frame, monkeypatch):
    monkeypatch.setattr("crlsc_phy.frame.FRAME_VERSION", FRAME_VERSION + 1)
    newer = frame.to_bytes()
    monkeypatch.undo()
    with pytest.raises(
        FrameError, match="frame has version 3, which this version of crlsc-phy does not read; update crlsc-phy"
    ):
        SemanticFrame.from_bytes(newer)


def test_a_frame_of_version_1_is_refused_by_name():
    """As version 1 wrote it: one byte of version and mode, 14 more, and a CRC-16."""
    body = bytes([1 << 4 | Mode.SEMANTIC, 16]) + bytes(13)
    old = body + binascii.crc_hqx(body, 0xFFFF).to_bytes(2, "big") + bytes(16 + 2 + 4)
    with pytest.raises(FrameError, match=r"frame has version 1; .* encode the image again"):
        SemanticFrame.from_bytes(old)


def test_fields_stand_where_the_guide_says(frame):
    header = dataclasses.replace(frame.header, semantic_bytes=63, detail_bytes=(1 << 21) - 1, height=4096, width=1)
    assert header.to_bytes()[:18].hex(" ") == "24 00 07 01 02 03 04 ff f0 00 04 00 00 fc 00 1f ff ff"
    analog = dataclasses.replace(header, mode=Mode.ANALOG, detail_bytes=8 * ((1 << 21) - 1))
    assert analog.to_bytes()[:18].hex(" ") == "28 00 07 01 02 03 04 ff f0 00 04 00 00 fc 00 1f ff ff"
    assert FrameHeader.from_bytes(analog.to_bytes()) == analog


def test_numpy_scalars_and_buffers_are_taken(frame):
    sizes = {"height": np.int16(64), "semantic_bytes": np.uint8(16), "detail_bytes": np.int8(100), "levels": np.int8(4)}
    header = dataclasses.replace(frame.header, **sizes)
    assert header == frame.header
    buffer = np.frombuffer(frame.semantic, np.uint8).copy()
    taken = SemanticFrame(header, buffer, memoryview(frame.detail))
    buffer[:] = 0
    assert taken == frame
    assert SemanticFrame.from_bytes(taken.to_bytes()) == frame


@pytest.mark.parametrize(
    ("bit", "what"),
    [
        (7, "a meaning at another rate"),
        (95, "the detail of another coder"),
        (112, "a preview layer"),
        (118, "side information"),
        (5, "a hybrid detail layer (mode 3)"),
    ],
)
def test_what_later_versions_send_is_refused_by_name(frame, bit, what):
    """Bits of the header's fields for later versions, counted from the most significant of all."""
    mode = {"mode": Mode.ANALOG, "detail_bytes": 0} if "mode 3" in what else {}
    body = int.from_bytes(dataclasses.replace(frame.header, **mode).to_bytes()[:18], "big") | 1 << 143 - bit
    raw = body.to_bytes(18, "big")
    line = f"frame has {what}, which this version of crlsc-phy does not read; update crlsc-phy"
    with pytest.raises(FrameError, match=f"^{re.escape(line)}$"):
        FrameHeader.from_bytes(raw + crc16(raw))


@given(frames(), st.data())
def test_layers_of_another_frame_are_refused(frame, data):
    """The same lengths, another image or another number: each layer's CRC is bound to its header."""
    change = data.draw(st.sampled_from([{"sequence": frame.header.sequence ^ 1}, {"levels": frame.header.levels ^ 8}]))
    other = SemanticFrame(dataclasses.replace(frame.header, **change), frame.semantic, frame.detail).to_bytes()
    size, meaning = FrameHeader.SIZE, FrameHeader.SIZE + len(frame.semantic) + 2
    raw = frame.to_bytes()
    with pytest.raises(FrameError, match="semantic layer is damaged"):
        SemanticFrame.from_bytes(other[:size] + raw[size:])
    with pytest.raises(FrameError, match="detail layer is damaged"):
        SemanticFrame.from_bytes(other[:meaning] + raw[meaning:])


@pytest.mark.parametrize(
    ("semantic", "detail", "erasures"),
    [(None, b"d" * 100, ()), (b"s" * 16, None, ()), (b"s" * 16, b"d" * 100, ((0, 5),))],
)
def test_a_damaged_frame_has_no_byte_form(frame, semantic, detail, erasures):
    damaged = SemanticFrame(frame.header, semantic, detail, erasures)
    assert not damaged.complete
    with pytest.raises(FrameError, match="only a complete frame"):
        damaged.to_bytes()


@pytest.mark.parametrize(
    "wrong",
    [
        {"height": 0},
        {"width": 4097},
        {"sequence": 65536},
        {"kb_id": b"123"},
        {"semantic_bytes": 64},
        {"detail_bytes": 1 << 21},
        {"height": 1.5},
        {"detail_bytes": 8 << 21, "mode": Mode.ANALOG},
    ],
)
def test_a_header_out_of_range_is_refused(wrong):
    fields = {"kb_id": b"1234", "height": 8, "width": 8, "semantic_bytes": 0, "detail_bytes": 0} | wrong
    with pytest.raises(FrameError, match=next(iter(wrong))):
        FrameHeader(**fields)


def test_layers_must_be_as_long_as_the_header_says(frame):
    with pytest.raises(FrameError, match="semantic layer has 3 bytes"):
        SemanticFrame(frame.header, b"abc", frame.detail)


def test_analog_detail_is_complex_symbols():
    symbols = np.array([1 + 2j, -0.5j, 3], np.complex64)
    header = FrameHeader(b"\1\2\3\4", 64, 48, 16, 24, mode=Mode.ANALOG)
    frame = SemanticFrame.from_bytes(SemanticFrame(header, bytes(16), symbols.astype(SYMBOL).tobytes()).to_bytes())
    assert np.array_equal(frame.symbols, symbols)
    with pytest.raises(FrameError, match="8 bytes each"):
        dataclasses.replace(header, detail_bytes=23)
    with pytest.raises(FrameError, match="no analog detail"):
        _ = SemanticFrame(dataclasses.replace(header, mode=Mode.DIGITAL), bytes(16), bytes(24)).symbols
