"""The physical layer: numerology, 5G LDPC, preamble, OFDM and the burst modem."""

from crlsc_phy.phy.modem import Burst, BurstModem, Counters
from crlsc_phy.phy.numerology import MCS_TABLE, PRESETS, Mcs, Numerology

__all__ = ["MCS_TABLE", "PRESETS", "Burst", "BurstModem", "Counters", "Mcs", "Numerology"]
