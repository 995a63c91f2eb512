"""Link adaptation: reports of a receiver about bursts, and the sender's choice of the next MCS.

An outer loop over an SNR estimate. The receiver's SNR is smoothed, an offset is subtracted, and the result is compared
with the SNR that each option needs. Lost segments raise the offset and clean bursts lower it, in the ratio that
balances at the wanted loss (A. Sampath, P. S. Kumar, J. M. Holtzman, "On setting reverse link target SIR in a CDMA
system", VTC 1997). K. I. Pedersen et al., "Frequency domain scheduling for OFDMA with limited and noisy channel
feedback", VTC Fall 2007, use such an offset to correct errors of the SNR on which a sender bases its MCS.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import TypeGuard

from crlsc_phy.errors import ModemError
from crlsc_phy.phy.mcs import ANALOG_TABLE, MCS_TABLE
from crlsc_phy.phy.modem import Burst
from crlsc_phy.scalars import plain

__all__ = ["THRESHOLDS_DB", "LinkAdapter", "LinkReport", "analog_thresholds_db"]

THRESHOLDS_DB = (-3.2, -0.8, 1.4, 3.3, 4.5, 6.5, 9.2, 10.5, 14.3, 15.8, 17.4)
"""Es/N0 in dB at which 1 % of the segments of each MCS are lost: AWGN, 192 B, unknown timing, phase and CFO.

Measured by ``python benchmarks/mcs.py``, rounded to 0.1 dB.
"""

_INDICES = tuple(mcs.index for mcs in (*MCS_TABLE, *ANALOG_TABLE))
_REPETITIONS = tuple(mcs.rate[1] for mcs in ANALOG_TABLE)
_SEQUENCES = 1 << 16
# A report up to this far behind the newest is late; one further behind comes from a sender that restarted.
_LATE = 64
# Weight of the newest report in the quick average. The SNR has moved when the quick average differs from the slow one
# by this much; by chance that happens once in 10^5 reports if the standard deviation of a report is 0.5 dB.
_QUICK = 0.7
_MOVED_DB = 1.5
# Reports for which the quick average counts after that.
_RESTLESS = 32
# Rise of the offset after a burst that loses all its segments; less than the hysteresis, so that one is forgiven.
_RISE_DB = 0.4
# Hardly below 0: the thresholds are those of AWGN, and no channel is better.
_LEAST_OFFSET_DB = -0.25
_MOST_OFFSET_DB = 10.0
# Weight of the newest report in the loss record of an option, once it has 20.
_RECORD = 1 / 20
# Reports for which a failed option is not tried again: at first, growth if it fails within _LASTED reports, and most.
_FIRST_PAUSE = 8
_LONGER = 4
_LONGEST_PAUSE = 512
_LASTED = 64


@dataclass(frozen=True)
class LinkReport:
    """Report of a receiver to the sender about one burst; numpy scalars are taken as Python numbers.

    Attributes:
        sequence: Sequence number in the frame's header, 0 to 65535.
        snr_db: Estimated Es/N0 in dB, -100 to 100.
        mcs: Index of the burst's MCS, in ``MCS_TABLE`` or ``ANALOG_TABLE``.
        segments: Segments of the detail layer; 0 if there are none that could fail, as in analog mode.
        segment_failures: Lost segments.

    Raises:
        ModemError: If a value has the wrong type or is out of range.
    """

    sequence: int
    snr_db: float
    mcs: int
    segments: int
    segment_failures: int

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, plain(getattr(self, field.name)))
        for name, high in (
            ("sequence", _SEQUENCES - 1),
            ("mcs", _INDICES[-1]),
            ("segments", (1 << 24) - 1),
            ("segment_failures", self.segments),
        ):
            value: object = getattr(self, name)
            if not _is_number(value, int) or not 0 <= value <= high:
                raise ModemError(f"link report: {name} is {value!r}; it must be a whole number within 0 to {high}")
        if self.mcs not in _INDICES:
            raise ModemError(f"link report: mcs is {self.mcs}; it must be one of {', '.join(map(str, _INDICES))}")
        if not _is_number(self.snr_db, int, float) or not abs(self.snr_db) <= 100:
            raise ModemError(f"link report: snr_db is {self.snr_db!r}; it must be a number within -100 to 100")

    @classmethod
    def of(cls, burst: Burst) -> LinkReport:
        """Return the report about a received burst."""
        return cls(
            sequence=burst.frame.header.sequence,
            snr_db=burst.snr_db,
            mcs=burst.mcs.index,
            segments=burst.segments,
            segment_failures=burst.segment_failures,
        )

    def to_dict(self) -> dict[str, int | float]:
        """Return the attributes by name, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: object) -> LinkReport:
        """Make a report from the content of :meth:`to_dict`; further keys, as of a newer receiver, are ignored.

        Raises:
            ModemError: If ``content`` is not a mapping, lacks a key, or has a value of the wrong type or out of range.
        """
        if not isinstance(content, Mapping):
            raise ModemError(f"link report is of type {type(content).__name__}; it must be a mapping")
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in content]
        if missing:
            raise ModemError(f"link report lacks {', '.join(missing)}; it needs {', '.join(names)}")
        return cls(**{name: content[name] for name in names})


