"""Parameters of the waveform: sample rate, OFDM carriers, pilots and guard."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

from crlsc_phy.errors import ModemError
from crlsc_phy.scalars import plain

__all__ = ["PRESETS", "Numerology"]

SYNC_PERIOD = 16
"""Period of the synchronisation part of the preamble in samples, for every FFT size. It determines the CFO range."""

SYNC_LINES = 6
"""Spectral lines on either side of the carrier that the synchronisation part uses, 1 / SYNC_PERIOD apart."""


@dataclass(frozen=True)
class Numerology:
    """OFDM parameters that sender and receiver share.

    Attributes:
        sample_rate: Complex samples/s.
        fft_size: Carriers of the FFT; a power of two, 64 to 4096.
        cp_length: Cyclic prefix in samples; a multiple of 8, at most ``fft_size``.
        occupied: Carriers in use, half of them on either side of the unused DC carrier; even, at least three
            quarters of ``fft_size`` so that the preamble's lines are inside.
        pilots: Pilots in every symbol, evenly spaced over the occupied carriers; they move on from symbol to symbol
            until every carrier has held one. A divisor of ``occupied``, at least 2.
        guard: Zero samples behind every burst, at least; long bursts take up to 1e-4 of their length more.
        network: Number that seeds the scrambler, 0 to 65535: receivers ignore the bursts of other networks.
        signalling_repetition: Times that each coded bit of the signalling blocks is sent; 3 reaches -6 dB.

    Raises:
        ModemError: If a value is outside its range.
    """

    sample_rate: float = 1e6
    fft_size: int = 64
    cp_length: int = 16
    occupied: int = 52
    pilots: int = 4
    guard: int = 32
    network: int = 0
    signalling_repetition: int = 3

    def __post_init__(self) -> None:
        for field in fields(self):
            value = plain(getattr(self, field.name))
            object.__setattr__(self, field.name, value)
            if not isinstance(value, (int, float) if field.name == "sample_rate" else int):
                raise ModemError(f"numerology: {field.name} is {value!r}; it must be a number, whole but for a rate")
        rules = (
            ("sample_rate", math.isfinite(self.sample_rate) and self.sample_rate > 0, "a positive number"),
            ("fft_size", self.fft_size in (64, 128, 256, 512, 1024, 2048, 4096), "a power of two, 64 to 4096"),
            ("cp_length", self.cp_length % 8 == 0 and 8 <= self.cp_length <= self.fft_size, "8, 16, .. fft_size"),
            (
                "occupied",
                self.occupied % 2 == 0 and 3 * self.fft_size // 4 <= self.occupied <= self.fft_size - 2,
                "even and within 3/4 fft_size to fft_size - 2",
            ),
            (
                "pilots",
                2 <= self.pilots <= self.occupied // 4 and self.occupied % self.pilots == 0,
                "a divisor of occupied, 2 to a quarter of it",
            ),
            ("guard", 0 <= self.guard <= 65536, "within 0 to 65536"),
            ("network", 0 <= self.network <= 65535, "within 0 to 65535"),
            ("signalling_repetition", 1 <= self.signalling_repetition <= 16, "within 1 to 16"),
        )
        for name, good, wanted in rules:
            if not good:
                raise ModemError(f"numerology: {name} is {getattr(self, name)}; it must be {wanted}")

    @property
    def symbol_length(self) -> int:
        """Samples of an OFDM symbol, cyclic prefix included."""
        return self.fft_size + self.cp_length

    @property
    def data_carriers(self) -> int:
        """Carriers of a symbol that hold data."""
        return self.occupied - self.pilots

    @property
    def pilot_spacing(self) -> int:
        """Occupied carriers from one pilot to the next, and symbols after which the pattern repeats."""
        return self.occupied // self.pilots

    @classmethod
    def preset(cls, name: str, sample_rate: float | None = None, network: int = 0) -> Numerology:
        """Return a numerology by name: ``"64"`` (1 MS/s), ``"128"`` (5 MS/s) or ``"256"`` (20 MS/s).

        Args:
            name: Key of :data:`PRESETS`.
            sample_rate: Samples/s to use in place of the preset's.
            network: Number of the network, 0 to 65535.

        Raises:
            ModemError: If there is no such preset, or a value is out of range.
        """
        if name not in PRESETS:
            raise ModemError(f"numerology preset {name!r} is unknown; choose one of {', '.join(PRESETS)}")
        chosen = replace(PRESETS[name], network=network)
        return chosen if sample_rate is None else replace(chosen, sample_rate=sample_rate)


PRESETS = {
    "64": Numerology(),
    "128": Numerology(5e6, 128, 32, 104, 8, guard=64),
    "256": Numerology(20e6, 256, 64, 208, 8, guard=128),
}
