"""Former place of :mod:`crlsc_phy.net.channel.streams`."""

from crlsc_phy.net.channel.streams import SINKS, SOURCES, Place, Sink, Source, Tag

__all__ = ["SINKS", "SOURCES", "Place", "Sink", "Source", "Tag"]
