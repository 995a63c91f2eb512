"""The burst modem: semantic frames to complex baseband and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crlsc_phy.errors import FrameError, ModemError
from crlsc_phy.frame import FrameHeader, SemanticFrame
from crlsc_phy.phy.demodulator import Demodulator, Reception
from crlsc_phy.phy.layout import (
    Layout,
    header_block,
    pack_header,
    pack_semantic,
    unpack_header,
    unpack_semantic,
)
from crlsc_phy.phy.numerology import Mcs, Numerology, find_mcs
from crlsc_phy.phy.ofdm import Ofdm
from crlsc_phy.phy.preamble import Preamble, Sync

__all__ = ["Burst", "BurstModem", "Counters"]

MAX_BURST_SAMPLES = 1 << 21
"""Longest burst by default, and so what a lying header can make a receiver hold: 16 MiB."""

_SIGNALLING_ITERATIONS = 40
_DETAIL_ITERATIONS = 25
# The search looks at so many samples at a time, so that what follows a burst is not searched twice over.
_SLAB = 8192
# Fewer new samples than this are kept until more come: a search has a fixed cost.
_STEP = 512
# Louder than any converter delivers; beyond it the metric would leave float32.
_LARGEST = 1e6


@dataclass
class Counters:
    """What a receiver has seen since it was made.

    Attributes:
        samples: Samples taken in.
        bad_samples: Of those, not finite or absurdly large, set to zero.
        detected: Preambles found.
        header_failures: Of those, with a header that could not be read.
        oversize: Headers that claim a burst longer than the limit.
        truncated: Bursts that the end of the stream cut short.
        bursts: Bursts handed out.
        semantic_failures: Of those, with the semantic layer lost.
        segments: Segments of the detail layer in them.
        segment_failures: Of those, lost.
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


@dataclass(frozen=True)
class Burst:
    """A received burst.

    LLRs are log p(1)/p(0), as in Sionna.

    Attributes:
        frame: The frame; its ``semantic`` or ``detail`` is None where that layer is lost.
        start: Index of the burst's first sample since the receiver was made.
        snr_db: Estimated Es/N0 on an occupied carrier, mean over carriers.
        cfo_hz: Estimated carrier frequency offset.
        evm_db: Error of the equalised signalling symbols over their power.
        mcs: MCS of the detail layer.
        semantic_ok: Whether the semantic layer's CRC holds.
        segments: Segments of the detail layer.
        segment_failures: Segments whose CRC fails.
        llr: Of the detail layer's coded bits before decoding, repetitions combined, float32 [segments * n].
        semantic_llr: Of the air code's bits, most significant first, after decoding, float32 [8 * semantic_bytes].
        channel_uses: Complex samples times the occupied part of the band, guard left out.
    """

    frame: SemanticFrame
    start: int
    snr_db: float
    cfo_hz: float
    evm_db: float
    mcs: Mcs
    semantic_ok: bool
    segments: int
    segment_failures: int
    llr: NDArray[np.float32]
    semantic_llr: NDArray[np.float32]
    channel_uses: float


@dataclass(frozen=True)
class _Opened:
    """What a burst's header says."""

    header: FrameHeader
    mcs: Mcs
    layout: Layout


@dataclass
class _Pending:
    """A burst that has begun: its start in absolute samples, CFO in cycles/sample, and its header once read."""

    start: int
    cfo: float
    opened: _Opened | None = None


