"""Curves of other tools: CSV files that are taken into a run's folder and shown in its report."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crlsc_phy.errors import SweepError
from crlsc_phy.files import short_name, write_text
from crlsc_phy.report.measures import MEASURES, check_measure
from crlsc_phy.report.results import UNKNOWN, Curve, Estimate

__all__ = ["FOLDER", "ImportedLine", "import_curves", "read_imported"]

FOLDER = "imported"
COLUMNS = ("curve", "channel", "snr_db", "measure", "value", "low", "high")

_SNR_NAMES = ("snr_db", "snr", "snr [db]", "snr (db)", "esn0", "esn0_db", "es/n0", "es/n0 [db]", "es/n0 (db)")
_NOT_MEASURED = ("", "nan", "na", "n/a", "-")


@dataclass(frozen=True)
class ImportedLine(Curve):
    """An imported curve; ``estimates`` holds its estimates by measure and SNR in dB."""

    estimates: Mapping[tuple[str, float], Estimate] = field(default_factory=dict)

    @property
    def snrs(self) -> Sequence[float]:
        return sorted({snr for _, snr in self.estimates})

    def estimate(self, snr_db: float, measure: str) -> Estimate:
        return self.estimates.get((measure, snr_db), UNKNOWN)


_Row = tuple[str, str, float, str, float, float, float]
"""A value, in the order of :data:`COLUMNS`."""


def import_curves(
    source: Path, folder: Path, name: str, channel: str, columns: Mapping[str, str] | None = None, measure: str = ""
) -> list[ImportedLine]:
    """Copy the curves of a CSV file into a run's folder; curves imported under the same name are replaced.

    The file is UTF-8 with a header, and commas, semicolons or tabs between its fields. Three forms are read: one
    column per measure; one column per curve (with ``measure``); and columns ``measure`` and ``value``, as in
    ``results.csv``. The SNR is Es/N0 in dB, in a column ``snr_db``, ``snr`` or ``esn0``. The columns ``curve`` and
    ``channel`` are optional.

    Args:
        source: CSV file.
        folder: Folder of the run.
        name: Name of the curve. If the file has several, they are called ``name: curve``.
        channel: Channel of the curves, for files without a column ``channel``.
        columns: Names of the file's columns, by the names used here: ``snr_db``, ``curve``, ``channel`` or a measure.
        measure: Measure in all columns of a file with one column per curve.

    Returns:
        The imported curves.

    Raises:
        SweepError: If the file cannot be read, or its content is not understood.
    """
    if not re.fullmatch(r"[\w][\w .+-]*", name):
        raise SweepError(f"name {name!r} cannot be used; take letters, digits, spaces, '.', '+' and '-'")
    rows = list(_read_foreign(source, name, channel, columns or {}, measure))
    if not rows:
        raise SweepError(f"{source}: holds no values")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([COLUMNS, *rows])
    try:
        (folder / FOLDER).mkdir(exist_ok=True)
        write_text(folder / FOLDER / f"{short_name(name)}.csv", text.getvalue())
    except OSError as error:
        raise SweepError(f"{folder / FOLDER}: cannot be written ({error.strerror})") from None
    return _as_lines(rows)


def read_imported(folder: Path) -> list[ImportedLine]:
    """Return the imported curves of a run's folder, in the order of their file names.

    Raises:
        SweepError: If a file is damaged.
    """
    rows: list[_Row] = []
    for path in sorted((folder / FOLDER).glob("*.csv")):
        header, table = _table(path)
        if tuple(header) != COLUMNS:
            raise SweepError(f"{path}: lacks the columns {', '.join(COLUMNS)}; import the curves again")
        for place, fields in table:
            snr_db, value, low, high = (
                _number(place, each, fields[each]) for each in ("snr_db", "value", "low", "high")
            )
            measure = check_measure(fields["measure"], place)
            rows.append((fields["curve"], fields["channel"], snr_db, measure, value, low, high))
    return _as_lines(rows)


def _as_lines(rows: Sequence[_Row]) -> list[ImportedLine]:
    lines: dict[tuple[str, str], dict[tuple[str, float], Estimate]] = {}
    for curve, channel, snr_db, measure, value, low, high in rows:
        lines.setdefault((curve, channel), {})[measure, snr_db] = Estimate(value, low, high)
    return [ImportedLine(*names, estimates) for names, estimates in lines.items()]


def _table(path: Path) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """Return the header and the rows of a CSV file; each row has its place for error messages."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SweepError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SweepError(f"{path}: is not UTF-8; save it as CSV in UTF-8") from None
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise SweepError(f"{path}: is not CSV ({error})") from None
    header = [field.strip() for field in rows[0]] if rows else []
    if len(header) < 2 or len(set(header)) < len(header):
        raise SweepError(f"{path}: needs a header with two or more columns of different names")
    table = []
    for number, fields in enumerate(rows[1:], 2):
        if not any(field.strip() for field in fields):
            continue
        if len(fields) != len(header):
            hint = "; write numbers with a decimal point, or put semicolons between fields" if delimiter == "," else ""
            raise SweepError(f"{path}:{number}: has {len(fields)} fields, the header has {len(header)}{hint}")
        table.append((f"{path}:{number}", dict(zip(header, (field.strip() for field in fields), strict=True))))
    return header, table


