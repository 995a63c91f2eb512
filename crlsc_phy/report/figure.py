"""The project's figures, under their former name."""

from crlsc_phy.figure import FIRST, INK, LINE, MARK, SECOND, SOFT, drawing

__all__ = ["FIRST", "INK", "LINE", "MARK", "SECOND", "SOFT", "drawing"]
