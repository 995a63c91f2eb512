"""Curves that other tools found: their CSV files, read into a run's folder and from there into its report."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crlsc_phy.errors import SweepError
from crlsc_phy.files import write_text
from crlsc_phy.report.measures import MEASURES
from crlsc_phy.report.results import UNKNOWN, Estimate

__all__ = ["FOLDER", "ForeignLine", "import_curves", "read_imported"]

FOLDER = "imported"
COLUMNS = ("curve", "channel", "snr_db", "measure", "value", "low", "high")

_SNR_NAMES = ("snr_db", "snr", "snr [db]", "snr (db)", "esn0", "esn0_db", "es/n0", "es/n0 [db]", "es/n0 (db)")
_NOT_MEASURED = ("", "nan", "na", "n/a", "-")


@dataclass(frozen=True)
class ForeignLine:
    """A curve over a channel that this run did not find.

    Attributes:
        curve, channel: Their names.
        estimates: By measure and SNR in dB.
    """

    curve: str
    channel: str
    estimates: Mapping[tuple[str, float], Estimate] = field(default_factory=dict)

    @property
    def snrs(self) -> Sequence[float]:
        return sorted({snr for _, snr in self.estimates})

    def estimate(self, snr_db: float, measure: str) -> Estimate:
        return self.estimates.get((measure, snr_db), UNKNOWN)


@dataclass(frozen=True)
class _Row:
    curve: str
    channel: str
    snr_db: float
    measure: str
    value: float
    low: float = math.nan
    high: float = math.nan


def import_curves(
    source: Path, folder: Path, name: str, channel: str, columns: Mapping[str, str] | None = None, measure: str = ""
) -> list[ForeignLine]:
    """Take the curves of a CSV file into a run's folder; a file of the same name is replaced.

    The file has a header, and commas, semicolons or tabs between its fields. Three forms are read: a column a measure;
    a column a curve (with ``measure``); and ``measure`` and ``value`` as columns, as in ``results.csv``. The SNR is
    Es/N0 in dB, in a column ``snr_db``, ``snr`` or ``esn0``. Columns ``curve`` and ``channel`` are heeded.

    Args:
        source: The file.
        folder: Of the run.
        name: Of the curves; those of a file with several are called ``name: curve``.
        channel: Over which they were found, where the file does not say.
        columns: What the file calls a column, by what it is called here: ``snr_db``, ``curve``, ``channel`` or a
            measure.
        measure: What the columns of a file with a column a curve hold.

    Raises:
        SweepError: If the file cannot be read or understood.
    """
    if not re.fullmatch(r"[\w][\w .+-]*", name):
        raise SweepError(f"{name!r} is no name for curves: letters, digits, spaces and . + - make one")
    rows = list(_read_foreign(source, name, channel, columns or {}, measure))
    if not rows:
        raise SweepError(f"{source}: holds no values")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([getattr(row, column) for column in COLUMNS])
    try:
        (folder / FOLDER).mkdir(exist_ok=True)
        write_text(folder / FOLDER / f"{name}.csv", text.getvalue())
    except OSError as error:
        raise SweepError(f"{folder / FOLDER}: cannot be written ({error.strerror})") from None
    return _as_lines(rows)


def read_imported(folder: Path) -> list[ForeignLine]:
    """The curves that a run's folder was given, in the order of their files' names.

    Raises:
        SweepError: If a file is damaged.
    """
    rows: list[_Row] = []
    for path in sorted((folder / FOLDER).glob("*.csv")):
        header, table = _table(path)
        if tuple(header) != COLUMNS:
            raise SweepError(f"{path}: has not the columns {', '.join(COLUMNS)}; import the curves again")
        for place, fields in table:
            values = [_number(place, column, fields[column]) for column in ("snr_db", "value", "low", "high")]
            snr_db, value, low, high = values
            measure = _known_measure(place, fields["measure"])
            rows.append(_Row(fields["curve"], fields["channel"], snr_db, measure, value, low, high))
    return _as_lines(rows)


def _as_lines(rows: Sequence[_Row]) -> list[ForeignLine]:
    lines: dict[tuple[str, str], dict[tuple[str, float], Estimate]] = {}
    for row in rows:
        estimates = lines.setdefault((row.curve, row.channel), {})
        estimates[row.measure, row.snr_db] = Estimate(row.value, row.low, row.high)
    return [ForeignLine(*names, estimates) for names, estimates in lines.items()]


def _table(path: Path) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """Header and rows of a CSV file; each row with the place to name in an error."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SweepError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SweepError(f"{path}: is no text in UTF-8; save it as CSV, UTF-8") from None
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise SweepError(f"{path}: is no CSV ({error})") from None
    header = [field.strip() for field in rows[0]] if rows else []
    if len(header) < 2 or len(set(header)) < len(header):
        raise SweepError(f"{path}: needs a header with two columns or more, each of another name")
    table = []
    for number, fields in enumerate(rows[1:], 2):
        if not any(field.strip() for field in fields):
            continue
        if len(fields) != len(header):
            hint = "; write numbers with a decimal point, or put semicolons between fields" if delimiter == "," else ""
            raise SweepError(f"{path}:{number}: has {len(fields)} fields, the header {len(header)}{hint}")
        table.append((f"{path}:{number}", dict(zip(header, (field.strip() for field in fields), strict=True))))
    return header, table


