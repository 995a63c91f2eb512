"""Taps: what the receiver saw inside, on disk, for the question why a burst did not decode.

    FOLDER/burst-000012/info.json     what is known of the burst as single values
    FOLDER/burst-000012/channel.npy   and so on, an array a file

The receiver writes them with :class:`Taps`; ``crlsc-modem plot`` and :func:`read_taps` read them. The arrays:

============  ====================================  ==================================================
metric        complex64 [n]                         the correlator's metric around its peak
channel       complex64 [symbols or 1, occupied]    the channel estimate
phase         float64 [symbols]                     phase taken out of each symbol [rad]
slope         float64 [symbols]                     phase slope taken out of each symbol [rad/carrier]
symbols       complex64 [symbols, data_carriers]    equalised, from block A on
noise         float32 [symbols, data_carriers]      variance of the noise on each of them
llr           float32 [n]                           of the digital detail's coded bits
semantic_llr  float32 [n]                           of the air code's bits, decoded
analog        complex64 [n]                         the analog detail
============  ====================================  ==================================================

``noise`` may also be one value, or one a symbol: then it is that on a carrier before the equaliser.

The notes: ``numerology`` with its fields; ``start``, ``snr_db``, ``cfo_hz``, ``evm_db``, ``mcs``; ``header_ok``,
``semantic_ok``, ``segments``, ``segment_failures``, ``problem``; ``metric_start``, the stream's sample of the metric's
first value, ``metric_threshold``, what its magnitude has to pass at the peak, and ``quality``, the part of the energy
there that is preamble. A burst whose header failed has what came before it.

With QPSK 1/2 a burst of 64 x 64 pixels takes 100 kB, one of 1024 x 1024 takes 12 MB.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.errors import ModemError
from crlsc_phy.files import write_array, write_text

__all__ = ["BurstTaps", "Taps", "read_burst", "read_taps"]

INFO = "info.json"

_FOLDER = re.compile(r"burst-(\d{6,})")
_ROOM = 1 << 16


class Taps:
    """Records bursts as a receiver goes through them. A folder holds one run: what an earlier one left is removed.

    Nothing it does stops the receiver: after ``most`` bursts they are only counted, and what cannot be written is left
    out and counted. To record a burst takes about as long as to receive it.

    Args:
        folder: Where to write; made if it does not exist.
        most: Bursts to record.

    Attributes:
        recorded: Bursts that have a record.
        skipped: Bursts that came after ``most``.
        errors: Files that could not be written.
        first_error: Why the first of them could not; empty if all could.

    Raises:
        ModemError: If ``most`` is below 1, or nothing can be written to the folder.
    """

    def __init__(self, folder: str | Path, most: int = 1000) -> None:
        if most < 1:
            raise ModemError(f"taps: most is {most}; record at least 1 burst")
        self.folder = Path(folder)
        self.most = most
        self.recorded = self.skipped = self.errors = 0
        self.first_error = ""
        self._current: Path | None = None
        self._notes: dict[str, Any] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for _, burst in _bursts_in(self.folder):
                _remove(burst)
            probe = self.folder / ".probe.part"
            try:
                probe.write_bytes(bytes(_ROOM))
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise ModemError(f"{folder}: taps cannot be written ({error.strerror}); choose another folder") from None

    def begin(self, start: int) -> None:
        """Open the record of a burst, after closing the one before.

        Args:
            start: Sample of the stream at which it begins.
        """
        self.end()
        if self.recorded >= self.most:
            self.skipped += 1
            return
        burst = self.folder / f"burst-{self.recorded:06d}"
        self.recorded += 1
        self._attempt(burst.name, lambda: burst.mkdir(exist_ok=True))
        self._current = burst
        self._notes = {"start": int(start)}

    def write(self, name: str, values: NDArray[Any]) -> None:
        """Save an array of the burst that is open; without one nothing happens.

        Args:
            name: File name without its suffix.
            values: Of any shape and type but object.
        """
        if self._current is None:
            return
        target = self._current / f"{name}.npy"
        self._attempt(f"{target.parent.name}/{target.name}", lambda: write_array(target, values))

    def note(self, **values: Any) -> None:
        """Keep single values of the burst that is open, for ``info.json``: numbers, text, truth values, tuples."""
        if self._current is not None:
            self._notes.update(values)

    def end(self) -> None:
        """Close the record."""
        if self._current is None:
            return
        target, self._current = self._current / INFO, None
        text = json.dumps({name: _plain(value) for name, value in self._notes.items()}, indent=2) + "\n"
        self._attempt(f"{target.parent.name}/{INFO}", lambda: write_text(target, text))

    def _attempt(self, name: str, work: Callable[[], object]) -> None:
        try:
            work()
        except (OSError, ValueError) as error:
            self.errors += 1
            self.first_error = self.first_error or f"{name}: {getattr(error, 'strerror', None) or error}"


@dataclass(frozen=True)
class BurstTaps:
    """The record of one burst.

    Attributes:
        number: Count of the burst in its run, from 0.
        folder: Where its files are.
        notes: Content of ``info.json``; empty if the receiver ended before it could be written.
        names: Names of the arrays that are there.
    """

    number: int
    folder: Path
    notes: dict[str, Any]
    names: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path, number: int) -> BurstTaps:
        """Read the notes, and see which arrays there are.

        Raises:
            ModemError: If the notes are damaged or cannot be read.
        """
        path = folder / INFO
        try:
            notes = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            notes = {}
        except (OSError, ValueError) as error:
            raise ModemError(f"{path}: is damaged or cannot be read ({error}); record the taps again") from None
        if not isinstance(notes, dict):
            raise ModemError(f"{path}: is damaged (no notes in it); record the taps again")
        return cls(number, folder, notes, tuple(sorted(file.stem for file in folder.glob("[!.]*.npy"))))

    def array(self, name: str) -> NDArray[Any] | None:
        """An array, mapped into memory read-only; None if the burst has none of that name.

        Raises:
            ModemError: If its file is damaged.
        """
        path = self.folder / f"{name}.npy"
        try:
            try:
                loaded = np.load(path, mmap_mode="r", allow_pickle=False)
            except ValueError:
                # An empty array has no bytes to map.
                loaded = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            return None
        # A damaged .npy header is parsed as Python text, which raises what that raises.
        except (OSError, ValueError, EOFError, SyntaxError, TypeError) as error:
            reason = str(error).partition("\n")[0]
            raise ModemError(f"{path}: is damaged or cannot be read ({reason}); record the taps again") from None
        if not isinstance(loaded, np.ndarray):
            raise ModemError(f"{path}: is no array; record the taps again")
        return loaded


def read_taps(folder: str | Path) -> list[BurstTaps]:
    """The records in a folder that a receiver wrote taps to, in the order of the bursts.

    Raises:
        ModemError: If the folder is missing or holds no record, or the notes of a burst are damaged.
    """
    return [BurstTaps.load(path, number) for number, path in _recorded(folder)]


def read_burst(folder: str | Path, burst: int | None = None) -> BurstTaps:
    """The record of one burst; the last one if ``burst`` is None. The others may be damaged.

    Raises:
        ModemError: If there is no such record, or its notes are damaged.
    """
    recorded = _recorded(folder)
    numbers = [number for number, _ in recorded]
    if burst is not None and burst not in numbers:
        raise ModemError(f"{folder}: holds no burst {burst}; there are {len(numbers)}, {numbers[0]} to {numbers[-1]}")
    number, path = recorded[-1 if burst is None else numbers.index(burst)]
    return BurstTaps.load(path, number)


def _recorded(folder: str | Path) -> list[tuple[int, Path]]:
    if not Path(folder).is_dir():
        raise ModemError(f"{folder}: no such folder")
    bursts = _bursts_in(Path(folder))
    if not bursts:
        raise ModemError(f"{folder}: holds no taps of a burst; let a receiver write some")
    return bursts


def _bursts_in(folder: Path) -> list[tuple[int, Path]]:
    found = [(match, path) for path in folder.iterdir() if (match := _FOLDER.fullmatch(path.name)) and path.is_dir()]
    return sorted((int(match[1]), path) for match, path in found)


def _remove(burst: Path) -> None:
    """Remove a burst's own files; anything else in its folder stays, and the folder with it."""
    for path in burst.iterdir():
        if path.suffix in (".npy", ".part") or path.name == INFO:
            path.unlink()
    with contextlib.suppress(OSError):
        burst.rmdir()


def _plain(value: Any) -> Any:
    """A value as JSON has it: numpy's as Python's, what is not finite as None, anything else as text."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    elif isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
