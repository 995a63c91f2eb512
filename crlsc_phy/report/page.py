"""HTML pages that stand alone: figures of curves against SNR as plots and tables, all in one file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from crlsc_phy.errors import CrlscError
from crlsc_phy.files import write_text
from crlsc_phy.report.curves import Look
from crlsc_phy.report.measures import MEASURES, Measure
from crlsc_phy.report.results import Curve

__all__ = ["chart_data", "ranges", "signed", "write_page"]

_TEMPLATES = "templates"


def write_page(path: Path, template: str, **values: Any) -> None:
    """Write a page.

    Args:
        path: The file.
        template: Name of one in the folder ``templates``. All that it is given is escaped.
        values: What it shows.

    Raises:
        CrlscError: If the libraries are missing, or the file cannot be written.
    """
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise CrlscError(f"reports need {error.name}; pip install 'crlsc-phy[sweep]' or run make setup") from None
    folder = resources.files("crlsc_phy.report") / _TEMPLATES
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "allow_nan": False}
    environment.filters |= {"figure": figure, "signed": signed}
    # Ours and plotly's own: no input is in them.
    parts = {name: (folder / file).read_text(encoding="utf-8") for name, file in _PARTS.items()}
    try:
        write_text(path, environment.get_template(template).render(**parts, plotly=get_plotlyjs(), **values))
    except OSError as error:
        raise CrlscError(f"{path}: cannot be written ({error.strerror}); choose another place") from None


_PARTS = {"style": "page.css", "script": "charts.js"}


def chart_data(curves: Sequence[Curve], measures: Iterable[str], look: Mapping[str, Look]) -> dict[str, Any]:
    """What ``charts.js`` draws, ready for JSON: NaN becomes null.

    Args:
        curves: In the order in which they are shown.
        measures: Names of those to show.
        look: Of each curve, by name.
    """
    shown = list(measures)
    return {
        "measures": {name: _axis(MEASURES[name]) for name in shown},
        "channels": list(dict.fromkeys(curve.channel for curve in curves)),
        "curves": {
            name: {"colour": look.colour, "symbol": look.symbol, "own": look.own, "imported": look.imported}
            for name, look in look.items()
        },
        "lines": [
            {
                "curve": curve.curve,
                "channel": curve.channel,
                "snr": list(curve.snrs),
                "values": {name: values for name in shown if (values := _values(curve, name))},
            }
            for curve in curves
        ],
    }


def _axis(measure: Measure) -> dict[str, str | bool]:
    rate = measure.kind != "mean" and not measure.logarithmic
    return {"title": measure.title, "unit": measure.unit, "log": measure.logarithmic, "rate": rate}


def _values(curve: Curve, measure: str) -> dict[str, list[float | int | None]] | None:
    """The figures of a line; None if it has none."""
    estimates = [curve.estimate(snr, measure) for snr in curve.snrs]
    if all(math.isnan(estimate.value) for estimate in estimates):
        return None
    return {
        key: [_finite(getattr(estimate, key)) for estimate in estimates]
        for key in ("value", "low", "high", "n", "events")
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def figure(value: float) -> str:
    """A number to read: two decimals from 1 on, three below, three digits where those say nothing; a dash for NaN."""
    size = abs(value)
    if math.isnan(value):
        return "–"
    if size >= 1000:
        text = f"{value:,.0f}"
    elif size >= 1:
        text = f"{value:.2f}"
    else:
        text = f"{value:.3f}" if size >= 1e-3 or not value else f"{value:.2e}"
    return text.replace("-", "−")


def signed(value: float) -> str:
    """The same with its sign."""
    return f"+{figure(value)}" if value > 0 else figure(value)


def ranges(snrs: Sequence[float], all_snrs: Sequence[float]) -> str:
    """SNRs in words, such as ``-10 to 5 and 15 dB``; neighbours among ``all_snrs`` make a range."""
    places = [all_snrs.index(snr) for snr in snrs]
    groups: list[list[int]] = []
    for place in places:
        if groups and place == groups[-1][-1] + 1:
            groups[-1].append(place)
        else:
            groups.append([place])
    words = [
        f"{all_snrs[group[0]]:g} to {all_snrs[group[-1]]:g}" if len(group) > 1 else f"{all_snrs[group[0]]:g}"
        for group in groups
    ]
    return (", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]).replace(
        "-", "−"
    ) + "\N{NO-BREAK SPACE}dB"
