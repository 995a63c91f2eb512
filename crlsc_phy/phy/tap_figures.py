"""Figure of what the receiver saw of one burst, drawn from its taps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.errors import ModemError
from crlsc_phy.figure import FIRST, INK, LINE, MARK, SECOND, SOFT, drawing
from crlsc_phy.frame import FrameHeader, Mode
from crlsc_phy.phy import MCS_TABLE, Numerology, qam
from crlsc_phy.phy.layout import Layout
from crlsc_phy.phy.ofdm import Ofdm
from crlsc_phy.phy.taps import BurstTaps, read_burst

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["plot_taps"]

MOST_POINTS = 20_000
_BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
_BARS = 81
# Limits the memory for the distances to all points to 16 MB.
_DISTANCES_AT_A_TIME = 1 << 20
# Without these limits a few broken values would squeeze all others together.
_WIDEST_CONSTELLATION = 3.0
_DEEPEST_FADE_DB = 40.0


def plot_taps(folder: str | Path, burst: int | None, target: str | Path) -> int:
    """Draw metric, channel, constellation, tracking, LLRs and EVM of one burst.

    Args:
        folder: Folder that :class:`~crlsc_phy.phy.taps.Taps` wrote.
        burst: Number of the burst; None for the last one.
        target: PNG file to write.

    Returns:
        The number of the burst.

    Raises:
        ModemError: If there is no such burst, or its files are damaged.
        CrlscError: If matplotlib is not installed, or the figure cannot be written.
    """
    taps = read_burst(folder, burst)
    with drawing(target) as figure:
        _draw(figure, _Shown(taps))
    return taps.number


@dataclass(frozen=True)
class _Shown:
    """Taps of a burst, in the form that the panels need."""

    taps: BurstTaps

    def array(self, name: str, dimensions: int) -> NDArray[Any] | None:
        """Return an array with ``dimensions`` dimensions, or None if it is missing or empty."""
        values = self.taps.array(name)
        if values is None or values.size == 0:
            return None
        if values.ndim > dimensions or not np.issubdtype(values.dtype, np.number):
            raise ModemError(f"{self.taps.folder}: {name}.npy is {values.dtype} {list(values.shape)}; record it again")
        return np.asarray(values.reshape((1,) * (dimensions - values.ndim) + values.shape))

    def number(self, name: str) -> float | None:
        value = self.taps.notes.get(name)
        return float(value) if isinstance(value, (int, float)) else None

    @property
    def numerology(self) -> Numerology | None:
        """The numerology, or None if it is not in the notes."""
        try:
            return Numerology(**self.taps.notes["numerology"])
        except (KeyError, TypeError, ModemError):
            return None

    @property
    def fft_size(self) -> int | None:
        """Size of the FFT, or None if it is not in the notes."""
        return self.numerology.fft_size if self.numerology else None

    def carriers(self, count: int) -> NDArray[np.int64]:
        """Return the signed indices of ``count`` occupied carriers, int64 [count]."""
        half = count // 2
        return np.asarray(np.r_[-half:0, 1 : count - half + 1], np.int64)

    def points(self, detail: bool) -> NDArray[np.complex64] | None:
        """Return the constellation of the signalling or the detail layer, or None if it is analog or not known."""
        bits = 2
        if detail:
            known = [mcs.bits_per_symbol for mcs in MCS_TABLE if mcs.name == self.taps.notes.get("mcs")]
            if not known:
                return None
            bits = known[0]
        labels = np.arange(1 << bits)[:, None] >> np.arange(bits) & 1
        return qam.map_bits(labels.astype(np.uint8).ravel(), bits)

    def detail_first(self, rows: int) -> int:
        """Return the index of the first of ``rows`` symbols that belongs to the detail layer."""
        if not self.taps.notes.get("header_ok") or self.numerology is None:
            return rows
        air_code = self.array("semantic_llr", 1)
        semantic_bytes = 0 if air_code is None else min(len(air_code) // 8, 255)
        header = FrameHeader(bytes(4), 1, 1, semantic_bytes, 0, mode=Mode.SEMANTIC)
        return min(Layout.of(self.numerology, header, MCS_TABLE[0]).symbols, rows)

    @property
    def why_missing(self) -> str:
        """Reason for which an array is not there."""
        if not self.taps.notes:
            return "the receiver ended during this burst"
        if not self.taps.notes.get("header_ok", True):
            return "the header was not read"
        if str(self.taps.notes.get("mcs")).startswith("analog"):
            return "the detail layer is analog"
        return "the burst has none"


def _draw(figure: Figure, shown: _Shown) -> None:
    from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea

    parts: Any = figure.subfigures(2, 1, height_ratios=(0.07, 1))
    head, body = parts
    verdicts, figures = _summary(shown)
    title: list[Any] = [TextArea(f"Burst {shown.taps.number}", textprops={"fontsize": 15, "fontweight": "bold"})]
    title += [TextArea(text, textprops={"fontsize": 12, "color": INK if good else MARK}) for text, good in verdicts]
    row = HPacker(children=title, align="baseline", pad=0, sep=24)
    place = {"bbox_to_anchor": (0.01, 0.68), "bbox_transform": head.transSubfigure}
    head.add_artist(AnchoredOffsetbox("center left", child=row, pad=0, borderpad=0, frameon=False, **place))
    head.text(0.01, 0.18, "   ·   ".join(figures), fontsize=11, va="center", color=SOFT)
    panels: Any = body.subfigures(2, 3, wspace=0.02, hspace=0.03)
    for panel, draw in zip(panels.flat, (_metric, _channel, _constellation, _tracking, _llrs, _evm), strict=True):
        draw(panel, shown)


def _summary(shown: _Shown) -> tuple[list[tuple[str, bool]], list[str]]:
    """Return a verdict on each part of the burst, with whether it is good, and the known figures."""
    notes = shown.taps.notes
    verdicts: list[tuple[str, bool]] = []
    if not notes:
        verdicts.append(("no notes: the receiver ended during this burst", False))
    for name, part in (("header_ok", "header"), ("semantic_ok", "air code")):
        if name in notes:
            verdicts.append((f"{part} {'read' if notes[name] else 'lost'}", bool(notes[name])))
    if notes.get("problem"):
        verdicts.append((str(notes["problem"]), False))
    segments, failed = shown.number("segments"), shown.number("segment_failures") or 0
    if segments:
        lost = f"{failed:.0f} of {segments:.0f} detail segments lost"
        verdicts.append((lost, False) if failed else (f"all {segments:.0f} detail segments read", True))
    figures = [
        # Avoids a negative zero, and uses the minus that is as wide as a plus.
        form.format(round(value, 1) + 0.0).replace("-", "\N{MINUS SIGN}")
        for name, form in (
            ("start", "sample {:,.0f}"),
            ("snr_db", "Es/N0 {:.1f} dB"),
            ("evm_db", "EVM {:.1f} dB"),
            ("cfo_hz", "CFO {:+,.1f} Hz"),
        )
        if (value := shown.number(name)) is not None
    ]
    if notes.get("mcs"):
        figures.append(str(notes["mcs"]))
    if shown.numerology:
        figures.append(f"{shown.numerology.fft_size} carriers at {shown.numerology.sample_rate / 1e6:g} MS/s")
    return verdicts, figures


def _metric(panel: SubFigure, shown: _Shown) -> None:
    axes = panel.subplots()
    quality = shown.number("quality")
    axes.set_title("Correlator metric" + ("" if quality is None else f", {quality:.0%} of the energy is preamble"))
    values = shown.array("metric", 1)
    if values is None:
        _nothing(axes, shown)
        return
    first, start = shown.number("metric_start"), shown.number("start")
    offset = None if first is None or start is None else first - start
    axes.plot(np.arange(len(values)) + (offset or 0), np.abs(values), color=FIRST, linewidth=1.2)
    threshold = shown.number("metric_threshold")
    if threshold is not None:
        axes.axhline(threshold, color=MARK, linewidth=1, linestyle="--")
        edge: Any = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center"}
        axes.text(0.99, threshold, f"threshold {threshold:.3g}", color=MARK, bbox=_BOX, **edge)
    if offset is not None:
        axes.axvline(0, color=SOFT, linewidth=1, linestyle=":")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("sample" if offset is None else "sample from the burst's start")
    axes.set_ylabel("magnitude")


def _channel(panel: SubFigure, shown: _Shown) -> None:
    values = shown.array("channel", 2)
    if values is None:
        axes = panel.subplots()
        axes.set_title("Channel")
        _nothing(axes, shown)
        return
    carriers = shown.carriers(values.shape[1])
    # Take out the delay of the FFT window, so that the phase shows the channel's own.
    beside = np.diff(carriers) == 1
    step = float(np.angle(np.sum((values[:, 1:] * values[:, :-1].conj())[:, beside])))
    size = shown.fft_size
    delay = f"less a delay of {-step * size / (2 * np.pi):.1f} samples" if size else f"less {step:+.2f} rad/carrier"
    phase = np.angle(values * np.exp(-1j * step * carriers))
    magnitude = _decibels(np.abs(values) ** 2)
    magnitude = np.maximum(magnitude, np.max(magnitude) - _DEEPEST_FADE_DB)
    upper, lower = panel.subplots(2, 1, sharex=True)
    upper.set_title(f"Channel, phase {delay}" if len(values) == 1 else "Channel: magnitude [dB]")
    if len(values) > 1:
        lower.set_title(f"phase [rad], {delay}", fontsize=10, fontweight="normal")
        for axes, image, colours, bound in ((upper, magnitude, "viridis", None), (lower, phase, "twilight", np.pi)):
            # The carrier at DC is not occupied.
            half = int(np.sum(carriers < 0))
            image = np.insert(image, half, np.nan, axis=1)
            drawn = axes.imshow(
                image,
                aspect="auto",
                origin="lower",
                interpolation="nearest",
                extent=(carriers[0] - 0.5, carriers[-1] + 0.5, -0.5, len(values) - 0.5),
                cmap=colours,
                vmin=None if bound is None else -bound,
                vmax=bound,
            )
            axes.grid(False)
            axes.set_ylabel("symbol")
            panel.colorbar(drawn, ax=axes, pad=0.01)
    else:
        for axes, line, colour, label in (
            (upper, magnitude[0], FIRST, "magnitude [dB]"),
            (lower, phase[0], SECOND, "phase [rad]"),
        ):
            axes.plot(carriers, line, ".-", color=colour, linewidth=1, markersize=4)
            axes.set_ylabel(label)
            _at_least(axes, 6.0 if axes is upper else 1.0)
    lower.set_xlabel("carrier")


def _constellation(panel: SubFigure, shown: _Shown) -> None:
    axes = panel.subplots()
    axes.set_title("Equalised symbols")
    values = shown.array("symbols", 2)
    if values is None:
        _nothing(axes, shown)
        return
    rows = np.repeat(np.arange(len(values)), values.shape[1])
    chosen = np.arange(0, values.size, -(-values.size // MOST_POINTS))
    points, rows = values.ravel()[chosen], rows[chosen]
    drawn = axes.scatter(
        points.real, points.imag, c=rows, s=5 if len(points) > 2000 else 9, cmap="viridis", linewidths=0
    )
    known = [p for p in (shown.points(False), shown.points(True)) if p is not None and len(p)]
    ideal = known[-1] if shown.detail_first(len(values)) < len(values) else known[0]
    axes.plot(ideal.real, ideal.imag, "+", color=MARK, markersize=8, markeredgewidth=1.2)
    parts = np.abs(np.r_[points.real, points.imag, 0])
    reach = float(np.clip(np.quantile(parts[np.isfinite(parts)], 0.998), 1.2, _WIDEST_CONSTELLATION))
    axes.set(xlim=(-1.05 * reach, 1.05 * reach), ylim=(-1.05 * reach, 1.05 * reach), aspect="equal")
    axes.set_xlabel("in phase")
    axes.set_ylabel("quadrature")
    # The axes are square, narrower than the panel; the bar belongs beside them.
    bar = panel.colorbar(drawn, cax=axes.inset_axes((1.03, 0, 0.04, 1)))
    bar.ax.set_title("symbol", fontsize=9, fontweight="normal", color=SOFT)


def _tracking(panel: SubFigure, shown: _Shown) -> None:
    upper, lower = panel.subplots(2, 1, sharex=True)
    upper.set_title("Tracked phase and timing")
    size = shown.fft_size
    for axes, name, colour in ((upper, "phase", FIRST), (lower, "slope", SECOND)):
        values = shown.array(name, 1)
        if values is None:
            _nothing(axes, shown)
            continue
        label = "phase [rad]" if name == "phase" else "slope [rad/carrier]"
        if name == "slope" and size:
            # A delay of one sample is a slope of -2 pi / fft_size.
            values, label = -values * size / (2 * np.pi), "timing drift [samples]"
        axes.plot(values, ".-" if len(values) < 300 else "-", color=colour, linewidth=1.2, markersize=4)
        axes.set_ylabel(label)
        _at_least(axes, 0.1)
    lower.set_xlabel("OFDM symbol")


def _llrs(panel: SubFigure, shown: _Shown) -> None:
    for axes, name, colour, title in zip(
        panel.subplots(2, 1),
        ("llr", "semantic_llr"),
        (FIRST, SECOND),
        ("LLRs of the detail layer's coded bits", "LLRs of the air code's bits, decoded"),
        strict=True,
    ):
        axes.set_title(title)
        values = shown.array(name, 1)
        if values is None:
            _nothing(axes, shown)
            continue
        finite = values[np.isfinite(values)]
        reach = 1.0
        if len(finite):
            size = np.abs(finite)
            reach = max(min(float(size.max()), 2 * float(np.quantile(size, 0.999))), 1.0)
        axes.hist(np.clip(finite, -reach, reach), np.linspace(-reach, reach, _BARS + 1), color=colour)
        unsure = 100 * float(np.mean(~(np.abs(values) >= 1)))
        corner: Any = {"transform": axes.transAxes, "ha": "right", "va": "top"}
        axes.text(0.99, 0.96, f"{len(values):,} bits\n{unsure:.2g} % within ±1", color=SOFT, bbox=_BOX, **corner)
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7, top=4 * axes.get_ylim()[1])
        axes.set_ylabel("bits")
        axes.set_xlabel("log p(1)/p(0)")
        axes.locator_params(axis="x", nbins=7)


def _evm(panel: SubFigure, shown: _Shown) -> None:
    axes = panel.subplots()
    axes.set_title("EVM by carrier, to the nearest point")
    values, numerology = shown.array("symbols", 2), shown.numerology
    if values is None or numerology is None or values.shape[1] != numerology.data_carriers:
        _nothing(axes, shown)
        return
    columns = Ofdm(numerology).data_columns(0, len(values))
    carriers = shown.carriers(numerology.occupied)
    first = shown.detail_first(len(values))
    for part, points, colour, label in (
        (slice(0, first), shown.points(False), SECOND, "signalling"),
        (slice(first, None), shown.points(True), FIRST, "detail"),
    ):
        if points is None or not len(values[part]):
            continue
        evm_db = _decibels(_mean_by_carrier(_errors(values[part], points), columns[part], len(carriers)))
        axes.plot(carriers, evm_db, "o", color=colour, markersize=4, label=label)
    expected = _expected_error(shown, values.shape, columns, len(carriers))
    if expected is not None:
        axes.plot(carriers, _decibels(expected), color=INK, linewidth=1, label="expected by the receiver")
    axes.legend(loc="best", fontsize=9)
    axes.set_xlabel("carrier")
    axes.set_ylabel("EVM [dB]")
    _at_least(axes, 10.0)


def _expected_error(
    shown: _Shown, shape: tuple[int, ...], columns: NDArray[np.int64], carriers: int
) -> NDArray[np.float64] | None:
    """Return the mean noise variance of the equalised symbols by carrier, as the receiver estimated it.

    Args:
        shown: Taps of the burst.
        shape: Of the equalised symbols.
        columns: Carrier of each symbol, int64 [symbols, data_carriers].
        carriers: Number of occupied carriers.

    Returns:
        float64 [carriers], or None if the taps do not say.
    """
    noise, channel = shown.array("noise", 2), shown.array("channel", 2)
    if noise is None:
        return None
    if noise.shape == shape:
        return _mean_by_carrier(noise.astype(np.float64), columns, carriers)
    if channel is None or channel.shape[1] != carriers or noise.size not in (1, len(channel)):
        return None
    power = np.maximum(np.abs(channel) ** 2, 1e-9 * float(np.mean(noise)))
    return np.asarray(np.mean(noise.reshape(-1, 1) / power, axis=0), np.float64)


def _errors(values: NDArray[np.complex64], points: NDArray[np.complex64]) -> NDArray[np.float64]:
    """Return the squared distance of each value to the nearest point."""
    errors = np.empty(values.shape, np.float64)
    # A long burst has millions of values: compute a few rows at a time.
    rows = max(1, _DISTANCES_AT_A_TIME // (values.shape[1] * len(points)))
    for row in range(0, len(values), rows):
        errors[row : row + rows] = np.min(np.abs(values[row : row + rows, :, None] - points) ** 2, axis=2)
    return errors


def _mean_by_carrier(errors: NDArray[np.float64], columns: NDArray[np.int64], carriers: int) -> NDArray[np.float64]:
    count = np.bincount(columns.ravel(), minlength=carriers)
    total = np.bincount(columns.ravel(), errors.ravel(), minlength=carriers)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _decibels(power: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(10 * np.log10(np.maximum(power, 1e-12)), np.float64)


def _at_least(axes: Axes, span: float) -> None:
    """Show at least ``span`` of the vertical axis, so that a constant looks constant."""
    low, high = axes.get_ylim()
    if high - low < span:
        middle = (low + high) / 2
        axes.set_ylim(middle - span / 2, middle + span / 2)


def _nothing(axes: Axes, shown: _Shown) -> None:
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color(LINE)
    middle: Any = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, f"not recorded: {shown.why_missing}", color=SOFT, **middle)
