"""Files of channel impulse responses: what the recorder writes, the model ``replay`` reads, and ray tracers can bring.

An ``.npz`` (numpy) or ``.h5`` (HDF5) file with

    gains       complex [T, rx, tx, P]: of each path at times ``time_step`` apart
    delays      float [P], in seconds
    time_step   float, in seconds

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


@dataclass(frozen=True)
class Cir:
    """Channel impulse responses over time.

    Attributes:
        gains: complex128 [T, rx, tx, P].
        delays: float64 [P], in seconds.
        time_step: In seconds.

    Raises:
        ChannelError: If they do not fit together, or hold NaN or infinite values.
    """

    gains: NDArray[np.complex128]
    delays: NDArray[np.float64]
    time_step: float

    def __post_init__(self) -> None:
        if self.gains.ndim != 4 or self.delays.shape != self.gains.shape[3:] or not self.gains.size:
            raise ChannelError(
                f"CIR has gains {list(self.gains.shape)} and delays {list(self.delays.shape)}; "
                "they must be [T, rx, tx, P] and [P]"
            )
        if not (np.isfinite(self.gains).all() and np.isfinite(self.delays).all()):
            raise ChannelError("CIR holds NaN or infinite values")
        if self.delays.min() < 0 or not (np.isfinite(self.time_step) and self.time_step > 0):
            raise ChannelError("CIR needs delays of 0 and more and a time step above 0")

    @classmethod
    def load(cls, path: str | Path) -> Cir:
        """Read a file.

        Raises:
            ChannelError: If it cannot be read, lacks a field, or its values are no CIR.
        """
        file = Path(path)
        try:
            arrays = _read_h5(file) if file.suffix in (".h5", ".hdf5") else _read_npz(file)
            gains, delays = np.asarray(arrays["gains"]), np.asarray(arrays["delays"])
            return cls(gains.astype(np.complex128), delays.astype(np.float64), float(arrays["time_step"]))
        except KeyError as error:
            raise ChannelError(f"{path}: has no {error}; a CIR file needs {', '.join(_FIELDS)}") from None
        except (OSError, ValueError, TypeError, MemoryError, BadZipFile, EOFError) as error:
            raise ChannelError(f"{path}: no CIR file ({error})") from None
        except ChannelError as error:
            raise ChannelError(f"{path}: {error}") from None

    def save(self, path: str | Path) -> None:
        """Write a file, ``.npz`` or ``.h5``; it is in place when all of it is written.

        Raises:
            ChannelError: If it cannot be written.
        """
        file = Path(path)
        try:
            with placed(file) as aside:
                if file.suffix in (".h5", ".hdf5"):
                    _write_h5(aside, self)
                else:
                    with aside.open("wb") as stream:
                        np.savez(stream, gains=self.gains, delays=self.delays, time_step=self.time_step)
        except OSError as error:
            raise ChannelError(f"{path}: cannot be written ({error.strerror or error})") from None


def _read_npz(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in _FIELDS}


def _read_h5(path: Path) -> dict[str, Any]:
    with _h5py().File(path, "r") as file:
        return {name: file[name][()] for name in _FIELDS}


def _write_h5(path: Path, cir: Cir) -> None:
    with _h5py().File(path, "w") as file:
        for name in _FIELDS:
            file[name] = getattr(cir, name)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise ChannelError("HDF5 files need h5py; pip install h5py, or give an .npz") from None
    return h5py