class BurstModem:
    """Modulates frames and receives bursts from a stream of samples.

    Args:
        numerology: Shared by sender and receiver.
        mcs: Index or name in ``MCS_TABLE`` of what this modem sends; it receives any.
        mode: ``"digital"``: the detail layer is coded bits.
        max_burst_samples: Longest burst sent or received.

    Attributes:
        counters: What the receiver has seen.

    Raises:
        ModemError: If there is no such MCS or mode.
    """

    def __init__(
        self,
        numerology: Numerology | None = None,
        mcs: int | str = "qpsk-1/2",
        mode: Literal["digital"] = "digital",
        max_burst_samples: int = MAX_BURST_SAMPLES,
    ) -> None:
        if mode != "digital":
            raise ModemError(f"mode {mode!r} is not supported yet; use 'digital'")
        self.numerology = numerology or Numerology()
        self.mcs = find_mcs(mcs)
        self.max_burst_samples = max_burst_samples
        self.counters = Counters()
        self._ofdm = Ofdm(self.numerology)
        self._preamble = Preamble(self._ofdm)
        self._demodulator = Demodulator(self._ofdm, self._preamble)
        # Samples before the search position that timing may still fall back on.
        self._history = 64 + 2 * self.numerology.cp_length
        self._end = 0
        self._need = 0
        self._reset(0)

    def burst_samples(self, header: FrameHeader, mcs: Mcs | None = None) -> int:
        """Samples of the burst for a frame with ``header``, guard left out."""
        symbols = Layout.of(self.numerology, header, mcs or self.mcs).symbols
        return len(self._preamble.waveform) + symbols * self.numerology.symbol_length

    def channel_uses(self, header: FrameHeader, mcs: Mcs | None = None) -> float:
        """Complex channel uses of that burst: samples times the occupied part of the band, everything counted."""
        return self.burst_samples(header, mcs) * self.numerology.occupied / self.numerology.fft_size

    def modulate(self, frame: SemanticFrame) -> NDArray[np.complex64]:
        """The burst for a frame.

        Args:
            frame: Complete, without erasures.

        Returns:
            complex64 [n], unit mean power, the guard behind the burst included.

        Raises:
            ModemError: If the frame has holes or needs a burst longer than the limit.
        """
        if frame.semantic is None or frame.detail is None or frame.erasures:
            raise ModemError("frame has lost layers or erasures; only a complete frame can be sent")
        samples = self.burst_samples(frame.header)
        if samples > self.max_burst_samples:
            raise ModemError(
                f"frame needs a burst of {samples} samples with {self.mcs.name}; the limit is "
                f"{self.max_burst_samples}: take a higher MCS or a smaller image"
            )
        layout = Layout.of(self.numerology, frame.header, self.mcs)
        data = [layout.header.modulate(pack_header(frame.header, self.mcs))]
        if layout.semantic:
            data.append(layout.semantic.modulate(pack_semantic(frame.semantic)))
        if layout.detail and layout.segments:
            data.append(layout.detail.modulate(layout.segments.split(frame.detail)))
        symbols = self._ofdm.waveform(self._ofdm.grid(np.concatenate(data)), self.numerology.cp_length)
        # A receiver whose clock is off reaches beyond the last symbol: it shall not have to wait for more.
        guard = max(self.numerology.guard, self._demodulator.samples_needed(layout.symbols) - samples)
        burst = np.concatenate((self._preamble.waveform, symbols.ravel(), np.zeros(guard, np.complex64)))
        power = float(np.vdot(burst, burst).real) / len(burst)
        return np.asarray(burst / np.float32(np.sqrt(power)), np.complex64)

    def receive(self, iq: ArrayLike) -> list[Burst]:
        """Take in samples and hand out the bursts that they complete.

        State is kept: how a stream is cut into calls does not matter.

        Args:
            iq: complex64 [n], any n.

        Raises:
            ModemError: If ``iq`` is not a one-dimensional array of numbers.
        """
        self._append(iq)
        return self._run()

    def flush(self) -> list[Burst]:
        """End the stream: hand out what the samples at hand allow, and start afresh.

        A burst that is cut short after its header comes with what was lost of it missing.
        """
        bursts: list[Burst] = []
        ended = self.counters.samples
        # Zeros behind the stream let the search reach its last sample, and an unfinished burst come to its end.
        target: int = ended + 2 * self._preamble.lookahead + _STEP
        while self._end < target:
            self._chunks.append(np.zeros(target - self._end, np.complex64))
            self._end = target
            bursts += self._run()
            if self._pending:
                target = self._need
        self.counters.truncated += sum(b.start + self.burst_samples(b.frame.header, b.mcs) > ended for b in bursts)
        self._reset(ended)
        return bursts

    @property
    def _occupancy(self) -> float:
        return self.numerology.occupied / self.numerology.fft_size

    def _reset(self, position: int) -> None:
        """Forget all samples; the next one is number ``position``."""
        self._buffer = np.empty(0, np.complex64)
        self._chunks: list[NDArray[np.complex64]] = []
        self._origin = position
        self._end = position
        self._cursor = position
        self._need = position + self._preamble.sync_length + _STEP
        self._pending: _Pending | None = None

    def _append(self, iq: ArrayLike) -> None:
        try:
            samples = np.asarray(iq, np.complex64)
        except (TypeError, ValueError) as error:
            raise ModemError(f"samples are no complex numbers: {error}") from None
        if samples.ndim != 1:
            raise ModemError(f"samples have shape {samples.shape}; give a one-dimensional array")
        samples = np.ascontiguousarray(samples)
        parts = samples.view(np.float32)
        # A NaN anywhere fails the comparison too.
        if len(parts) and not max(-parts.min(), parts.max()) <= _LARGEST:
            bad = ~(np.abs(samples) <= _LARGEST)
            samples = np.where(bad, np.complex64(0), samples)
            self.counters.bad_samples += int(np.count_nonzero(bad))
        self.counters.samples += len(samples)
        self._end += len(samples)
        self._chunks.append(samples.copy() if samples is iq else samples)

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
        peak = int(np.argmax(above))
        if not above[peak]:
            self._resume(self._cursor + len(above))
            return
        # The metric rises as a burst comes in: climb until nothing within a preamble's length is higher.
        height = np.where(above, np.abs(total), np.float32(0))
        while peak + sync_length <= len(height):
            step = int(np.argmax(height[peak : peak + sync_length]))
            if step == 0:
                break
            peak += step
        self._cursor += peak
        if peak + sync_length > len(height):
            self._need = self._cursor + 2 * sync_length
            return
        self._need = self._cursor + self._preamble.lookahead
        if self._end < self._need:
            return
        sync = self._preamble.refine(self._buffer, self._cursor - self._origin, complex(total[peak]))
        if sync is None:
            self._resume(self._cursor + sync_length // 2)
            return
        self._begin(sync)

    def _begin(self, sync: Sync) -> None:
        self.counters.detected += 1
        self._pending = _Pending(self._origin + sync.start, sync.cfo)
        symbols = header_block(self.numerology).symbols
        self._need = self._pending.start + self._demodulator.samples_needed(symbols)

    def _open(self, pending: _Pending) -> None:
        """Read the header."""
        block = header_block(self.numerology)
        reception = self._demodulator.receive(self._buffer[pending.start - self._origin :], pending.cfo, block.symbols)
        llr = block.soft_bits(*self._demodulator.equalise(reception, 0, block.symbols))
        data, _, _ = block.decode(llr, _SIGNALLING_ITERATIONS)
        behind_sync = pending.start + self._preamble.sync_length
        try:
            header, mcs = unpack_header(data[0].tobytes())
        except FrameError:
            self.counters.header_failures += 1
            self._resume(behind_sync)
            return
        layout = Layout.of(self.numerology, header, mcs)
        needed = self._demodulator.samples_needed(layout.symbols)
        if needed > self._demodulator.samples_needed(0) + self.max_burst_samples:
            self.counters.oversize += 1
            self._resume(behind_sync)
            return
        pending.opened = _Opened(header, mcs, layout)
        self._need = pending.start + needed

    def _finish(self, pending: _Pending, opened: _Opened) -> Burst:
        """Read the layers of a burst whose header is known."""
        header, mcs, layout = opened.header, opened.mcs, opened.layout
        demodulator = self._demodulator
        reception = demodulator.receive(self._buffer[pending.start - self._origin :], pending.cfo, layout.symbols)
        known = layout.header.modulate(pack_header(header, mcs))
        demodulator.refine(reception, known)
        first = layout.header.symbols
        semantic: bytes | None = b""
        semantic_llr = np.empty(0, np.float32)
        if layout.semantic:
            llr = layout.semantic.soft_bits(*demodulator.equalise(reception, first, layout.semantic.symbols))
            data, posterior, _ = layout.semantic.decode(llr, _SIGNALLING_ITERATIONS)
            semantic = unpack_semantic(data[0].tobytes())
            semantic_llr = posterior[0, : 8 * header.semantic_bytes].copy()
            first += layout.semantic.symbols
        detail: bytes | None = b""
        detail_llr = np.empty(0, np.float32)
        erasures: tuple[tuple[int, int], ...] = ()
        segments = failed = 0
        if layout.detail and layout.segments:
            soft = layout.detail.soft_bits(*demodulator.equalise(reception, first, layout.detail.symbols))
            words, _, _ = layout.detail.decode(soft, _DETAIL_ITERATIONS)
            segments, detail_llr = layout.segments.count, soft.ravel()
            detail, erasures, failed = layout.segments.join(words)
            if failed == segments:
                detail, erasures = None, ()
        self.counters.bursts += 1
        self.counters.semantic_failures += semantic is None
        self.counters.segments += segments
        self.counters.segment_failures += failed
        samples = self.burst_samples(header, mcs)
        self._resume(pending.start + samples - self.numerology.cp_length // 2)
        return Burst(
            frame=SemanticFrame(header, semantic, detail, erasures),
            start=pending.start,
            snr_db=10 * float(np.log10(max(reception.snr, 1e-6))),
            cfo_hz=reception.cfo * self.numerology.sample_rate,
            evm_db=self._evm_db(reception, known),
            mcs=mcs,
            semantic_ok=semantic is not None,
            segments=segments,
            segment_failures=failed,
            llr=detail_llr,
            semantic_llr=semantic_llr,
            channel_uses=samples * self._occupancy,
        )

    def _evm_db(self, reception: Reception, known: NDArray[np.complex64]) -> float:
        symbols, _ = self._demodulator.equalise(reception, 0, len(known))
        return 10 * float(np.log10(max(np.mean(np.abs(symbols - known) ** 2), 1e-12)))