def analog_thresholds_db(target_snr_db: float, repetitions: Sequence[int] = _REPETITIONS) -> tuple[float, ...]:
    """Return thresholds with which a :class:`LinkAdapter` chooses the least repetition that reaches an SNR.

    The sum of r copies of an analog symbol has an SNR 10 log10 r dB above that of one copy.

    Args:
        target_snr_db: Wanted SNR of the sum, in dB.
        repetitions: Copies of a symbol, falling. The adapter's choice is an index into them, and by default into
            ``ANALOG_TABLE``.

    Returns:
        Es/N0 in dB that each repetition needs.

    Raises:
        ModemError: If the SNR is not a finite number, or the repetitions are not positive and falling.
    """
    target = plain(target_snr_db)
    if not _is_number(target, int, float) or not math.isfinite(target):
        raise ModemError(f"target_snr_db is {target!r}; it must be a finite number")
    copies = tuple(map(plain, repetitions))
    if not copies or not all(_is_number(r, int) and r >= 1 for r in copies) or any(b >= a for a, b in pairwise(copies)):
        raise ModemError(f"repetitions are {copies}; they must be positive and falling")
    return tuple(target - 10 * math.log10(r) for r in copies)


def _is_number(value: object, *types: type) -> TypeGuard[float]:
    """Return whether ``value`` is one of ``types``; to Python a bool is an int, to JSON it is not."""
    return isinstance(value, types) and not isinstance(value, bool)