@dataclass(frozen=True)
class _Columns:
    """Which column of a file holds what.

    Attributes:
        snr, curve, channel: Their names; None where the file has no such column.
        values: Names of the columns with figures, by measure; by curve if ``measure`` is given.
        long: Whether ``measure`` and ``value`` are columns themselves, and ``values`` empty.
    """

    snr: str
    curve: str | None
    channel: str | None
    values: Mapping[str, str]
    long: bool


def _find_columns(path: Path, header: list[str], given: Mapping[str, str], measure: str) -> _Columns:
    for ours, theirs in given.items():
        if theirs not in header:
            raise SweepError(f"{path}: has no column {theirs!r} for {ours}; it has {', '.join(header)}")
    lower = {column.lower(): column for column in header}
    snr = given.get("snr_db") or given.get("snr") or next((lower[name] for name in _SNR_NAMES if name in lower), None)
    if snr is None:
        energy = " (Es/N0, not Eb/N0: convert it first)" if any("eb" in column for column in lower) else ""
        raise SweepError(f"{path}: which column is the SNR{energy}? Say --columns snr=NAME; it has {', '.join(header)}")
    curve, channel = (given.get(name, lower.get(name)) for name in ("curve", "channel"))
    chosen = {name: column for name, column in given.items() if name in MEASURES}
    if measure and chosen:
        raise SweepError("--measure says that each column is a curve; leave the measures out of --columns")
    if measure:
        _known_measure("--measure", measure)
        values = {column: column for column in header if column not in (snr, curve, channel)}
        return _Columns(snr, curve, channel, values, long=False)
    if not chosen and {"measure", "value"} <= lower.keys():
        return _Columns(snr, curve, channel, {}, long=True)
    values = chosen or {name: lower[name] for name in MEASURES if name in lower}
    if not values:
        raise SweepError(
            f"{path}: no column is called like a measure ({', '.join(MEASURES)}); say --columns MEASURE=NAME, "
            "or --measure MEASURE if each column is a curve"
        )
    return _Columns(snr, curve, channel, values, long=False)


def _read_foreign(path: Path, name: str, channel: str, given: Mapping[str, str], measure: str) -> Iterator[_Row]:
    header, table = _table(path)
    columns = _find_columns(path, header, given, measure)
    for place, fields in table:
        own = fields[columns.curve] if columns.curve else ""
        over = fields[columns.channel] if columns.channel else channel
        if not over:
            raise SweepError(f"{path}: over which of the run's channels? Say --channel NAME")
        snr_db = _number(place, columns.snr, fields[columns.snr])
        if math.isnan(snr_db):
            raise SweepError(f"{place}: has no SNR")
        for label, key, *estimate in _cells(place, fields, columns, own, measure):
            if not math.isnan(estimate[0]):
                yield _Row(f"{name}: {label}" if label else name, over, snr_db, key, *estimate)


def _cells(
    place: str, fields: Mapping[str, str], columns: _Columns, own: str, measure: str
) -> Iterator[tuple[str, str, float, float, float]]:
    """The figures of a row: curve, measure, value, low and high."""
    if columns.long:
        lower = {column.lower(): text for column, text in fields.items()}
        found = _known_measure(place, lower["measure"])
        low, high = (_number(place, end, lower.get(end, "")) for end in ("low", "high"))
        yield own, found, _number(place, "value", lower["value"], found), low, high
    for key, column in columns.values.items():
        found = measure or key
        yield key if measure else own, found, _number(place, column, fields[column], found), math.nan, math.nan


def _known_measure(place: str, name: str) -> str:
    if name not in MEASURES:
        raise SweepError(f"{place}: {name!r} is no measure; there are {', '.join(MEASURES)}")
    return name


def _number(place: str, column: str, text: str, measure: str = "") -> float:
    """A field as a number, NaN where nothing was measured; ``measure`` says which values it can have."""
    if text.lower() in _NOT_MEASURED:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        hint = "; write it with a decimal point" if re.fullmatch(r"[-+]?\d*,\d+(e[-+]?\d+)?", text, re.I) else ""
        raise SweepError(f"{place}: {column} is {text!r}, no number{hint}") from None
    if math.isinf(value):
        raise SweepError(f"{place}: {column} is infinite")
    if measure and MEASURES[measure].kind != "mean" and not 0 <= value <= 1:
        raise SweepError(f"{place}: {column} is {text}; {measure} is a rate between 0 and 1, not per cent")
    return value
