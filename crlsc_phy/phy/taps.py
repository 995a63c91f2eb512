"""Taps: the receiver's internal signals, on disk, to find out why a burst did not decode.

    FOLDER/burst-000012/info.json     single values, the notes
    FOLDER/burst-000012/channel.npy   and so on, a file for each array

The receiver writes them with :class:`Taps`; ``crlsc-modem plot`` and :func:`read_taps` read them. The arrays:

============  ====================================  ==================================================
metric        complex64 [n]                         the correlator's metric around its peak
channel       complex64 [symbols or 1, occupied]    the channel estimate
phase         float64 [symbols]                     phase removed from each symbol [rad]
slope         float64 [symbols]                     phase slope removed from each symbol [rad/carrier]
symbols       complex64 [symbols, data_carriers]    equalised, from block A on
noise         float32 [symbols, data_carriers]      noise variance of each equalised symbol
llr           float32 [n]                           LLRs of the digital detail's coded bits
semantic_llr  float32 [n]                           LLRs of the air code's bits, decoded
analog        complex64 [n]                         symbols of the analog detail
============  ====================================  ==================================================

``noise`` may also be one value, or one per OFDM symbol: then it is the variance on a carrier before the equaliser.

The notes: ``numerology`` with its fields; ``start``, ``snr_db``, ``cfo_hz``, ``evm_db``, ``mcs``; ``header_ok``,
``semantic_ok``, ``segments``, ``segment_failures``, ``problem``; ``metric_start``, the stream's sample of the metric's
first value; ``metric_threshold``, which the metric's magnitude must exceed at its peak; ``quality``, the part of the
energy there that is preamble. A burst whose header failed has the entries from before the header.

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
    """Recorder of the bursts that a receiver processes.

    A folder holds one run: the bursts of an earlier run are removed. A failure never stops the receiver: a file that
    cannot be written is left out and counted. Recording a burst takes about as long as receiving it.

    Args:
        folder: Folder to write to; made if it does not exist.
        most: Bursts to record; later ones are only counted.

    Attributes:
        recorded: Bursts with a record.
        skipped: Bursts after the first ``most``.
        errors: Files that could not be written.
        first_error: Reason of the first such failure; empty if there was none.

    Raises:
        ModemError: If ``most`` is below 1, or the folder cannot be written to.
    """

    def __init__(self, folder: str | Path, most: int = 1000) -> None:
        if most < 1:
            raise ModemError(f"taps: most is {most}; it must be 1 or more")
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
        """Open the record of a burst that begins at sample ``start`` of the stream, and close the one before."""
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
        """Save an array, of any shape and any type but object, as ``NAME.npy`` of the open burst, if there is one."""
        if self._current is None:
            return
        target = self._current / f"{name}.npy"
        self._attempt(f"{target.parent.name}/{target.name}", lambda: write_array(target, values))

    def note(self, **values: Any) -> None:
        """Keep numbers, text, truth values or sequences of them for ``info.json`` of the open burst, if any."""
        if self._current is not None:
            # Converted at once: the caller may fill its arrays again.
            self._attempt(INFO, lambda: self._notes.update({name: _plain(value) for name, value in values.items()}))

    def end(self) -> None:
        """Close the record of the open burst, if there is one."""
        if self._current is None:
            return
        target, self._current = self._current / INFO, None
        text = json.dumps(self._notes, indent=2) + "\n"
        self._attempt(f"{target.parent.name}/{INFO}", lambda: write_text(target, text))

    def _attempt(self, name: str, work: Callable[[], object]) -> None:
        try:
            work()
        # Whatever is wrong with the values or the disk, the receiver goes on.
        except Exception as error:
            self.errors += 1
            self.first_error = self.first_error or f"{name}: {getattr(error, 'strerror', None) or error}"


@dataclass(frozen=True)
class BurstTaps:
    """Record of one burst.

    Attributes:
        number: Number of the burst in its run, from 0.
        folder: Folder of its files.
        notes: Content of ``info.json``; empty if the receiver ended before it was written.
        names: Names of the recorded arrays.
    """

    number: int
    folder: Path
    notes: dict[str, Any]
    names: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path, number: int) -> BurstTaps:
        """Read the notes of a burst and list its arrays.

        Args:
            folder: Folder of the burst.
            number: Number of the burst in its run.

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
            raise ModemError(f"{path}: is damaged (not a JSON object); record the taps again")
        return cls(number, folder, notes, tuple(sorted(file.stem for file in folder.glob("[!.]*.npy"))))

    def array(self, name: str) -> NDArray[Any] | None:
        """Map an array into memory read-only; return None if the burst has no array of that name.

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
            raise ModemError(f"{path}: does not hold one array; record the taps again")
        return loaded


def read_taps(folder: str | Path) -> list[BurstTaps]:
    """Read all records in a folder, in the order of the bursts.

    Raises:
        ModemError: If the folder is missing or holds no record, or the notes of a burst are damaged.
    """
    return [BurstTaps.load(path, number) for number, path in _recorded(folder)]


def read_burst(folder: str | Path, burst: int | None = None) -> BurstTaps:
    """Read the record of one burst, the last one if ``burst`` is None; other records may be damaged.

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
    """Remove the files of a burst's record, and its folder unless it holds other files."""
    for path in burst.iterdir():
        if path.suffix in (".npy", ".part") or path.name == INFO:
            path.unlink()
    with contextlib.suppress(OSError):
        burst.rmdir()


def _plain(value: Any) -> Any:
    """Return a copy of a value as JSON represents it: numbers that are not finite as None, other objects as text."""
    # Of arrays and scalars, of numpy or torch.
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