class LinkAdapter:
    """Sender's choice, updated by one report per burst, among options in rising order of the SNR they need.

    **Down at once.** The adapter steps down when the SNR minus the offset is below what the option needs, or when the
    option fails: it loses half of two bursts in a row, or more than twice ``target_bler`` of its latest 20. A new
    option has a shorter record, so it fails with the first burst that it loses. A proven option is forgiven a single
    lost burst. Otherwise a link that loses a few bursts in a hundred to interference would end at the lowest option.

    **Up late.** The adapter steps up when the SNR minus the offset exceeds a higher option's need by the hysteresis in
    ``patience`` reports in a row, and goes straight to the highest option that all of them allow.

    Two things prevent switching to and fro on a constant channel:

    - The SNR is averaged over many reports. When a quick average differs from the slow one by 1.5 dB, averaging starts
      again, and the quick average counts while the SNR moves and for 32 reports after that.
    - A failed option is not tried again for 8 reports if it had lasted 64, else for 32. Each further failed trial
      makes this pause four times longer, up to 512 (after M. Lacage, M. H. Manshaei, T. Turletti, "IEEE 802.11 rate
      adaptation: a practical approach", MSWiM 2004). Where the channel is worse than the thresholds say, the next
      option always looks good and always fails. When the SNR moves, the pause is forgotten.

    Args:
        thresholds_db: SNR in dB that each option needs, rising.
        start: Option before the first report.
        target_bler: Share of lost segments at which the offset stands still, and which is about reached where the
            channel changes faster than the reports. The default is about the gain of the smallest step of
            ``MCS_TABLE``.
        margin_db: Required SNR above an option's threshold, in dB; each 0.3 dB divides the losses by ten or more.
        hysteresis_db: Required SNR above that, in dB, to step up to an option.
        smoothing: Weight of the newest report in the slow average.
        patience: Reports in a row that must allow a step up.

    Raises:
        ModemError: If an argument is not a number or is out of range.
    """

    def __init__(
        self,
        thresholds_db: Sequence[float] = THRESHOLDS_DB,
        start: int = 0,
        *,
        target_bler: float = 0.1,
        margin_db: float = 0.0,
        hysteresis_db: float = 0.5,
        smoothing: float = 0.05,
        patience: int = 2,
    ) -> None:
        needs = tuple(map(plain, thresholds_db))
        start, patience, target_bler = plain(start), plain(patience), plain(target_bler)
        margin_db, hysteresis_db, smoothing = plain(margin_db), plain(hysteresis_db), plain(smoothing)
        finite = all(_is_number(need, int, float) and math.isfinite(need) for need in needs)
        if not needs or not finite or not all(a < b for a, b in pairwise(needs)):
            raise ModemError(f"link adapter: thresholds_db is {needs}; it must be one or more, finite and rising")
        for name, value, types, good, wanted in (
            ("start", start, (int,), lambda v: 0 <= v < len(needs), f"a whole number within 0 to {len(needs) - 1}"),
            ("target_bler", target_bler, (int, float), lambda v: 0 < v < 1, "above 0 and below 1"),
            ("margin_db", margin_db, (int, float), math.isfinite, "finite"),
            ("hysteresis_db", hysteresis_db, (int, float), lambda v: 0 <= v < math.inf, "0 or more"),
            ("smoothing", smoothing, (int, float), lambda v: 0 < v <= 1, "above 0, at most 1"),
            ("patience", patience, (int,), lambda v: v >= 1, "a whole number, 1 or more"),
        ):
            if not _is_number(value, *types) or not good(value):
                raise ModemError(f"link adapter: {name} is {value!r}; it must be {wanted}")
        self._needs_db = tuple(need + margin_db for need in needs)
        self._hysteresis_db = hysteresis_db
        self._smoothing = smoothing
        self._patience = patience
        self._fall_db = _RISE_DB * target_bler / (1 - target_bler)
        self._most_loss = 2 * target_bler
        self._choice = start
        self._newest: int | None = None
        self._offset_db = 0.0
        # Reports in the slow average, 0 before the first; and reports for which the quick one still counts.
        self._reports = 0
        self._slow_db = 0.0
        self._quick_db = 0.0
        self._restless = 0
        # Reports in a row that allow a step up, and the highest option that all of them allow.
        self._streak = 0
        self._allowed = 0
        # Record of the choice: its reports, the average share lost, and whether the last one lost half its burst.
        self._stay = 0
        self._loss = 0.0
        self._failed = False
        # Lowest of the failed options, reports until they may be tried again, and the length of the last pause.
        self._barred = 0
        self._bar = 0
        self._pause = _FIRST_PAUSE

    @property
    def choice(self) -> int:
        """Index of the option for the next burst."""
        return self._choice

    @property
    def snr_db(self) -> float | None:
        """Smoothed SNR in dB; None before the first report and after a miss."""
        if not self._reports:
            return None
        return self._quick_db if self._restless else self._slow_db

    @property
    def offset_db(self) -> float:
        """Offset in dB that is subtracted from the SNR before it is compared."""
        return self._offset_db

    def update(self, report: LinkReport) -> int:
        """Process a report and choose the option for the next burst.

        A report that comes twice, or after that of a later burst, changes nothing. The losses of a report about a
        higher option than the present one do not count: it was on its way when the adapter stepped down.

        Args:
            report: Report whose ``mcs`` is the index of an option. With no segments, ``mcs`` is ignored.

        Returns:
            The new :attr:`choice`.

        Raises:
            ModemError: If the report is about an option that does not exist.
        """
        if report.segments and report.mcs >= len(self._needs_db):
            highest = len(self._needs_db) - 1
            raise ModemError(f"link report: mcs is {report.mcs}; this adapter has options 0 to {highest}")
        if self._newest is not None and (self._newest - report.sequence) % _SEQUENCES < _LATE:
            return self._choice
        self._newest = report.sequence
        snr_db = self._track(report.snr_db)
        if report.segments and (report.mcs <= self._choice or not report.segment_failures):
            self._learn(report.mcs, report.segment_failures / report.segments)
        self._compare(snr_db)
        return self._choice

    def miss(self) -> int:
        """Step down by one option, because no report came in time; return the new :attr:`choice`."""
        self._take(max(self._choice - 1, 0))
        # The cause of the silence may have changed the SNR.
        self._reports = 0
        return self._choice

    def _track(self, snr_db: float) -> float:
        """Average the SNR, and detect whether it has moved."""
        self._restless = max(self._restless - 1, 0)
        if self._reports:
            self._reports += 1
            self._slow_db += max(self._smoothing, 1 / self._reports) * (snr_db - self._slow_db)
            self._quick_db += _QUICK * (snr_db - self._quick_db)
        if not self._reports or abs(self._quick_db - self._slow_db) > _MOVED_DB:
            self._reports = 1
            self._slow_db = self._quick_db = snr_db
            self._restless = _RESTLESS
            self._bar, self._pause = 0, _FIRST_PAUSE
        return self._quick_db if self._restless else self._slow_db

    def _learn(self, option: int, lost: float) -> None:
        """Move the offset according to the share of a burst that was lost; step down if the option has failed."""
        # Losses of option 0 would only accumulate: there is no lower option.
        if option or not lost:
            offset = self._offset_db + _RISE_DB * lost - self._fall_db * (1 - lost)
            self._offset_db = min(max(offset, _LEAST_OFFSET_DB), _MOST_OFFSET_DB)
        failed = lost >= 0.5
        if option < self._choice and failed:
            self._take(option)
        if option != self._choice:
            return
        twice, self._failed = failed and self._failed, failed
        self._stay += 1
        self._loss += max(_RECORD, 1 / self._stay) * (lost - self._loss)
        if twice or (lost and self._loss > self._most_loss):
            self._leave(max(option - 1, 0))

    def _compare(self, snr_db: float) -> None:
        """Compare the SNR with the needs of the options, and step down or up."""
        level = snr_db - self._offset_db
        usable = self._highest(level)
        if usable < self._choice:
            # If the SNR alone allows the present option, its losses caused the step.
            if self._choice <= self._highest(snr_db):
                self._leave(usable)
            else:
                self._take(usable)
        self._bar = max(self._bar - 1, 0)
        allowed = self._highest(level - self._hysteresis_db)
        if self._bar:
            allowed = min(allowed, self._barred - 1)
        if allowed <= self._choice:
            self._streak = 0
            return
        self._allowed = min(allowed, self._allowed) if self._streak else allowed
        self._streak += 1
        if self._streak >= self._patience:
            self._take(self._allowed)

    def _highest(self, snr_db: float) -> int:
        """Return the highest option for which an SNR suffices; 0 if there is none."""
        return max(bisect_right(self._needs_db, snr_db) - 1, 0)

    def _leave(self, option: int) -> None:
        """Step down because of losses, and do not try the failed option again for a while."""
        self._pause = _FIRST_PAUSE if self._stay >= _LASTED else min(_LONGER * self._pause, _LONGEST_PAUSE)
        self._barred = min(self._choice, self._barred) if self._bar else self._choice
        self._bar = self._pause
        self._take(option)

    def _take(self, option: int) -> None:
        """Choose an option; a change begins a new record."""
        self._streak = 0
        if option != self._choice:
            self._choice, self._stay, self._loss, self._failed = option, 0, 0.0, False
