"""Link adaptation: what a receiver tells a sender about a burst, and the MCS that the sender takes for the next.

An outer loop over an SNR estimate. The receiver's SNR, smoothed and less an offset, is compared with the SNR that each
option needs. Lost segments raise the offset and clean bursts lower it, in the ratio that balances at a wanted loss
(A. Sampath, P. S. Kumar, J. M. Holtzman, "On setting reverse link target SIR in a CDMA system", VTC 1997). That such
an offset makes up for errors of the SNR on which a sender bases its MCS is from K. I. Pedersen et al., "Frequency
domain scheduling for OFDMA with limited and noisy channel feedback", VTC Fall 2007.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise

from crlsc_phy.errors import ModemError
from crlsc_phy.phy.mcs import ANALOG_TABLE, MCS_TABLE
from crlsc_phy.phy.modem import Burst

__all__ = ["THRESHOLDS_DB", "LinkAdapter", "LinkReport", "analog_thresholds_db"]

THRESHOLDS_DB = (-3.2, -0.8, 1.4, 3.3, 4.5, 6.5, 9.2, 10.5, 14.3, 15.8, 17.4)
"""Es/N0 at which 1 % of the segments of each MCS are lost: AWGN, segments of 192 B, unknown timing, phase and CFO.

Measured by ``python benchmarks/mcs.py``, rounded to 0.1 dB.
"""

_INDICES = tuple(mcs.index for mcs in (*MCS_TABLE, *ANALOG_TABLE))
_REPETITIONS = tuple(mcs.rate[1] for mcs in ANALOG_TABLE)
_SEQUENCES = 1 << 16
# A report this far behind the newest is late; one further behind comes from a sender that has begun anew.
_LATE = 64
# Weight of the newest report in the quick average, and how far that must part from the slow one for the SNR to have
# moved. By chance it does so once in 10^5 reports if one sigma of a report is 0.5 dB.
_QUICK = 0.7
_MOVED_DB = 1.5
# Reports for which the quick average is believed after that.
_RESTLESS = 32
# What a burst that loses all its segments adds to the offset: less than the hysteresis, so that one is forgiven.
_RISE_DB = 0.4
# Little below 0: the thresholds are those of AWGN, and no channel is better.
_LEAST_OFFSET_DB = -0.25
_MOST_OFFSET_DB = 10.0
# Weight of the newest report in the record of an option, once there are so many.
_RECORD = 1 / 20
# For how many reports an option that failed is left alone; how many times longer if it had not lasted, and at most.
_FIRST_PAUSE = 8
_LONGER = 4
_LONGEST_PAUSE = 512
_LASTED = 64


@dataclass(frozen=True)
class LinkReport:
    """What a receiver tells the sender about one burst.

    Attributes:
        sequence: Of the frame's header, 0 to 65535.
        snr_db: Estimated Es/N0, -100 to 100.
        mcs: Index of the MCS that the burst came with, in ``MCS_TABLE`` or ``ANALOG_TABLE``.
        segments: Segments of the detail layer; 0 if it has none that could fail, as in analog mode.
        segment_failures: Of those, lost.

    Raises:
        ModemError: If a value has the wrong type or is out of range.
    """

    sequence: int
    snr_db: float
    mcs: int
    segments: int
    segment_failures: int

    def __post_init__(self) -> None:
        for name, high in (
            ("sequence", _SEQUENCES - 1),
            ("mcs", _INDICES[-1]),
            ("segments", (1 << 24) - 1),
            ("segment_failures", self.segments),
        ):
            value: object = getattr(self, name)
            # To Python a bool is an int; to JSON it is not.
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= high:
                raise ModemError(f"link report: {name} is {value!r}; it must be a whole number within 0 to {high}")
        if self.mcs not in _INDICES:
            raise ModemError(f"link report: mcs is {self.mcs}; it must be one of {', '.join(map(str, _INDICES))}")
        snr: object = self.snr_db
        if not isinstance(snr, (int, float)) or isinstance(snr, bool) or not abs(snr) <= 100:
            raise ModemError(f"link report: snr_db is {snr!r}; it must be a number within -100 to 100")

    @classmethod
    def of(cls, burst: Burst) -> LinkReport:
        """The report about a received burst."""
        return cls(
            sequence=burst.frame.header.sequence,
            snr_db=float(burst.snr_db),
            mcs=burst.mcs.index,
            segments=int(burst.segments),
            segment_failures=int(burst.segment_failures),
        )

    def to_dict(self) -> dict[str, int | float]:
        """The report as numbers under the names of its attributes, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: object) -> LinkReport:
        """Undo :meth:`to_dict`. Further keys are ignored: a newer receiver may say more.

        Raises:
            ModemError: If ``content`` is no mapping, lacks a key, or has a value of the wrong type or out of range.
        """
        if not isinstance(content, Mapping):
            raise ModemError(f"link report is of type {type(content).__name__}; it must be a mapping")
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in content]
        if missing:
            raise ModemError(f"link report lacks {', '.join(missing)}; it needs {', '.join(names)}")
        return cls(**{name: content[name] for name in names})


