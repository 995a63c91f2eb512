"""GNU Radio's polymorphic types (PMTs) as bytes, without GNU Radio, as its ZMQ message blocks exchange them.

    None   null          int     int32, int64 or uint64, the first that holds it
    bool   true, false   float   double                   complex  two doubles
    str    symbol        list    vector                   tuple    tuple
    Pair   pair          dict    dict                     array    uniform vector

An empty dict is null on the wire and comes back as None. A PDU is ``Pair(dict, array)``. Decoding is bounded: a PMT may
nest ``DEEPEST`` levels and hold ``MOST_ITEMS`` items, and no memory is reserved on the word of a length field.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import ServiceError

__all__ = ["DEEPEST", "MOST_ITEMS", "Pair", "decode", "encode", "skip"]

DEEPEST = 32
MOST_ITEMS = 20_000

_TRUE, _FALSE, _SYMBOL, _INT32, _DOUBLE, _COMPLEX, _NULL, _PAIR, _VECTOR, _DICT, _UNIFORM, _UINT64, _TUPLE, _INT64 = (
    range(14)
)
# The subtype of a uniform vector is its place here; items are big-endian.
_ITEM_TYPES = tuple(map(np.dtype, ("u1", "i1", ">u2", ">i2", ">u4", ">i4", ">u8", ">i8", ">f4", ">f8", ">c8", ">c16")))
_SUBTYPES = {item.newbyteorder("="): subtype for subtype, item in enumerate(_ITEM_TYPES)}
_NUMBERS = {_INT32: ">i", _INT64: ">q", _UINT64: ">Q", _DOUBLE: ">d"}
_INTEGERS = ((_INT32, -(1 << 31), 1 << 31), (_INT64, -(1 << 63), 1 << 63), (_UINT64, 0, 1 << 64))


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair outside a dict."""

    car: Any
    cdr: Any


def encode(value: Any) -> bytes:
    """Return the bytes of a value of the types above as a PMT; arrays are flattened.

    Raises:
        ServiceError: If ``value`` has a part of another type or size, or nests too deep.
    """
    out: list[bytes] = []
    _write(value, out, DEEPEST)
    return b"".join(out)


def decode(data: bytes | memoryview) -> Any:
    """Return the value of a PMT; arrays in it are read-only and share the memory of ``data``.

    Raises:
        ServiceError: If ``data`` is cut short or too long, nests too deep, or has a type that is not above.
    """
    reader = _Reader(memoryview(data))
    value = reader.value(DEEPEST)
    if reader.left:
        raise ServiceError(f"PMT ends {reader.left} bytes before the message does")
    return value


def skip(data: bytes | memoryview) -> int:
    """Return the number of bytes of the PMT at the beginning of ``data``; other bytes may follow.

    Raises:
        ServiceError: If the PMT is cut short, nests too deep, or has an unknown type.
    """
    reader = _Reader(memoryview(data))
    reader.value(DEEPEST)
    return len(data) - reader.left


def _write(value: Any, out: list[bytes], levels: int) -> None:
    if levels == 0:
        raise ServiceError(f"value nests more than {DEEPEST} levels; a PMT may not")
    match value:
        case None:
            out.append(bytes([_NULL]))
        case bool() | np.bool_():
            out.append(bytes([_TRUE if value else _FALSE]))
        case str():
            text = value.encode("utf-8", "backslashreplace")
            if len(text) > 0xFFFF:
                raise ServiceError(f"text has {len(text)} bytes; a PMT symbol has up to 65535")
            out.append(struct.pack(">BH", _SYMBOL, len(text)) + text)
        case int() | np.integer():
            out.append(_integer(int(value)))
        case float() | np.floating():
            out.append(struct.pack(">Bd", _DOUBLE, value))
        case complex() | np.complexfloating():
            out.append(struct.pack(">Bdd", _COMPLEX, value.real, value.imag))
        case np.ndarray():
            out.append(_uniform(value))
        case Pair():
            out.append(bytes([_PAIR]))
            _write(value.car, out, levels - 1)
            _write(value.cdr, out, levels - 1)
        case list() | tuple():
            out.append(struct.pack(">BI", _VECTOR if isinstance(value, list) else _TUPLE, len(value)))
            for item in value:
                _write(item, out, levels - 1)
        case dict():
            # A list of pairs, the newest first, with a dict tag at each link.
            for key, item in reversed(value.items()):
                out.append(bytes([_DICT, _PAIR]))
                _write(key, out, levels - 1)
                _write(item, out, levels - 1)
            out.append(bytes([_NULL]))
        case _:
            raise ServiceError(f"a {type(value).__name__} has no PMT type")