@dataclass(frozen=True)
class _Columns:
    """Names of the columns of a file; None where it has none.

    ``values`` are the columns with values by measure, or by curve if each column is a curve. It is empty if ``measure``
    and ``value`` are columns.
    """

    snr: str
    curve: str | None
    channel: str | None
    values: Mapping[str, str]


def _find_columns(path: Path, header: list[str], given: Mapping[str, str], measure: str) -> _Columns:
    for ours, theirs in given.items():
        if theirs not in header:
            raise SweepError(f"{path}: has no column {theirs!r} for {ours}; choose one of {', '.join(header)}")
    lower = {column.lower(): column for column in header}
    snr = given.get("snr_db") or given.get("snr") or next((lower[name] for name in _SNR_NAMES if name in lower), None)
    if snr is None:
        energy = " (Es/N0; convert Eb/N0 first)" if any("eb" in column for column in lower) else ""
        raise SweepError(
            f"{path}: no column is known to be the SNR{energy}; give --columns snr=NAME with one of {', '.join(header)}"
        )
    curve, channel = (given.get(name, lower.get(name)) for name in ("curve", "channel"))
    chosen = {name: column for name, column in given.items() if name in MEASURES}
    if measure and chosen:
        raise SweepError("--measure means that each column is a curve; leave the measures out of --columns")
    if measure:
        check_measure(measure, "--measure")
        values = {column: column for column in header if column not in (snr, curve, channel)}
        return _Columns(snr, curve, channel, values)
    if not chosen and {"measure", "value"} <= lower.keys():
        return _Columns(snr, curve, channel, {})
    values = chosen or {name: lower[name] for name in MEASURES if name in lower}
    if not values:
        raise SweepError(
            f"{path}: no column has the name of a measure ({', '.join(MEASURES)}); give --columns MEASURE=NAME, "
            "or --measure MEASURE if each column is a curve"
        )
    return _Columns(snr, curve, channel, values)


def _read_foreign(path: Path, name: str, channel: str, given: Mapping[str, str], measure: str) -> Iterator[_Row]:
    header, table = _table(path)
    columns = _find_columns(path, header, given, measure)
    for place, fields in table:
        own = fields[columns.curve] if columns.curve else ""
        over = fields[columns.channel] if columns.channel else channel
        if not over:
            raise SweepError(f"{path}: the channel is not known; give --channel NAME, a channel of the run")
        snr_db = _number(place, columns.snr, fields[columns.snr])
        if math.isnan(snr_db):
            raise SweepError(f"{place}: has no SNR")
        for label, key, value, low, high in _cells(place, fields, columns, own, measure):
            if not math.isnan(value):
                yield f"{name}: {label}" if label else name, over, snr_db, key, value, low, high


def _cells(
    place: str, fields: Mapping[str, str], columns: _Columns, own: str, measure: str
) -> Iterator[tuple[str, str, float, float, float]]:
    """Yield the values of a row: curve, measure, value, low and high."""
    if not columns.values:
        lower = {column.lower(): text for column, text in fields.items()}
        found = check_measure(lower["measure"], place)
        low, high = (_number(place, end, lower.get(end, "")) for end in ("low", "high"))
        yield own, found, _number(place, "value", lower["value"], found), low, high
    for key, column in columns.values.items():
        found = measure or key
        yield key if measure else own, found, _number(place, column, fields[column], found), math.nan, math.nan


def _number(place: str, column: str, text: str, measure: str = "") -> float:
    """Read a field as a number, NaN where nothing was measured; a rate ``measure`` must be between 0 and 1."""
    if text.lower() in _NOT_MEASURED:
        return math.nan
    try:
        # Python, but no other reader of CSV, takes 1_000 for a number.
        value = float(text.replace("_", "?"))
    except ValueError:
        comma = re.fullmatch(r"[-+]?\d*,\d+(e[-+]?\d+)?", text, re.I)
        hint = "; write it with a decimal point" if comma else ""
        raise SweepError(f"{place}: {column} is {text!r}, not a number{hint}") from None
    if not math.isfinite(value):
        raise SweepError(f"{place}: {column} is {text!r}; give a finite number, or nothing where none was measured")
    if measure and MEASURES[measure].kind != "mean" and not 0 <= value <= 1:
        raise SweepError(f"{place}: {column} is {text}; {measure} is a rate between 0 and 1, not a percentage")
    return value
