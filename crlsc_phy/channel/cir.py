"""Files of channel impulse responses, for the recorder, the model ``replay`` and ray tracers.

An ``.npz`` (numpy) or ``.h5`` (HDF5) file with

    gains       complex [T, rx, tx, P]: of each path at times ``time_step`` apart
    delays      float [P], in seconds
    time_step   float, in seconds
    steps       bool, may be missing: whether the gains stand still between times and then jump, as block fading does,
                instead of moving along straight lines
    version     int, may be missing: 2 if ``steps`` is true, else 1

Sionna RT's ``a, tau = paths.cir(sampling_frequency=1e3, num_time_steps=100, normalize_delays=True, out_type="numpy")``
for one receiver and one transmitter goes into it as ``gains=a[0, :, 0].transpose(3, 0, 1, 2)``,
``delays=tau[0, 0]`` with a synthetic array, and ``time_step=1e-3``. The path loss is in these gains; docs/channel.md
scales it away.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.errors import ChannelError
from crlsc_phy.files import placed

__all__ = ["Cir"]

_FIELDS = ("gains", "delays", "time_step")
_HDF5 = (".h5", ".hdf5")
_OPTIONAL = {"steps": False, "version": 1}
_NEWEST = 2
_LARGEST = 1e15
"""Magnitude of a gain with which a signal is finite in single precision."""


@dataclass(frozen=True)
class Cir:
    """Channel impulse responses over time.

    Attributes:
        gains: Gains of the paths, complex128 [T, rx, tx, P].
        delays: Delays of the paths in seconds, float64 [P].
        time_step: Seconds from one time to the next.
        steps: Whether the gains stand still between times and then jump, instead of moving along straight lines.

    Raises:
        ChannelError: If the arrays do not fit together, or a value is not finite or out of range.
    """

    gains: NDArray[np.complex128]
    delays: NDArray[np.float64]
    time_step: float
    steps: bool = False

    def __post_init__(self) -> None:
        if self.gains.ndim != 4 or self.delays.shape != self.gains.shape[3:] or not self.gains.size:
            raise ChannelError(
                f"CIR has gains {list(self.gains.shape)} and delays {list(self.delays.shape)}; "
                "they must be [T, rx, tx, P] and [P]"
            )
        if not (np.isfinite(self.gains).all() and np.isfinite(self.delays).all()):
            raise ChannelError("CIR holds NaN or infinite values")
        if np.abs(self.gains).max() > _LARGEST:
            raise ChannelError(f"CIR holds gains above {_LARGEST:g}")
        if self.delays.min() < 0 or not (np.isfinite(self.time_step) and self.time_step > 0):
            raise ChannelError("CIR needs delays of 0 and more and a time step above 0")

    @classmethod
    def load(cls, path: str | Path) -> Cir:
        """Read a file.

        Raises:
            ChannelError: If the file cannot be read, lacks a field, or is of a newer version.
        """
        file = Path(path)
        try:
            arrays = _OPTIONAL | _read(file)
            if int(arrays["version"]) > _NEWEST:
                raise ChannelError(f"CIR has version {arrays['version']}, newer than {_NEWEST}; update crlsc-phy")
            gains, delays = np.asarray(arrays["gains"]), np.asarray(arrays["delays"])
            time_step, steps = float(arrays["time_step"]), bool(arrays["steps"])
            return cls(gains.astype(np.complex128), delays.astype(np.float64), time_step, steps)
        except KeyError as error:
            raise ChannelError(f"{path}: has no {error}; a CIR file needs {', '.join(_FIELDS)}") from None
        except (OSError, ValueError, TypeError, MemoryError, BadZipFile, EOFError) as error:
            raise ChannelError(f"{path}: not a CIR file ({error})") from None
        except ChannelError as error:
            raise ChannelError(f"{path}: {error}") from None

    def save(self, path: str | Path) -> None:
        """Write a file, ``.npz`` or ``.h5``; it is in place when all of it is written.

        Raises:
            ChannelError: If it cannot be written.
        """
        file = Path(path)
        arrays = {name: getattr(self, name) for name in _FIELDS}
        if self.steps:
            # Version 1, which earlier releases read, has straight lines alone.
            arrays |= {"steps": True, "version": 2}
        try:
            with placed(file) as aside:
                if file.suffix in _HDF5:
                    with _h5py().File(aside, "w") as store:
                        for name, array in arrays.items():
                            store[name] = array
                else:
                    with aside.open("wb") as stream:
                        np.savez(stream, **arrays)
        except OSError as error:
            raise ChannelError(f"{path}: cannot be written ({error.strerror or error})") from None


def _read(path: Path) -> dict[str, Any]:
    opened = _h5py().File(path, "r") if path.suffix in _HDF5 else np.load(path, allow_pickle=False)
    with opened as arrays:
        return {name: arrays[name][()] for name in (*_FIELDS, *_OPTIONAL) if name in arrays or name in _FIELDS}


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise ChannelError("HDF5 files need h5py; pip install h5py, or give an .npz") from None
    return h5py
