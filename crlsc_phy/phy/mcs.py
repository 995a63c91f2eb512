"""Modulation and coding schemes of the detail layer."""

from __future__ import annotations

from dataclasses import dataclass

from crlsc_phy.errors import ModemError
from crlsc_phy.scalars import plain

__all__ = ["ANALOG_TABLE", "MCS_TABLE", "Mcs", "find_mcs"]


@dataclass(frozen=True)
class Mcs:
    """A modulation and coding scheme.

    Attributes:
        index: Number in the signalling block of a burst.
        bits_per_symbol: 2 for QPSK, 4 for 16-QAM, 6 for 64-QAM; 0 for analog symbols.
        rate: Code rate as numerator and denominator; (1, r) for analog symbols that are sent r times.
    """

    index: int
    bits_per_symbol: int
    rate: tuple[int, int]

    @property
    def name(self) -> str:
        """Name, for example ``"qpsk-1/2"`` or ``"analog-1/1"``."""
        modulation = {0: "analog", 2: "qpsk", 4: "16qam", 6: "64qam"}[self.bits_per_symbol]
        return f"{modulation}-{self.rate[0]}/{self.rate[1]}"

    @property
    def analog(self) -> bool:
        """True if the detail layer is sent as analog symbols."""
        return self.bits_per_symbol == 0

    @property
    def code_rate(self) -> float:
        """Information bits per coded bit, or analog symbols per data symbol."""
        return self.rate[0] / self.rate[1]

    @property
    def efficiency(self) -> float:
        """Information bits per data symbol; 0 for analog symbols."""
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


ANALOG_TABLE = tuple(Mcs(16 + i, 0, (1, repetition)) for i, repetition in enumerate((4, 2, 1)))
"""Rates of the analog mode, the most robust first."""


def find_mcs(mcs: int | str) -> Mcs:
    """Return the entry of :data:`MCS_TABLE` or :data:`ANALOG_TABLE` with an index or a name.

    Raises:
        ModemError: If there is no such entry.
    """
    table = (*MCS_TABLE, *ANALOG_TABLE)
    wanted = plain(mcs)
    for entry in table:
        # To Python True is 1.
        if isinstance(wanted, (int, str)) and not isinstance(wanted, bool) and wanted in (entry.index, entry.name):
            return entry
    raise ModemError(f"MCS {wanted!r} is unknown; choose one of {', '.join(f'{m.index} {m.name}' for m in table)}")
