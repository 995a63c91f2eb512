"""Interactive plots of curves against SNR, as plotly figures."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from crlsc_phy.report.curves import Look
from crlsc_phy.report.measures import MEASURES, Measure
from crlsc_phy.report.page import figure, typeset
from crlsc_phy.report.results import Curve, Estimate

__all__ = ["chart", "counted"]

_INK, _GREY, _GRID = "#1f2430", "#8a929c", "#e6e9ed"
_AXIS = {
    "gridcolor": _GRID,
    "linecolor": _GREY,
    "ticks": "outside",
    "tickcolor": _GREY,
    "zeroline": False,
    "automargin": True,
}


def chart(
    curves: Sequence[Curve], measure: str, look: Mapping[str, Look], axis: Measure | None = None
) -> dict[str, Any]:
    """Draw curves over one channel with their 95 % intervals.

    Args:
        curves: Curves that have the measure.
        measure: A key of :data:`~crlsc_phy.report.measures.MEASURES`.
        look: Colour and marker of each curve, by name.
        axis: Title, unit and kind of the vertical axis; None for those of the measure.

    Returns:
        A plotly figure as JSON values, with ``data`` and ``layout``.
    """
    # plotly belongs to an extra, and only reports need it.
    from plotly import graph_objects

    axis = axis or MEASURES[measure]
    drawn = graph_objects.Figure(layout=_layout(axis))
    for curve in curves:
        found = {snr: curve.estimate(snr, measure) for snr in curve.snrs}
        drawn.add_traces(list(_traces(curve.curve, found, look[curve.curve], axis.logarithmic)))
    if axis.logarithmic:
        drawn.update_yaxes(range=_decades([curve.estimate(snr, measure) for curve in curves for snr in curve.snrs]))
    plain: dict[str, Any] = drawn.to_plotly_json()
    return plain


def counted(estimate: Estimate) -> str:
    """Say how many trials are behind an estimate, such as ``5 of 100`` or ``n = 7``; empty without any."""
    if not estimate.n:
        return ""
    return f"n = {estimate.n:,}" if estimate.events is None else f"{estimate.events:,} of {estimate.n:,}"


def _layout(axis: Measure) -> dict[str, Any]:
    vertical: dict[str, Any] = {"title": {"text": axis.label, "standoff": 8}}
    if axis.logarithmic:
        vertical |= {"type": "log", "exponentformat": "power", "dtick": 1}
    elif axis.kind != "mean":
        vertical["range"] = [-0.03, 1.03]
    return {
        "template": "none",
        "xaxis": _AXIS | {"title": {"text": "E<sub>s</sub>/N<sub>0</sub> [dB]", "standoff": 8}},
        "yaxis": _AXIS | vertical,
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": _INK},
        "margin": {"l": 56, "r": 12, "t": 16, "b": 48},
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "#fff", "bordercolor": _GREY, "align": "left", "font": {"color": _INK}},
        "showlegend": False,
    }


def _traces(name: str, found: Mapping[float, Estimate], look: Look, logarithmic: bool) -> Iterator[dict[str, Any]]:
    # On a logarithmic axis an arrow at the upper end of the interval stands for a rate of 0.
    none = {snr: estimate.high for snr, estimate in found.items() if logarithmic and estimate.value == 0}
    shown = {snr: estimate for snr, estimate in found.items() if snr not in none and not math.isnan(estimate.value)}
    common = {"type": "scatter", "name": name, "x": list(found), "hoverinfo": "text"}
    common["text"] = [_hover(name, snr, estimate) for snr, estimate in found.items()]
    yield common | {
        "y": [shown[snr].value if snr in shown else None for snr in found],
        "mode": "lines+markers",
        "line": {"color": look.colour, "width": 2, "dash": "dash" if look.imported else "solid"},
        "marker": {
            "color": look.colour if look.own else "#fff",
            "symbol": look.symbol,
            "size": 8,
            "line": {"color": look.colour, "width": 1.5},
        },
        "error_y": {
            "type": "data",
            "symmetric": False,
            "color": look.colour,
            "thickness": 1.2,
            "width": 3,
            "array": [_length(shown[snr].high - shown[snr].value) if snr in shown else 0 for snr in found],
            "arrayminus": [_length(shown[snr].value - shown[snr].low) if snr in shown else 0 for snr in found],
        },
    }
    if none:
        marker = {"color": look.colour, "symbol": "arrow-down", "size": 10}
        yield common | {"y": [none.get(snr) for snr in found], "mode": "markers", "marker": marker}


def _length(bar: float) -> float:
    """Return the length of an error bar: 0 without an interval, or where rounding makes it negative."""
    return max(bar, 0.0) if bar == bar else 0.0


def _hover(name: str, snr_db: float, estimate: Estimate) -> str:
    interval = "" if math.isnan(estimate.low) else f"{figure(estimate.low)} to {figure(estimate.high)}"
    lines = [f"{snr_db:g} dB: {figure(estimate.value)}", interval]
    # plotly reads markup in this text.
    return "<br>".join([f"<b>{html.escape(name)}</b>", *filter(None, map(typeset, lines)), counted(estimate)])


def _decades(estimates: Sequence[Estimate]) -> tuple[int, int]:
    """Return the exponents of the whole decades that hold all values, so that the axis has ticks to read."""
    ends = [math.log10(end) for each in estimates for end in (each.value, each.low, each.high) if end > 0]
    return math.floor(min(*ends, -1)) if ends else -1, math.ceil(max(ends, default=0))
