"""HTML pages of a report: plots, tables and pictures in one file that needs no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from crlsc_phy.errors import CrlscError
from crlsc_phy.files import write_text

__all__ = ["figure", "ranges", "signed", "typeset", "write_page"]


def write_page(path: Path, template: str, **values: Any) -> None:
    """Render a file of the folder ``templates`` to an HTML file; the template escapes the text of its variables.

    Raises:
        CrlscError: If Jinja or plotly is not installed, or the file cannot be written.
    """
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise CrlscError(f"reports need {error.name}; pip install 'crlsc-phy[sweep]' or run make setup") from None
    folder = resources.files("crlsc_phy.report") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "allow_nan": False}
    environment.filters |= {
        "figure": lambda value: typeset(figure(value)) or "–",
        "signed": lambda value: typeset(signed(value)) or "–",
        "snr": lambda snr_db: typeset(f"{snr_db:g}"),
    }
    # The style sheet and the scripts are ours and plotly's, so they go in unescaped.
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    page = environment.get_template(template).render(style=style, script=script, plotly=get_plotlyjs(), **values)
    try:
        write_text(path, page)
    except OSError as error:
        raise CrlscError(f"{path}: cannot be written ({error.strerror}); choose another place") from None


def figure(value: float) -> str:
    """Format a number in ASCII: two decimals from 1 on, three below, three digits below 0.001; empty for NaN."""
    size = abs(value)
    if math.isnan(value):
        return ""
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 1:
        return f"{value:.2f}"
    return f"{value:.3f}" if size >= 1e-3 or not value else f"{value:.2e}"


def signed(value: float) -> str:
    """Format a number like :func:`figure`, with a plus where it is positive."""
    return f"+{figure(value)}" if value > 0 else figure(value)


def typeset(text: str) -> str:
    """Replace the hyphens of formatted numbers by minus signs."""
    return text.replace("-", "−")


def ranges(snrs: Sequence[float], all_snrs: Sequence[float]) -> str:
    """Write SNRs in words, such as ``-10 to 5 and 15 dB``; neighbours in ``all_snrs`` make a range."""
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
    text = ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]
    return typeset(text) + "\N{NO-BREAK SPACE}dB"
