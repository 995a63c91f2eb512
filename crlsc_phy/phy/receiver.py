"""Receiver of bursts from a stream of samples.

    samples -> search -> pending: header being read -> pending: header known -> burst -> search behind it

State is kept between calls, so that it does not matter how the stream is cut into calls.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crlsc_phy.errors import FrameError, ModemError, brief
from crlsc_phy.frame import FrameHeader, SemanticFrame
from crlsc_phy.phy.blocks import Decoder
from crlsc_phy.phy.demodulator import Demodulator, Reception
from crlsc_phy.phy.layers import HeaderPrior, LayerReader, Layers, Receive
from crlsc_phy.phy.layout import Layout, header_block, pack_header
from crlsc_phy.phy.mcs import Mcs
from crlsc_phy.phy.ofdm import Ofdm
from crlsc_phy.phy.preamble import Preamble, Sync
from crlsc_phy.phy.taps import Taps

__all__ = ["Burst", "Counters", "Receiver"]

# Samples that the search looks at together: few, so that not many behind a burst are searched twice.
_SLAB = 8192
# A search has a fixed cost: it waits for so many new samples.
_STEP = 512
# Samples from a peak that is no preamble to the next place to look.
_SKIP = 8
# Magnitude beyond that of any converter, from which the metric would overflow float32.
_LARGEST = 1e6
# Samples of the metric on either side of its peak that a tap keeps.
_METRIC_REACH = 512


@dataclass
class Counters:
    """Counters of a receiver since it was made.

    Attributes:
        samples: Samples received.
        bad_samples: Samples that were not finite, or larger than 1e6, and were set to zero.
        detected: Preambles found.
        header_failures: Preambles behind which the header could not be read.
        oversize: Headers that claim a burst longer than the limit.
        truncated: Bursts that the end of the stream cut short.
        bursts: Bursts returned.
        semantic_failures: Bursts whose semantic layer was lost.
        segments: Segments of the digital detail in the bursts returned.
        segment_failures: Segments whose CRC failed.
    """

    samples: int = 0
    bad_samples: int = 0
    detected: int = 0
    header_failures: int = 0
    oversize: int = 0
    truncated: int = 0
    bursts: int = 0
    semantic_failures: int = 0
    segments: int = 0
    segment_failures: int = 0


@dataclass(frozen=True, kw_only=True)
class Burst(Layers):
    """A received burst: its layers, and what the receiver found of the channel.

    Attributes:
        start: Index of the burst's first sample since the receiver was made; negative if the stream begins within it.
        snr_db: Estimated Es/N0 on an occupied carrier, mean over carriers.
        cfo_hz: Estimated carrier frequency offset.
        evm_db: Error of the equalised header symbols over their power.
        mcs: MCS of the detail layer.
        channel_uses: Complex samples times the occupied part of the band, guard left out.
    """

    start: int
    snr_db: float
    cfo_hz: float
    evm_db: float
    mcs: Mcs
    channel_uses: float

    @property
    def detail_snr_db(self) -> float:
        """Es/N0 of a channel without fading that leaves the same error in the analog detail, else :attr:`snr_db`."""
        if not len(self.symbol_noise):
            return self.snr_db
        # The mean error of linear estimates.
        error = float(np.mean(self.symbol_noise / (1 + self.symbol_noise)))
        return 10 * float(np.log10(max(1 / error - 1, 1e-6)))


@dataclass(frozen=True)
class _Opened:
    """Header of a burst, and what follows from it."""

    header: FrameHeader
    mcs: Mcs
    layout: Layout


@dataclass
class _Pending:
    """A burst that has begun: its start in samples of the stream, CFO in cycles/sample, and its header once read."""

    start: int
    cfo: float
    opened: _Opened | None = None


class Receiver:
    """Receiver of the bursts of one numerology.

    Args:
        ofdm: Carriers and pilots.
        preamble: Preamble of the numerology.
        demodulator: Demodulator of the numerology.
        max_burst_samples: Longest burst received, in samples.
        decoder: Decoder of the LDPC code.
        taps: Where to dump internal signals, or None.

    Attributes:
        counters: Counters since it was made.
    """

    def __init__(
        self,
        ofdm: Ofdm,
        preamble: Preamble,
        demodulator: Demodulator,
        max_burst_samples: int,
        decoder: Decoder = "min-sum",
        taps: Taps | None = None,
    ) -> None:
        self._ofdm, self._preamble, self._demodulator = ofdm, preamble, demodulator
        self._numerology = ofdm.numerology
        self._max_burst_samples = max_burst_samples
        self._reader = LayerReader(decoder)
        self._header_prior = HeaderPrior()
        self._taps = taps
        self.counters = Counters()
        # Samples before the search position that timing may still fall back on.
        self._history = 64 + 2 * self._numerology.cp_length
        self._end = self._need = 0
        self._reset(0)

    def receive(self, iq: ArrayLike) -> list[Burst]:
        """Receive samples, and return the bursts that they complete; see :meth:`BurstModem.receive`."""
        self._append(iq)
        return self._run()

    def flush(self) -> list[Burst]:
        """End the stream; see :meth:`BurstModem.flush`."""
        bursts: list[Burst] = []
        ended = self.counters.samples
        # Zeros behind the stream bring the search to its last sample, and an unfinished burst to its end.
        target: int = ended + 2 * self._preamble.lookahead + _STEP
        while self._end < target:
            self._chunks.append(np.zeros(target - self._end, np.complex64))
            self._end = target
            bursts += self._run()
            if self._pending:
                target = self._need
        lengths = (self._samples(Layout.of(self._numerology, b.frame.header, b.mcs).symbols) for b in bursts)
        self.counters.truncated += sum(b.start + length > ended for b, length in zip(bursts, lengths, strict=True))
        self._reset(ended)
        return bursts

    def _reset(self, position: int) -> None:
        """Forget all samples; the next one is number ``position``."""
        # Silence before it, since a filter in front may have swallowed the first samples of a burst.
        self._origin = position - self._history
        self._buffer = np.zeros(self._history, np.complex64)
        self._chunks: list[NDArray[np.complex64]] = []
        self._end = position
        self._resume(self._origin)
        self._pending: _Pending | None = None

    def _append(self, iq: ArrayLike) -> None:
        try:
            # A copy whatever it is: the caller may fill the same buffer again, and views hide what they belong to.
            samples = np.array(iq, np.complex64, order="C", subok=False)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ModemError(f"samples are not complex numbers: {brief(error)}") from None
        if samples.ndim != 1:
            raise ModemError(f"samples have shape {samples.shape}; give a one-dimensional array")
        parts = samples.view(np.float32)
        # A NaN anywhere fails the comparison too.
        if len(parts) and not max(-parts.min(), parts.max()) <= _LARGEST:
            bad = ~(np.abs(samples) <= _LARGEST)
            samples = np.where(bad, np.complex64(0), samples)
            self.counters.bad_samples += int(np.count_nonzero(bad))
        self.counters.samples += len(samples)
        self._end += len(samples)
        self._chunks.append(samples)

    def _run(self) -> list[Burst]:
        bursts: list[Burst] = []
        if self._end < self._need:
            return bursts
        self._buffer = np.concatenate((self._buffer, *self._chunks))
        self._chunks = []
        while self._end >= self._need:
            if self._pending is None:
                self._search()
            elif self._pending.opened is None:
                self._open(self._pending)
            else:
                bursts.append(self._finish(self._pending, self._pending.opened))
        keep = self._pending.start if self._pending else self._cursor
        drop = max(0, keep - self._history - self._origin)
        # A copy, so that what is dropped is freed.
        self._buffer = self._buffer[drop:].copy()
        self._origin += drop
        return bursts

    def _resume(self, position: int) -> None:
        """Search on from an absolute position."""
        self._pending = None
        self._cursor = position
        self._need = position + self._preamble.sync_length + _STEP

    def _search(self) -> None:
        sync_length = self._preamble.sync_length
        slab = self._buffer[self._cursor - self._origin :][: _SLAB + sync_length - 1]
        total, above = self._preamble.metric(slab)
        height = np.where(above, np.abs(total), np.float32(0))
        begin = self._cursor
        for candidate in np.flatnonzero(above):
            peak = int(candidate)
            if begin + peak < self._cursor:
                continue
            # The metric rises as a burst comes in: climb until nothing within a preamble's length is higher.
            while peak + sync_length <= len(height):
                step = int(np.argmax(height[peak : peak + sync_length]))
                if step == 0:
                    break
                peak += step
            self._cursor = begin + peak
            if peak + sync_length > len(height):
                self._need = self._cursor + 2 * sync_length
                return
            self._need = self._cursor + self._preamble.lookahead
            if self._end < self._need:
                return
            sync = self._preamble.refine(self._buffer, self._cursor - self._origin, complex(total[peak]))
            # A burst may begin right behind a peak that noise made.
            self._cursor += sync_length // 2 if sync else _SKIP
            if sync:
                self._begin(sync)
                self._tap_sync(sync, total, begin, peak)
                return
        self._resume(max(begin + len(above), self._cursor))

    def _tap_sync(self, sync: Sync, metric: NDArray[np.complex64], begin: int, peak: int) -> None:
        """Open the record of a burst with the metric around its peak; ``begin`` is the metric's first sample."""
        if self._taps:
            low = max(peak - _METRIC_REACH, 0)
            self._taps.begin(self._origin + sync.start)
            self._taps.write("metric", metric[low : peak + _METRIC_REACH])
            self._taps.note(
                metric_start=begin + low,
                metric_threshold=self._preamble.threshold,
                quality=sync.quality,
                numerology=asdict(self._numerology),
            )

    def _samples(self, symbols: int) -> int:
        """Return the samples of a burst with so many OFDM symbols behind the preamble, guard left out."""
        return len(self._preamble.waveform) + symbols * self._numerology.symbol_length

    def _begin(self, sync: Sync) -> None:
        self.counters.detected += 1
        self._pending = _Pending(self._origin + sync.start, sync.cfo)
        symbols = header_block(self._numerology).symbols
        self._need = self._pending.start + self._demodulator.samples_needed(symbols)

    def _demodulate(self, pending: _Pending, symbols: int) -> Receive[Reception]:
        samples = self._buffer[pending.start - self._origin :]

        def receive(known: NDArray[np.complex64]) -> Reception:
            reception = self._demodulator.receive(samples, pending.cfo, symbols, known)
            if self._taps:
                self._tap(reception)
            return reception

        return receive

    def _open(self, pending: _Pending) -> None:
        """Read the header."""
        behind_sync = pending.start + self._preamble.sync_length
        try:
            receive = self._demodulate(pending, header_block(self._numerology).symbols)
            header, mcs = self._reader.header(receive, self._numerology, self._header_prior.llr)
        except FrameError as error:
            self.counters.header_failures += 1
            self._leave(behind_sync, header_ok=False, problem=str(error))
            return
        self._header_prior.learn(header, mcs)
        layout = Layout.of(self._numerology, header, mcs)
        needed = self._demodulator.samples_needed(layout.symbols)
        if needed > self._demodulator.samples_needed(0) + self._max_burst_samples:
            self.counters.oversize += 1
            self._leave(behind_sync, header_ok=True, problem="header claims a burst beyond the limit")
            return
        pending.opened = _Opened(header, mcs, layout)
        self._need = pending.start + needed

    def _leave(self, position: int, **outcome: Any) -> None:
        """End a burst, and search on from an absolute position."""
        if self._taps:
            self._taps.note(**outcome)
            self._taps.end()
        self._resume(position)

    def _finish(self, pending: _Pending, opened: _Opened) -> Burst:
        """Read the layers of a burst whose header is known."""
        layout = opened.layout
        known = layout.header.modulate(pack_header(opened.header, opened.mcs))
        layers, reception = self._reader.layers(opened.header, layout, self._demodulate(pending, layout.symbols), known)
        received, _ = reception.equalised(0, len(known))
        burst = Burst(
            **vars(layers),
            start=pending.start,
            snr_db=10 * float(np.log10(max(reception.snr, 1e-6))),
            cfo_hz=reception.cfo * self._numerology.sample_rate,
            evm_db=10 * float(np.log10(max(np.mean(np.abs(received - known) ** 2), 1e-12))),
            mcs=opened.mcs,
            channel_uses=self._samples(layout.symbols) * self._numerology.occupied / self._numerology.fft_size,
        )
        self.counters.bursts += 1
        self.counters.semantic_failures += not burst.semantic_ok
        self.counters.segments += burst.segments
        self.counters.segment_failures += burst.segment_failures
        if self._taps:
            self._taps.write("llr", burst.llr)
            self._taps.write("semantic_llr", burst.semantic_llr)
            self._taps.write("analog", burst.symbols)
        # The search goes on behind the last layer that arrived, not behind the burst that the header claims: a wrong
        # claim may cover another burst.
        end = pending.start + self._samples(_arrived_symbols(layout, burst.frame))
        facts = ("start", "snr_db", "cfo_hz", "evm_db", "semantic_ok", "segments", "segment_failures")
        self._leave(
            end - self._numerology.cp_length // 2,
            header_ok=True,
            mcs=burst.mcs.name,
            **{name: getattr(burst, name) for name in facts},
        )
        return burst

    def _tap(self, reception: Reception) -> None:
        """Dump the signals of the demodulator; a later try at the same burst replaces them."""
        if self._taps:
            symbols, noise = reception.equalised()
            for name, values in (
                ("channel", reception.channel),
                ("phase", reception.phase),
                ("slope", reception.slope),
                ("symbols", symbols),
                ("noise", noise),
            ):
                self._taps.write(name, values)


def _arrived_symbols(layout: Layout, frame: SemanticFrame) -> int:
    """Return the OFDM symbols up to the end of the last layer of which something arrived."""
    if frame.detail is not None:
        return layout.symbols
    semantic = layout.semantic.symbols if layout.semantic and frame.semantic is not None else 0
    return layout.header.symbols + semantic
