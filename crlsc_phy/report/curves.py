"""Curves against SNR on paper: how each looks, and the figures of a sweep as PNG and PDF."""

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
"""Inches that IEEE journals give to a figure in one column or over both."""

# M. Okabe and K. Ito, "Color universal design" (2008), without yellow, which is too faint on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9")
# matplotlib's name and plotly's. As many as share no factor with the colours, so that no pair comes twice for long.
_MARKERS = (
    ("o", "circle"),
    ("s", "square"),
    ("^", "triangle-up"),
    ("D", "diamond"),
    ("p", "pentagon"),
    ("P", "cross"),
    ("X", "x"),
    ("*", "star"),
)
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
    # Fonts as outlines that a publisher's checks accept, not as Type 3.
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Look:
    """How a curve looks in every plot.

    Attributes:
        colour: Of all of it.
        marker, symbol: What matplotlib and plotly call its marker.
        own: Ours have filled markers, others hollow ones.
        imported: Such are dashed.
    """

    colour: str
    marker: str
    symbol: str
    own: bool
    imported: bool


def looks(own: Mapping[str, bool], imported: Sequence[str]) -> dict[str, Look]:
    """Colour and marker of each curve, by name.

    Args:
        own: The curves in their order, and whether each is ours.
        imported: Which of them were imported.
    """
    return {
        name: Look(_COLOURS[number % len(_COLOURS)], *_MARKERS[number % len(_MARKERS)], own[name], name in imported)
        for number, name in enumerate(own)
    }


def draw_curves(
    targets: Sequence[Path], curves: Sequence[Curve], measure: str, look: Mapping[str, Look], width: str = "column"
) -> None:
    """Draw the curves over one channel with their intervals.

    Args:
        targets: Files, ``.png`` or ``.pdf``.
        curves: Over the same channel.
        measure: What to draw.
        look: Of each curve, by name.
        width: One of :data:`WIDTHS`.

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
        axes.set_ylabel(f"{kind.title} [{kind.unit}]" if kind.unit else kind.title)
        if kind.logarithmic:
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            # Whole decades, so that there are ticks to read; a rate ends at 1, and its markers need room there.
            top = min(10 ** math.ceil(math.log10(high) - 0.1), 1.5)
            axes.set_ylim(10 ** math.floor(min(math.log10(low), -1)), top)
        elif kind.kind != "mean":
            axes.set_ylim(-0.03, 1.03)
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=columns,
            handlelength=2.4,
            columnspacing=1.2,
            labelspacing=0.3,
        )


def _draw(axes: Axes, curve: Curve, measure: str, look: Look) -> Line2D:
    """Draw a curve; what stands for it in a legend is returned."""
    logarithmic = MEASURES[measure].logarithmic
    known = [(snr, curve.estimate(snr, measure)) for snr in curve.snrs]
    known = [(snr, estimate) for snr, estimate in known if not math.isnan(estimate.value)]
    shown = [(snr, estimate) for snr, estimate in known if estimate.value > 0 or not logarithmic]
    face = look.colour if look.own else "white"
    drawn: Line2D = axes.errorbar(
        [snr for snr, _ in shown],
        [estimate.value for _, estimate in shown],
        [
            # Of equal values a mean and its ends may differ by rounding.
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
    # Of the line alone: bars in a legend are clutter.
    drawn.set_label(f"{curve.curve} (imported)" if look.imported else curve.curve)
    # A rate of 0 has no place on a logarithmic axis; what is known is that it is below the interval's end.
    below = [(snr, estimate.high) for snr, estimate in known if logarithmic and estimate.value == 0]
    if below:
        ends = [end for _, end in below]
        axes.errorbar(
            [snr for snr, _ in below], ends, [end / 2 for end in ends], uplims=True, linestyle="", color=look.colour
        )
    return drawn
