"""Scalars and arrays of numpy and torch as Python numbers, for options, messages and JSON."""

from __future__ import annotations

from numbers import Complex, Integral, Real
from types import NoneType
from typing import Any

__all__ = ["as_json", "plain"]

_PLAIN = {bool, int, float, complex, str, NoneType}


def plain(value: Any) -> Any:
    """Return a scalar or an array of numpy or torch as Python numbers, and any other value as it is.

    Arrays and lists become tuples.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if type(value) in _PLAIN:
        return value
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    # Scalars of a precision that Python has no type for, and those of other libraries.
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return complex(value) if isinstance(value, Complex) else value


def as_json(value: Any) -> Any:
    """Return what stands in JSON for a value that it does not have, for ``json.dumps(..., default=as_json)``.

    Arrays become their numbers; anything else, such as a complex number or a date, becomes text.
    """
    made = plain(value)
    return str(value) if made is value or isinstance(made, complex) else made
