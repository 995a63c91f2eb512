"""The shape of the waveform: sample rate, OFDM carriers, pilots and guard; and the table of MCS."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from crlsc_phy.errors import ModemError

__all__ = ["MCS_TABLE", "PRESETS", "Mcs", "Numerology", "find_mcs"]

SYNC_PERIOD = 16
"""Period of the synchronisation part of the preamble in samples, whatever the FFT size: it sets the CFO range."""

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
        pilots: Signed indices of the carriers that hold a pilot in every symbol, on both sides of DC.
        guard: Zero samples behind every burst, at least; long bursts take up to 1e-4 of their length more.
        signalling_repetition: How often each coded bit of the signalling blocks is sent.

    Raises:
        ModemError: If a value is outside its range.
    """

    sample_rate: float = 1e6
    fft_size: int = 64
    cp_length: int = 16
    occupied: int = 52
    pilots: tuple[int, ...] = (-21, -7, 7, 21)
    guard: int = 32
    signalling_repetition: int = 2

    def __post_init__(self) -> None:
        half = self.occupied // 2
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
                len(set(self.pilots)) == len(self.pilots)
                and all(0 < abs(p) <= half for p in self.pilots)
                and any(p < 0 for p in self.pilots)
                and any(p > 0 for p in self.pilots)
                and len(self.pilots) < self.occupied // 2,
                "distinct occupied carriers on both sides of DC, fewer than half of all",
            ),
            ("guard", 0 <= self.guard <= 65536, "within 0 to 65536"),
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
        return self.occupied - len(self.pilots)

    @property
    def carrier_spacing_hz(self) -> float:
        """Distance between carriers in Hz."""
        return self.sample_rate / self.fft_size

    @classmethod
    def preset(cls, name: str, sample_rate: float | None = None) -> Numerology:
        """A numerology by name: ``"64"`` (1 MS/s), ``"128"`` (5 MS/s) or ``"256"`` (20 MS/s).

        Args:
            name: Key of :data:`PRESETS`.
            sample_rate: Samples/s to use in place of the preset's.

        Raises:
            ModemError: If there is no such preset.
        """
        if name not in PRESETS:
            raise ModemError(f"no numerology preset {name!r}; choose one of {', '.join(PRESETS)}")
        chosen = PRESETS[name]
        return chosen if sample_rate is None else replace(chosen, sample_rate=sample_rate)


PRESETS = {
    "64": Numerology(),
    "128": Numerology(5e6, 128, 32, 104, (-45, -27, -9, 9, 27, 45), guard=64),
    "256": Numerology(20e6, 256, 64, 208, (-91, -65, -39, -13, 13, 39, 65, 91), guard=128),
}


@dataclass(frozen=True)
class Mcs:
    """A modulation and coding scheme.

    Attributes:
        index: The number that the signalling block carries.
        bits_per_symbol: 2 for QPSK, 4 for 16-QAM, 6 for 64-QAM.
        rate: Code rate as numerator and denominator.
    """

    index: int
    bits_per_symbol: int
    rate: tuple[int, int]

    @property
    def name(self) -> str:
        """For example ``"qpsk-1/2"``."""
        modulation = {2: "qpsk", 4: "16qam", 6: "64qam"}[self.bits_per_symbol]
        return f"{modulation}-{self.rate[0]}/{self.rate[1]}"

    @property
    def code_rate(self) -> float:
        """Information bits a coded bit."""
        return self.rate[0] / self.rate[1]

    @property
    def efficiency(self) -> float:
        """Information bits a data symbol."""
        return self.bits_per_symbol * self.code_rate


MCS_TABLE = tuple(
    Mcs(index, bits, rate)
    for index, (bits, rate) in enumerate(
        (
            (2, (1, 5)),
            (2, (1, 3)),
            (2, (1, 2)),
            (2, (2, 3)),
            (2, (3, 4)),
            (4, (1, 2)),
            (4, (2, 3)),
            (4, (3, 4)),
            (6, (2, 3)),
            (6, (3, 4)),
            (6, (5, 6)),
        )
    )
)


def find_mcs(mcs: int | str) -> Mcs:
    """An entry of :data:`MCS_TABLE` by index or name.

    Raises:
        ModemError: If there is no such entry.
    """
    for entry in MCS_TABLE:
        if mcs in (entry.index, entry.name):
            return entry
    raise ModemError(
        f"no MCS {mcs!r}; choose 0 to {len(MCS_TABLE) - 1} or one of {', '.join(m.name for m in MCS_TABLE)}"
    )