def analog_thresholds_db(target_snr_db: float, repetitions: Sequence[int] = _REPETITIONS) -> tuple[float, ...]:
    """Thresholds with which a :class:`LinkAdapter` chooses the least repetition that reaches a wanted SNR.

    r copies of an analog symbol, added up, have the SNR of one plus 10 log10 r dB.

    Args:
        target_snr_db: SNR wanted after adding up.
        repetitions: Falling, so that the SNR they need rises. The adapter's choice is an index into them, and by
            default into ``ANALOG_TABLE``.

    Returns:
        Es/N0 that each needs, in dB.

    Raises:
        ModemError: If the SNR is not finite, or the repetitions are not positive and falling.
    """
    if not math.isfinite(target_snr_db):
        raise ModemError(f"target_snr_db is {target_snr_db}; it must be finite")
    if min(repetitions, default=0) < 1 or any(b >= a for a, b in pairwise(repetitions)):
        raise ModemError(f"repetitions are {tuple(repetitions)}; they must be positive and falling")
    return tuple(target_snr_db - 10 * math.log10(r) for r in repetitions)


class LinkAdapter:
    """Chooses, from one report a burst, among options in rising order of the SNR that they need.

    **Down at once**, when the SNR less the offset is below what the option needs, or when the option fails: it loses
    half of two bursts in a row, or more than twice ``target_bler`` of its latest 20. Before it has been tried so
    often the record is shorter, so that a new option fails with the first burst that it loses. One that has proved
    itself is forgiven a single lost burst: on a link where a few bursts in a hundred are lost to others at any MCS,
    to step down each time would end at the lowest.

    **Up late**, when the SNR less the offset clears a higher option's need by the hysteresis in ``patience`` reports
    in a row; then straight to the highest option that all of them allow.

    Two things keep it from switching to and fro while the channel stands still. The SNR is averaged over many reports,
    and averaged afresh when a quick average leaves the slow one by 1.5 dB; after that the quick one counts, for as
    long as the SNR moves on and 32 reports more. And an option that failed is left alone: for 8 reports if it had
    lasted 64, else for 32, and four times longer each time that the next trial fails, 512 at most. For where the
    channel is worse than the thresholds say, the next option always looks good and always fails. To wait longer after
    each failed trial is from M. Lacage, M. H. Manshaei, T. Turletti, "IEEE 802.11 rate adaptation: a practical
    approach", MSWiM 2004. When the SNR moves, that is forgotten.

    Args:
        thresholds_db: SNR that each option needs, rising.
        start: Option before the first report.
        target_bler: Share of segments lost at which the offset stands still; about so many are lost where the channel
            changes faster than the reports tell. By default about what the smallest step of ``MCS_TABLE`` gains.
        margin_db: What an option must have above its threshold: each 0.3 dB makes a tenth of the losses, or less.
        hysteresis_db: What it must have on top of that to be chosen from below.
        smoothing: Weight of the newest report in the slow average.
        patience: Reports in a row that must allow a step up.

    Raises:
        ModemError: If an argument is out of range.
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
        needs = tuple(float(value) for value in thresholds_db)
        rising = all(map(math.isfinite, needs)) and all(a < b for a, b in pairwise(needs))
        for name, value, good, wanted in (
            ("thresholds_db", needs, bool(needs) and rising, "one or more, finite and rising"),
            ("start", start, 0 <= start < len(needs), f"within 0 to {len(needs) - 1}"),
            ("target_bler", target_bler, 0 < target_bler < 1, "above 0 and below 1"),
            ("margin_db", margin_db, math.isfinite(margin_db), "finite"),
            ("hysteresis_db", hysteresis_db, 0 <= hysteresis_db < math.inf, "0 or more"),
            ("smoothing", smoothing, 0 < smoothing <= 1, "above 0, at most 1"),
            ("patience", patience, patience >= 1, "1 or more"),
        ):
            if not good:
                raise ModemError(f"link adapter: {name} is {value}; it must be {wanted}")
        self._needs_db = tuple(need + margin_db for need in needs)
        self._hysteresis_db = hysteresis_db
        self._smoothing = smoothing
        self._patience = patience
        self._fall_db = _RISE_DB * target_bler / (1 - target_bler)
        self._most_loss = 2 * target_bler
        self._choice = start
        self._newest: int | None = None
        self._offset_db = 0.0
        # Reports in the slow average; 0 if the next begins both. Reports for which the quick one still counts.
        self._reports = 0
        self._slow_db = 0.0
        self._quick_db = 0.0
        self._restless = 0
        # Reports in a row that allow a step up, and the lowest option that one of them allows.
        self._streak = 0
        self._allowed = 0
        # Record of the choice: reports about it, share lost in the latest, and whether the last lost half its burst.
        self._stay = 0
        self._loss = 0.0
        self._failed = False
        # Lowest of the options that are left alone, for how many reports yet, and for how many the last time.
        self._barred = 0
        self._bar = 0
        self._pause = _FIRST_PAUSE

    @property
    def choice(self) -> int:
        """Index of the option for the next burst."""
        return self._choice

    @property
    def snr_db(self) -> float | None:
        """Smoothed SNR; None before the first report and after a miss."""
        if not self._reports:
            return None
        return self._quick_db if self._restless else self._slow_db

    @property
    def offset_db(self) -> float:
        """What is taken off the SNR before it is compared."""
        return self._offset_db

    def update(self, report: LinkReport) -> int:
        """Take in a report and choose.

        A report that comes twice, or behind that of a later burst, changes nothing. One about a higher option than the
        present one was on its way when that was given up: its losses do not count again.

        Args:
            report: Its ``mcs`` is the index of an option; with no segments it is not looked at.

        Returns:
            The new :attr:`choice`.

        Raises:
            ModemError: If the report is about an option that there is not.
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
        """Note that nobody reported a burst in time: one step down.

        Returns:
            The new :attr:`choice`.
        """
        self._take(max(self._choice - 1, 0))
        # What silenced the receiver may have changed the SNR.
        self._reports = 0
        return self._choice

    def _track(self, snr_db: float) -> float:
        """Average the SNR, and see whether it has moved."""
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
        """Move the offset by the share of a burst that was lost, and step down if the option has failed."""
        # Losses of option 0 would only pile up: nothing lower can answer them.
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
        """Compare the SNR with what the options need."""
        level = snr_db - self._offset_db
        usable = self._highest(level)
        if usable < self._choice:
            # Had the SNR alone let it stay, it is the losses.
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
        """The highest option for which an SNR is enough; 0 if there is none."""
        return max(bisect_right(self._needs_db, snr_db) - 1, 0)

    def _leave(self, option: int) -> None:
        """Go down because of losses, and leave what failed alone for a while."""
        self._pause = _FIRST_PAUSE if self._stay >= _LASTED else min(_LONGER * self._pause, _LONGEST_PAUSE)
        self._barred = min(self._choice, self._barred) if self._bar else self._choice
        self._bar = self._pause
        self._take(option)

    def _take(self, option: int) -> None:
        """Choose an option; another one than before begins a record."""
        self._streak = 0
        if option != self._choice:
            self._choice, self._stay, self._loss, self._failed = option, 0, 0.0, False
