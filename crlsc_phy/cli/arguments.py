"""Types of command-line options, and folders for results."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from crlsc_phy.errors import CrlscError

__all__ = ["count", "decibels", "finite", "make_folder", "not_negative", "positive"]


def finite(text: str) -> float:
    """Parse a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return value


def positive(text: str) -> float:
    """Parse a finite number above zero."""
    value = finite(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def not_negative(text: str) -> float:
    """Parse a finite number from zero on."""
    value = finite(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def count(text: str) -> int:
    """Parse a whole number from zero on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def decibels(text: str) -> float:
    """Parse a ratio in dB that single precision can represent."""
    value = finite(text)
    if abs(value) > 300:
        raise argparse.ArgumentTypeError(f"{text} dB is not within -300 to 300 dB")
    return value


def make_folder(folder: Path) -> None:
    """Make the folder of the results, if it does not exist.

    Raises:
        CrlscError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CrlscError(f"{folder}: cannot be made ({error.strerror}); choose another folder with --out") from None
