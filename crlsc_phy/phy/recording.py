"""Recordings: files of complex samples, raw or ``.npy``.

A raw file holds complex64 in little-endian byte order, I and Q in turn, as GNU Radio's file sink writes it; a file with
the suffix ``.npy`` holds a numpy array of the same samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crlsc_phy.errors import ModemError
from crlsc_phy.files import placed

__all__ = ["CHUNK", "RecordingWriter", "chunks", "open_recording"]

CHUNK = 1 << 20
"""Samples that are read or written at a time: 8 MiB."""

_SAMPLE = np.dtype("<c8")


class RecordingWriter:
    """Context that writes a recording piece by piece; the file is in place when the context ends without an error.

    Args:
        path: File to write; ``.npy`` makes it a numpy array.

    Attributes:
        count: Samples written.

    Raises:
        ModemError: If the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise ModemError(f"{path}: is a folder; give a file")
        self.count = 0
        self._path = path
        self._file: BinaryIO
        self._open = ExitStack()

    def __enter__(self) -> RecordingWriter:
        with self._reported(), ExitStack() as stack:
            self._file = stack.enter_context(stack.enter_context(placed(self._path)).open("wb"))
            if self._path.suffix == ".npy":
                self._write_header()
                # Again at the end, when the count is known.
                stack.callback(self._write_header)
            self._open = stack.pop_all()
        return self

    def write(self, samples: ArrayLike) -> None:
        """Append samples, complex [n]."""
        values = np.asarray(samples, _SAMPLE)
        with self._reported():
            self._file.write(values.tobytes())
        self.count += len(values)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._reported():
            self._open.__exit__(kind, error, trace)

    def _write_header(self) -> None:
        """Write the header of a ``.npy``; its size does not depend on the count."""
        self._file.seek(0)
        layout: Any = np.lib.format
        header = {"descr": _SAMPLE.str, "fortran_order": False, "shape": (self.count,)}
        layout.write_array_header_1_0(self._file, header)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ModemError(f"{self._path}: cannot be written ({error.strerror}); choose another file") from None


def open_recording(path: Path) -> NDArray[Any]:
    """Map the samples of a recording into memory.

    Returns:
        Complex [n], of any complex type if the file is a ``.npy``.

    Raises:
        ModemError: If there is no such file, or it does not hold complex samples.
    """
    try:
        if path.suffix == ".npy":
            loaded: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
            if loaded.ndim != 1 or not np.issubdtype(loaded.dtype, np.complexfloating):
                raise ModemError(f"{path}: holds {loaded.dtype} {list(loaded.shape)}; samples must be complex64 [n]")
            return loaded
        size = path.stat().st_size
        if size % _SAMPLE.itemsize:
            raise ModemError(
                f"{path}: its {size} bytes are not a multiple of 8, the bytes of a complex64 sample; "
                "check the file's format"
            )
        return np.memmap(path, _SAMPLE, "r") if size else np.empty(0, _SAMPLE)
    except FileNotFoundError:
        raise ModemError(f"{path}: no such file") from None
    except OSError as error:
        raise ModemError(f"{path}: cannot be read ({error.strerror or error})") from None
    # The header of a .npy is parsed as Python text, which raises what that raises.
    except (ValueError, EOFError, SyntaxError, TypeError):
        raise ModemError(f"{path}: is damaged, or is not a .npy file of complex samples") from None


def chunks(samples: NDArray[Any]) -> Iterator[NDArray[np.complex64]]:
    """Yield the samples of a recording in turn, complex64, at most ``CHUNK`` at a time."""
    for start in range(0, len(samples), CHUNK):
        part: NDArray[Any] = samples[start : start + CHUNK]
        if isinstance(samples, np.memmap):
            # A map of the whole file would keep all that was read in memory until the end.
            offset = samples.offset + start * samples.itemsize
            part = np.memmap(str(samples.filename), samples.dtype, "r", offset, part.shape)
        yield np.array(part, np.complex64)
