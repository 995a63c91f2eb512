"""Figures in the project's style, as PNG and PDF, by matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crlsc_phy.errors import CrlscError
from crlsc_phy.files import placed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIRST", "INK", "LINE", "MARK", "SECOND", "SOFT", "drawing"]

DPI = 100

INK, SOFT, LINE = "#1f2430", "#6b7280", "#e2e5ea"
FIRST, SECOND, MARK = "#2563a8", "#c2631a", "#b3261e"
STYLE: Any = {
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
}


@contextmanager
def drawing(
    target: str | Path | Sequence[Path], width: int = 1600, height: int = 1000, style: Any = None, sharpness: int = 1
) -> Iterator[Figure]:
    """Yield a figure in the project's style, and save it when the block ends without an error.

    Args:
        target: File to write, or several; ``.pdf`` makes a PDF, any other suffix a PNG.
        width: Width in pixels of 1/100 inch.
        height: Height in the same pixels.
        style: Further matplotlib parameters (rcParams).
        sharpness: Pixels of the PNG for each pixel of ``width`` and ``height``.

    Raises:
        CrlscError: If matplotlib is not installed, or a file cannot be written.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise CrlscError("plots need matplotlib; pip install 'crlsc-phy[plot]' or run make setup") from None
    paths = [Path(target)] if isinstance(target, (str, Path)) else target
    for path in paths:
        if path.is_dir():
            raise CrlscError(f"{path}: is a folder; give a file")
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE | (style or {}))
        # No pyplot: it would keep the figure, and choose a backend for the whole program.
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        # Find the layout once, not again for each file.
        engine = figure.get_layout_engine()
        if engine is not None:
            engine.execute(figure)
        figure.set_layout_engine("none")
        for path in paths:
            _save(figure, path, sharpness * DPI)


def _save(figure: Figure, path: Path, dpi: int) -> None:
    try:
        with placed(path) as aside:
            if path.suffix == ".pdf":
                # Without its date the same figure is the same file.
                figure.savefig(aside, format="pdf", metadata={"CreationDate": None})
            else:
                figure.savefig(aside, format="png", dpi=dpi)
    except OSError as error:
        raise CrlscError(f"{path}: cannot be written ({error.strerror}); choose another file") from None
