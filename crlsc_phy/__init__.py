"""Semantic communication at the physical layer: CRLSC codecs, knowledge bases and a burst modem."""

__version__ = "0.1.0"
