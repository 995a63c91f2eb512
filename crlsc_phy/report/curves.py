"""Static plots of curves against SNR, as PNG and PDF."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crlsc_phy.figure import INK, drawing
from crlsc_phy.report.measures import MEASURES
from crlsc_phy.report.results import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["WIDTHS", "Look", "draw_curves", "looks"]

WIDTHS = {"column": 3.5, "double": 7.16}
"""Widths in inches of a figure in one column or over both columns of an IEEE journal."""

# M. Okabe and K. Ito, "Color universal design" (2008), without yellow, which is too faint on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9")
# matplotlib's name, plotly's, and an SVG path for the legend. The number of markers has no factor in common with the
# number of colours, so a pair of both repeats late.
_MARKERS = (
    ("o", "circle", "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z"),
    ("s", "square", "M-3.6,-3.6h7.2v7.2h-7.2z"),
    ("^", "triangle-up", "M0,-4.5L4.5,3.5H-4.5z"),
    ("D", "diamond", "M0,-5L5,0L0,5L-5,0z"),
    ("p", "pentagon", "M0,-4.8L4.6,-1.5L2.8,3.9H-2.8L-4.6,-1.5z"),
    ("P", "cross", "M-1.6,-4.5h3.2v2.9h2.9v3.2h-2.9v2.9h-3.2v-2.9h-2.9v-3.2h2.9z"),
    ("X", "x", "M-4,-2L-2,-4L0,-2L2,-4L4,-2L2,0L4,2L2,4L0,2L-2,4L-4,2L-2,0z"),
    ("*", "star", "M0,-5L1.3,-1.6L5,-1.5L2.1,0.8L3.1,4.4L0,2.3L-3.1,4.4L-2.1,0.8L-5,-1.5L-1.3,-1.6z"),
)
_LONGEST = 60
"""Characters of a name in a legend."""
_STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": True,
    "axes.spines.right": True,
    "axes.edgecolor": INK,
    "grid.linewidth": 0.4,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 6.5,
    "lines.linewidth": 1.0,
    "lines.markersize": 4.5,
    "lines.markeredgewidth": 0.8,
    # Publishers' checks refuse Type 3 fonts.
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Look:
    """Appearance of a curve, the same in every plot.

    Attributes:
        colour: Colour of line and marker, as ``#rrggbb``.
        marker, symbol: Name of the marker in matplotlib and in plotly.
        path: The marker as an SVG path.
        own: True for a curve of this project, which has filled markers.
        imported: True for an imported curve, which is dashed.
    """

    colour: str
    marker: str
    symbol: str
    path: str
    own: bool
    imported: bool


def looks(own: Mapping[str, bool], imported: Sequence[str]) -> dict[str, Look]:
    """Choose colour and marker of each curve of ``own``, which has True for those of this project, by name."""
    return {
        name: Look(_COLOURS[number % len(_COLOURS)], *_MARKERS[number % len(_MARKERS)], own[name], name in imported)
        for number, name in enumerate(own)
    }


def draw_curves(
    targets: Sequence[Path], curves: Sequence[Curve], measure: str, look: Mapping[str, Look], width: str = "column"
) -> None:
    """Draw curves over one channel with their 95 % intervals.

    Args:
        targets: Files to write, ``.png`` or ``.pdf``.
        curves: Curves over the same channel.
        measure: A key of :data:`~crlsc_phy.report.measures.MEASURES`.
        look: Appearance of each curve, by name.
        width: A key of :data:`WIDTHS`.

    Raises:
        CrlscError: If matplotlib is not installed, or a file cannot be written.
    """
    inches = WIDTHS[width]
    columns = 2 if width == "column" else 4
    rows = -(-len(curves) // columns)
    height = 2.4 + 0.13 * rows
    with drawing(targets, round(inches * 100), round(height * 100), style=_STYLE, sharpness=4) as figure:
        axes = figure.subplots()
        handles = [_draw(axes, curve, measure, look[curve.curve]) for curve in curves]
        kind = MEASURES[measure]
        axes.set_xlabel("$E_\\mathrm{s}/N_0$ [dB]")
        axes.set_ylabel(kind.label)
        if kind.logarithmic:
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            # Whole decades, so that there are ticks to read; a rate ends at 1, and its markers need room there.
            top = min(10 ** math.ceil(math.log10(high) - 0.1), 1.5)
            axes.set_ylim(10 ** math.floor(min(math.log10(low), -1)), top)
        elif kind.kind != "mean":
            axes.set_ylim(-0.03, 1.03)
        legend = figure.legend(
            handles,
            [_legend_name(curve.curve, look[curve.curve].imported) for curve in curves],
            loc="outside lower center",
            ncols=columns,
            handlelength=2.4,
            columnspacing=1.2,
            labelspacing=0.3,
        )
        for text in legend.get_texts():
            # A dollar in a name does not begin a formula.
            text.set_parse_math(False)


def _draw(axes: Axes, curve: Curve, measure: str, look: Look) -> Line2D:
    """Draw a curve and return its line for the legend."""
    logarithmic = MEASURES[measure].logarithmic
    known = [(snr, found) for snr in curve.snrs if not math.isnan((found := curve.estimate(snr, measure)).value)]
    shown = [(snr, estimate) for snr, estimate in known if estimate.value > 0 or not logarithmic]
    face = look.colour if look.own else "white"
    drawn: Line2D = axes.errorbar(
        [snr for snr, _ in shown],
        [estimate.value for _, estimate in shown],
        [
            # The mean of equal values may lie outside its interval by rounding.
            [max(estimate.value - estimate.low, 0.0) for _, estimate in shown],
            [max(estimate.high - estimate.value, 0.0) for _, estimate in shown],
        ],
        color=look.colour,
        marker=look.marker,
        markerfacecolor=face,
        linestyle="--" if look.imported else "-",
        elinewidth=0.6,
        capsize=1.5,
    ).lines[0]
    # A rate of 0 has no place on a logarithmic axis; it is known to be below the end of the interval.
    below = [(snr, estimate.high) for snr, estimate in known if logarithmic and estimate.value == 0]
    if below:
        ends = [end for _, end in below]
        axes.errorbar(
            [snr for snr, _ in below], ends, [end / 2 for end in ends], uplims=True, linestyle="", color=look.colour
        )
    return drawn


def _legend_name(name: str, imported: bool) -> str:
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST - 20]}…{name[-19:]}"
    # matplotlib leaves names that begin with an underscore out of a legend.
    name = f" {name}" if name.startswith("_") else name
    return f"{name} (imported)" if imported else name
