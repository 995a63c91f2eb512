"""PMTs without GNU Radio, byte for byte against GNU Radio."""

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from crlsc_phy.errors import ServiceError
from crlsc_phy.net import pmt_wire
from crlsc_phy.net.pmt_wire import Pair

TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8", "c8", "c16")

scalars = (
    st.none()
    | st.booleans()
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.sampled_from(TYPES).flatmap(lambda item: arrays.arrays(item, st.integers(0, 9)))
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        # GNU Radio writes an empty tuple, but does not read it.
        | st.lists(inner, min_size=1, max_size=4).map(tuple)
        | st.dictionaries(st.text("abcé", max_size=5), inner, min_size=1, max_size=4)
        | st.builds(Pair, inner, st.integers(0, 5))
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def pmt():
    return pytest.importorskip("pmt", reason="GNU Radio is not importable here")


def gnuradio_of(pmt, value):
    """The PMT that GNU Radio makes of a value."""
    if isinstance(value, Pair):
        return pmt.cons(gnuradio_of(pmt, value.car), gnuradio_of(pmt, value.cdr))
    if isinstance(value, dict):
        made = pmt.make_dict()
        for key, item in value.items():
            made = pmt.dict_add(made, pmt.intern(key), gnuradio_of(pmt, item))
        return made
    if isinstance(value, list):
        made = pmt.make_vector(len(value), pmt.PMT_NIL)
        for index, item in enumerate(value):
            pmt.vector_set(made, index, gnuradio_of(pmt, item))
        return made
    if isinstance(value, tuple):
        return pmt.to_tuple(gnuradio_of(pmt, list(value)))
    if isinstance(value, np.ndarray) and value.dtype == np.int8:
        # to_pmt takes these for bytes without a sign.
        return pmt.init_s8vector(value.size, value.tolist())
    return pmt.to_pmt(value)


def same(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, Pair):
        return same(one.car, other.car) and same(one.cdr, other.cdr)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@given(values)
@settings(max_examples=300, deadline=None)
def test_bytes_are_those_of_gnuradio_and_come_back(pmt, value):
    theirs = pmt.serialize_str(gnuradio_of(pmt, value))
    assert pmt_wire.encode(value) == theirs
    assert same(pmt_wire.decode(theirs), value)


@given(values)
@settings(max_examples=100, deadline=None)
def test_gnuradio_reads_what_we_write(pmt, value):
    ours = pmt_wire.encode(value)
    assert pmt.serialize_str(pmt.deserialize_str(ours)) == ours


def test_unsigned_numbers_and_numpy_scalars(pmt):
    assert pmt_wire.encode((1 << 64) - 1) == pmt.serialize_str(pmt.from_uint64((1 << 64) - 1))
    assert pmt_wire.decode(pmt.serialize_str(pmt.from_uint64(7))) == 7
    assert pmt_wire.encode(np.float32(0.5)) == pmt_wire.encode(0.5)
    assert pmt_wire.encode(np.int64(5)) == pmt_wire.encode(5)
    assert pmt_wire.encode({}) == pmt.serialize_str(pmt.make_dict()) == pmt_wire.encode(None)


@given(st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_a_value_or_one_clear_error(data):
    try:
        pmt_wire.decode(data)
    except ServiceError as error:
        assert "PMT" in str(error)
        assert "\n" not in str(error)


@given(values)
@settings(max_examples=100, deadline=None)
def test_every_cut_is_noticed(value):
    whole = pmt_wire.encode(value)
    for end in range(len(whole)):
        with pytest.raises(ServiceError, match="cut short"):
            pmt_wire.decode(whole[:end])
    with pytest.raises(ServiceError, match="ends 1 bytes before"):
        pmt_wire.decode(whole + b"\6")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"\x07" * 10_000, "nests more than 32"),
        (b"\x07\x06" * 10_000 + b"\x06", "nests more than 32"),
        (b"\x08\0\0\0\1" * 10_000 + b"\x06", "nests more than 32"),
        (b"\x09\x07\x02\0\0" * 10_000 + b"\x06", "nests more than 32"),
        (b"\x08\xff\xff\xff\xff", "4294967295 items should follow"),
        (b"\x0a\x00\xff\xff\xff\xff\x01\x00", "4294967295 bytes should follow"),
        (b"\x0a\x0b\xff\xff\xff\xff\x01\x00", "68719476720 bytes should follow"),
        (struct.pack(">BI", 8, 4_000_000) + b"\x06" * 4_000_000, "more than 20000 items"),
        (b"\x09\x07\x02\0\0\x06" * 200_000 + b"\x06", "more than 20000 items"),
        (b"\x0e", "unknown type 14"),
        (b"\x0a\x0c\0\0\0\0\0", "uniform vector of the unknown type 12"),
        (b"\x02\0\1\xff", "not UTF-8"),
        (b"\x09\x06", "item that is not a pair"),
        (b"\x09\x07\x08\0\0\0\0\x06\x06", "key of type list"),
        (b"\x09\x07\x02\0\0\x06\x00", "without an end"),
        (b"", "cut short"),
    ],
)
def test_a_hostile_pmt_is_one_line_and_takes_no_memory(data, match):
    tracemalloc.start()
    with pytest.raises(ServiceError, match=match):
        pmt_wire.decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


def nested(levels):
    value = None
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (nested(40), "more than 32 levels"),
        (1 << 64, "more than 64 bits"),
        ("x" * 70_000, "70000 bytes"),
        (object(), "object has no PMT type"),
        (np.zeros(2, np.float16), "float16"),
    ],
)
def test_what_a_pmt_does_not_hold_is_refused(value, match):
    with pytest.raises(ServiceError, match=match):
        pmt_wire.encode(value)


def test_text_that_is_no_utf_8_is_escaped():
    assert pmt_wire.decode(pmt_wire.encode({"name": "caf\udce9"})) == {"name": "caf\\udce9"}


def test_a_large_array_is_not_copied():
    raw = pmt_wire.encode(np.arange(1 << 20, dtype=np.uint8))
    array = pmt_wire.decode(raw)
    assert np.shares_memory(array, np.frombuffer(raw, np.uint8))
