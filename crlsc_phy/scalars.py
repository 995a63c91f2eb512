"""Single values as NumPy users have them."""

from __future__ import annotations

from typing import Any

__all__ = ["scalar"]


def scalar(value: Any) -> Any:
    """Return a numpy scalar, or an array or tensor without dimensions, as a Python value; anything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 else value
