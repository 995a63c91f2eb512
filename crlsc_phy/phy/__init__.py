"""The physical layer: numerology, 5G LDPC, preamble, OFDM and the burst modem."""

from crlsc_phy.phy.mcs import ANALOG_TABLE, MCS_TABLE, Mcs
from crlsc_phy.phy.modem import Burst, BurstModem, Counters
from crlsc_phy.phy.numerology import PRESETS, Numerology

__all__ = ["ANALOG_TABLE", "MCS_TABLE", "PRESETS", "Burst", "BurstModem", "Counters", "Mcs", "Numerology"]