def _integer(value: int) -> bytes:
    for tag, low, end in _INTEGERS:
        if low <= value < end:
            return struct.pack(">B", tag) + struct.pack(_NUMBERS[tag], value)
    raise ServiceError("a whole number of more than 64 bits has no PMT type")


def _uniform(array: npt.NDArray[Any]) -> bytes:
    subtype = _SUBTYPES.get(array.dtype.newbyteorder("="))
    if subtype is None:
        raise ServiceError(f"an array of {array.dtype} has no PMT type")
    # One byte of padding, as GNU Radio writes it.
    header = struct.pack(">BBIBB", _UNIFORM, subtype, array.size, 1, 0)
    return header + array.astype(_ITEM_TYPES[subtype], copy=False).tobytes()


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0
        self._items = MOST_ITEMS

    @property
    def left(self) -> int:
        """Number of bytes that have not been read."""
        return len(self._data) - self._at

    def value(self, levels: int) -> Any:
        """Read the next value, which may nest ``levels`` levels."""
        self._items -= 1
        if levels == 0 or self._items < 0:
            limit = f"nests more than {DEEPEST} levels" if levels == 0 else f"has more than {MOST_ITEMS} items"
            raise ServiceError(f"PMT {limit}")
        (tag,) = self._unpack(">B")
        match tag:
            case 6:  # _NULL
                return None
            case 0 | 1:  # _TRUE, _FALSE
                return tag == _TRUE
            case 2:  # _SYMBOL
                return self._symbol()
            case 3 | 4 | 11 | 13:  # _INT32, _DOUBLE, _UINT64, _INT64
                return self._unpack(_NUMBERS[tag])[0]
            case 5:  # _COMPLEX
                return complex(*self._unpack(">dd"))
            case 7:  # _PAIR
                return Pair(self.value(levels - 1), self.value(levels - 1))
            case 8 | 12:  # _VECTOR, _TUPLE
                return self._sequence(tag, levels - 1)
            case 9:  # _DICT
                return self._dict(levels - 1)
            case 10:  # _UNIFORM
                return self._uniform()
        raise ServiceError(f"PMT has the unknown type {tag}")

    def _unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(form, self._take(struct.calcsize(form)))

    def _take(self, count: int) -> memoryview:
        if count > self.left:
            raise ServiceError(f"PMT is cut short: {count} bytes should follow, {self.left} do")
        self._at += count
        return self._data[self._at - count : self._at]

    def _symbol(self) -> str:
        (length,) = self._unpack(">H")
        try:
            return str(self._take(length), "utf-8")
        except UnicodeDecodeError:
            raise ServiceError("PMT has a symbol that is not UTF-8") from None

    def _sequence(self, tag: int, levels: int) -> list[Any] | tuple[Any, ...]:
        (length,) = self._unpack(">I")
        if length > self.left:
            raise ServiceError(f"PMT is cut short: {length} items should follow, {self.left} bytes do")
        items = [self.value(levels) for _ in range(length)]
        return items if tag == _VECTOR else tuple(items)

    def _dict(self, levels: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        tag = _DICT
        while tag == _DICT:
            if self._unpack(">B") != (_PAIR,):
                raise ServiceError("PMT has a dict with an item that is not a pair")
            key = self.value(levels)
            if not isinstance(key, (str, int, float, type(None))):
                raise ServiceError(f"PMT has a dict with a key of type {type(key).__name__}")
            # Of two items with the same key the first counts, as in GNU Radio.
            found.setdefault(key, self.value(levels))
            (tag,) = self._unpack(">B")
        if tag != _NULL:
            raise ServiceError("PMT has a dict without an end")
        return dict(reversed(found.items()))

    def _uniform(self) -> npt.NDArray[Any]:
        subtype, length, padding = self._unpack(">BIB")
        if subtype >= len(_ITEM_TYPES):
            raise ServiceError(f"PMT has a uniform vector of the unknown type {subtype}")
        self._take(padding)
        item = _ITEM_TYPES[subtype]
        raw = np.frombuffer(self._take(length * item.itemsize), item)
        return raw.astype(item.newbyteorder("="), copy=False)
