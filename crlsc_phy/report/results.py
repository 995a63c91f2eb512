"""The results of a sweep: the rows of its folder, grouped into lines and points, with 95 % intervals."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from crlsc_phy.errors import SweepError
from crlsc_phy.quality.intervals import bootstrap, rate_interval
from crlsc_phy.report.measures import MEASURES, RATES

__all__ = [
    "CONFIG",
    "OWN_CHAINS",
    "RESULTS",
    "UNKNOWN",
    "Curve",
    "Estimate",
    "Failure",
    "LineResults",
    "Point",
    "Result",
    "SweepRun",
    "read_run",
]

CONFIG, RESULTS = "config.yaml", "results.jsonl"
OWN_CHAINS = frozenset({"digital", "semantic", "analog", "hybrid"})
"""Chains of this project; all others are baselines."""


@dataclass(frozen=True)
class Estimate:
    """A measure at one point, with its 95 % interval.

    Attributes:
        value: The estimate; NaN if it was not measured.
        low, high: Ends of the interval; NaN if there are too few results for one.
        n: Number of trials: bits, blocks or frames for a count, images for other measures.
        events: Number of events among the trials; None for means.
    """

    value: float
    low: float
    high: float
    n: int = 0
    events: int | None = None


UNKNOWN = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class _Row:
    """The job that a row belongs to."""

    job: str
    line: str
    curve: str
    channel: str
    snr_db: float
    replica: int


@dataclass(frozen=True)
class Result(_Row):
    """The row of a job that was done; see :class:`crlsc_phy.link.chain.Outcome`.

    Attributes:
        counts: Raw counts by name.
        image: Name of the image that was sent; None for links of bits.
        metrics: Metrics of the image by name, without those that were not measured.
        cpu_s, wall_s: CPU time and elapsed time in seconds.
    """

    counts: Mapping[str, int]
    image: str | None
    metrics: Mapping[str, float]
    cpu_s: float
    wall_s: float


@dataclass(frozen=True)
class Failure(_Row):
    """The row of a job that failed twice."""

    error: str


_ROW: TypeAdapter[Failure | Result] = TypeAdapter(
    Annotated[Failure | Result, Field(union_mode="left_to_right")], config=ConfigDict(allow_inf_nan=False)
)


@dataclass(frozen=True)
class Point:
    """Results of a line at one SNR, ordered by replica; empty if none has been run yet."""

    results: tuple[Result, ...]

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Sum of the raw counts."""
        total: Counter[str] = Counter()
        for result in self.results:
            total.update(result.counts)
        return total

    @property
    def cpu_s(self) -> float:
        """CPU time of the jobs in seconds."""
        return sum(result.cpu_s for result in self.results)

    def by_image(self, measure: str) -> dict[str, list[float]]:
        """Return the values of a measure by image; each result without an image is a group of its own."""
        values: dict[str, list[float]] = defaultdict(list)
        for result in self.results:
            if measure in result.metrics:
                values[result.image or f"replica {result.replica}"].append(result.metrics[measure])
        return values

    def per_replica(self, measure: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the events and trials of a ``count``, int64 [replicas] each, for the replicas that have any."""
        event, trial = RATES[measure]
        pairs = [
            (result.counts.get(event, 0), result.counts[trial]) for result in self.results if result.counts.get(trial)
        ]
        events, trials = np.asarray(pairs, np.int64).reshape(-1, 2).T
        return events, trials

    def estimate(self, measure: str) -> Estimate:
        """Return a measure with its interval, :data:`UNKNOWN` if it was not measured."""
        if measure not in self._estimates:
            self._estimates[measure] = self._estimate(measure)
        return self._estimates[measure]

    @cached_property
    def _estimates(self) -> dict[str, Estimate]:
        return {}

    def _estimate(self, measure: str) -> Estimate:
        kind = MEASURES[measure].kind
        if kind == "count":
            events, trials = self.per_replica(measure)
            if not len(trials):
                return UNKNOWN
            happened, tried = int(events.sum()), int(trials.sum())
            return Estimate(happened / tried, *rate_interval(events, trials), tried, happened)
        groups = self.by_image(measure)
        if not groups:
            return UNKNOWN
        values = np.concatenate([np.asarray(group) for group in groups.values()])
        sizes = np.array([len(group) for group in groups.values()])
        if kind == "hit":
            return _hits(np.array([sum(group) for group in groups.values()]), sizes)
        # One image says nothing of others.
        ends = bootstrap(values, np.repeat(np.arange(len(sizes)), sizes)) if len(sizes) > 1 else (math.nan, math.nan)
        return Estimate(float(values.mean()), *ends, len(values))


def _hits(hits: NDArray[np.float64], sizes: NDArray[np.int64]) -> Estimate:
    happened, tried = int(hits.sum()), int(sizes.sum())
    # Replicas of one picture are little new evidence. If all are hits, or none, the spread cannot tell how little: each
    # picture then counts once.
    alike = happened in (0, tried)
    ends = rate_interval(hits / sizes, np.ones(len(sizes))) if alike else rate_interval(hits, sizes)
    return Estimate(happened / tried, *ends, tried, happened)


@dataclass(frozen=True)
class Curve(ABC):
    """A curve over one channel: a line of this run, or an imported one.

    Attributes:
        curve, channel: Names of the curve and of the channel.
    """

    curve: str
    channel: str

    @property
    @abstractmethod
    def snrs(self) -> Sequence[float]:
        """Es/N0 of the points in dB, ascending."""

    @abstractmethod
    def estimate(self, snr_db: float, measure: str) -> Estimate:
        """Return a measure at an SNR, :data:`UNKNOWN` if there is none."""

    def has(self, measure: str) -> bool:
        """Return whether a measure is known at any SNR."""
        return any(not math.isnan(self.estimate(snr, measure).value) for snr in self.snrs)


@dataclass(frozen=True)
class LineResults(Curve):
    """Results of a line.

    Attributes:
        id: Hash of everything that decides the results.
        points: Points by SNR in dB, ascending.
    """

    id: str
    points: Mapping[float, Point]

    @property
    def snrs(self) -> Sequence[float]:
        return tuple(self.points)

    def estimate(self, snr_db: float, measure: str) -> Estimate:
        point = self.points.get(snr_db)
        return point.estimate(measure) if point else UNKNOWN


@dataclass(frozen=True)
class SweepRun:
    """Contents of a sweep's folder.

    Attributes:
        folder: The folder.
        config: Configuration of the run, as YAML values.
        lines: Lines in the order of the configuration: by channel, then by curve.
        failures: Jobs that failed and were not done later.
    """

    folder: Path
    config: Mapping[str, Any]
    lines: tuple[LineResults, ...] = ()
    failures: tuple[Failure, ...] = field(default=())

    @property
    def results(self) -> Iterator[Result]:
        """All rows of jobs that were done."""
        return (result for line in self.lines for point in line.points.values() for result in point.results)

    def configured(self) -> SweepRun:
        """Return the run without lines that an earlier configuration left in the folder."""
        planned = {
            (name, channel)
            for name, curve in self.config["curves"].items()
            for channel in curve.get("channels", self.config["channels"])
        }
        return replace(self, lines=tuple(line for line in self.lines if (line.curve, line.channel) in planned))

    def is_own(self, curve: str) -> bool:
        """Return whether a curve's chain is one of :data:`OWN_CHAINS`."""
        return self.config["curves"].get(curve, {}).get("chain") in OWN_CHAINS


def read_run(folder: str | Path) -> SweepRun:
    """Read a sweep's folder; the run may still be going on.

    A last row that was cut off is left out.

    Raises:
        SweepError: If the folder holds no run, or a row is damaged.
    """
    folder = Path(folder)
    config = _read_config(folder / CONFIG)
    results, failures = _read_rows(folder / RESULTS)
    return SweepRun(folder, config, _lines(folder, config, results), tuple(failures))


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise SweepError(f"{path.parent}: holds no {CONFIG}; name the --out folder of crlsc-sweep run") from None
    except (UnicodeDecodeError, yaml.YAMLError):
        config = None
    if not isinstance(config, dict) or not all(isinstance(config.get(name), dict) for name in ("channels", "curves")):
        raise SweepError(f"{path}: is damaged; start the run again with the same configuration") from None
    return config


def _read_rows(path: Path) -> tuple[list[Result], list[Failure]]:
    try:
        # A row without a line end was cut off.
        *whole, _ = path.read_bytes().split(b"\n")
    except OSError:
        raise SweepError(f"{path.parent}: holds no {RESULTS}; start the run first: crlsc-sweep run") from None
    results: dict[str, Result] = {}
    failures: dict[str, Failure] = {}
    for number, row in enumerate(whole, 1):
        try:
            result = _ROW.validate_json(row)
        except ValidationError:
            raise SweepError(
                f"{path}:{number}: the row is damaged; delete this line and start the run again, which repeats the job"
            ) from None
        if isinstance(result, Failure):
            failures[result.job] = result
        else:
            # A job has one outcome, however often its row is there.
            results.setdefault(result.job, result)
    return list(results.values()), [failure for job, failure in failures.items() if job not in results]


def _lines(folder: Path, config: Mapping[str, Any], results: Iterable[Result]) -> tuple[LineResults, ...]:
    lines: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        lines[result.channel, result.curve].append(result)
    # Lines that the configuration does not have come last.
    places = [{name: place for place, name in enumerate(config[kind])} for kind in ("channels", "curves")]
    ordered = sorted(
        lines, key=lambda names: [place.get(name, len(place)) for place, name in zip(places, names, strict=True)]
    )
    planned = {name: curve.get("snr_db") or () for name, curve in config["curves"].items()}
    return tuple(_line(folder, lines[names], planned.get(names[1], ())) for names in ordered)


def _line(folder: Path, results: Sequence[Result], planned: Iterable[float]) -> LineResults:
    """Return a line with all its points, including planned ones that have no result yet."""
    first = results[0]
    if any(result.line != first.line for result in results):
        raise SweepError(
            f"{folder / RESULTS}: {first.curve!r} over {first.channel!r} was run with two configurations; "
            "run each into a folder of its own"
        )
    points: dict[float, list[Result]] = {float(snr): [] for snr in planned}
    for result in sorted(results, key=lambda result: result.replica):
        points.setdefault(result.snr_db, []).append(result)
    return LineResults(
        first.curve, first.channel, first.line, {snr: Point(tuple(points[snr])) for snr in sorted(points)}
    )
