"""Peaks of a burst: their probability with and without clipping, and the cost of clipping at the receiver.

python benchmarks/papr.py [--bursts 50] [--seed 1] [--out benchmarks/results/papr.json]

The picture, ``papr.png``, goes beside the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import bench
import lab
import numpy as np
from rich.progress import track

from crlsc_phy.frame import FrameHeader, SemanticFrame
from crlsc_phy.phy import BurstModem, Numerology, qam
from crlsc_phy.phy.ofdm import Ofdm
from crlsc_phy.phy.papr import OVERSAMPLING, ccdf, clip_and_filter, oversample, papr_db
from crlsc_phy.phy.preamble import Preamble
from crlsc_phy.quality.intervals import wilson

CLIPS_DB = (4.0, 5.0, 6.0, 7.0, 8.0)
LEVELS_DB = np.arange(0, 18.01, 0.2)
SNRS_DB = (10, 15, 20, 25, 30)
# Each MCS with an Es/N0 [dB] that is sure to be below its threshold.
MCS = (("qpsk-1/2", 0.0), ("16qam-1/2", 5.5), ("64qam-3/4", 15.0))
STEP_DB = 0.25
# Of the segments lost at the threshold, and how far above that of the unclipped burst to look for it.
LOSS, REACH_DB = 0.01, 8.0
DETAIL_BYTES = 1500

Samples = np.ndarray[Any, np.dtype[np.complex64]]


def name_of(clip_db: float | None) -> str:
    return "no clipping" if clip_db is None else f"clipped at {clip_db:g} dB"


def signals(rng: np.random.Generator, bursts: int) -> Iterator[tuple[str, Samples]]:
    """Yield the name of a signal and its oversampled bursts, one behind the other without their guard."""

    def sent(modem: BurstModem, frames: list[SemanticFrame]) -> Samples:
        # The guard lets the last sample ring out; it is no part of the burst.
        ends = (OVERSAMPLING * modem.burst_samples(frame.header) for frame in frames)
        return np.concatenate(
            [oversample(modem.modulate(frame))[:end] for frame, end in zip(frames, ends, strict=True)]
        )

    frames = [lab.make_frame(rng) for _ in range(bursts)]
    for clip_db in (None, *CLIPS_DB):
        yield name_of(clip_db), sent(BurstModem(papr_db=clip_db), frames)
    header = FrameHeader(bytes(4), 64, 64, 16, 288)
    yield "constant payload, scrambled", sent(BurstModem(), [SemanticFrame(header, bytes(16), bytes(288))])
    # What the modem would send without its scrambler: coded zeros are zeros, so all data symbols are the same.
    ofdm = Ofdm(Numerology())
    modem = BurstModem()
    symbols = (modem.burst_samples(header) - len(Preamble(ofdm).waveform)) // ofdm.numerology.symbol_length
    count = symbols * ofdm.numerology.data_carriers
    data = qam.map_bits(np.zeros(2 * count, np.uint8), 2).reshape(symbols, -1)
    waveform = ofdm.waveform(ofdm.grid(data), ofdm.numerology.cp_length).ravel()
    burst = oversample(np.concatenate((Preamble(ofdm).waveform, waveform)))
    yield "constant payload, not scrambled", burst


def error_sent(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Measure the error of clipped symbols over their power."""
    ofdm = Ofdm(Numerology())
    rows = []
    for modulation, bits in (("qpsk", 2), ("16qam", 4), ("64qam", 6)):
        drawn = rng.integers(0, 2, 2000 * ofdm.numerology.data_carriers * bits, dtype=np.uint8)
        grid = ofdm.grid(qam.map_bits(drawn, bits).reshape(2000, -1))
        for clip_db in CLIPS_DB:
            clipped = clip_and_filter(grid, ofdm.carriers, ofdm.numerology.fft_size, clip_db)
            evm = np.mean(np.abs(clipped - grid) ** 2) / np.mean(np.abs(grid) ** 2)
            rows.append({"modulation": modulation, "clip_db": clip_db, "evm_db": 10 * float(np.log10(evm))})
    return rows


def error_received(rng: np.random.Generator, bursts: int) -> list[dict[str, Any]]:
    """Measure the EVM that the receiver reports, mean of the powers."""
    rows = []
    jobs = [(clip_db, snr_db) for clip_db in (None, *CLIPS_DB) for snr_db in SNRS_DB]
    for clip_db, snr_db in track(jobs, description="EVM at the receiver"):
        passages = [lab.send(rng, lab.make_frame(rng), snr_db, papr_db=clip_db) for _ in range(bursts)]
        errors = [10 ** (passage.burst.evm_db / 10) for passage in passages if passage.burst]
        rows.append(
            {
                "clip_db": clip_db,
                "es_n0_db": snr_db,
                "bursts": len(errors),
                "evm_db": 10 * float(np.log10(np.mean(errors))),
            }
        )
    return rows


def losses(rng: np.random.Generator, bursts: int, codes: list[tuple[str, float]]) -> list[dict[str, Any]]:
    """Count lost segments 2 dB above the threshold of each MCS, and find the threshold with each clipping."""

    def lost(mcs: str, clip_db: float | None, snr_db: float) -> tuple[int, int]:
        passages = [lab.send(rng, lab.make_frame(rng, DETAIL_BYTES), snr_db, mcs, clip_db) for _ in range(bursts)]
        return sum(each.segment_failures for each in passages), sum(each.segments for each in passages)

    def threshold(mcs: str, clip_db: float | None, lowest: float, highest: float) -> float | None:
        for snr_db in np.arange(lowest, highest + 0.1, STEP_DB):
            failed, segments = lost(mcs, clip_db, float(snr_db))
            if failed < LOSS * segments:
                return float(snr_db)
        return None

    rows = []
    clean: dict[str, float] = {}
    jobs = [(mcs, start, clip_db) for mcs, start in codes for clip_db in (None, *reversed(CLIPS_DB))]
    for mcs, start, clip_db in track(jobs, description="losses"):
        found = threshold(mcs, clip_db, clean.get(mcs, start), clean.get(mcs, start) + REACH_DB)
        if clip_db is None:
            assert found is not None
            clean[mcs] = found
        failed, segments = lost(mcs, clip_db, clean[mcs] + 2)
        rows.append(
            {
                "mcs": mcs,
                "clip_db": clip_db,
                "es_n0_db": clean[mcs] + 2,
                "segments": segments,
                "segment_loss": failed / segments,
                "segment_loss_95": wilson(failed, segments),
                "threshold_db": found,
                "cost_db": None if found is None else found - clean[mcs],
            }
        )
    return rows


def draw(benchmark: bench.Benchmark, curves: dict[str, list[float]], received: list[dict[str, Any]]) -> None:
    """Draw both results in one picture."""
    shades = ("#5b3a9e", "#2f6db5", "#2b9ab0", "#55b879", "#b5cc4c")
    colours = {name_of(None): "#1f2430", **dict(zip(map(name_of, CLIPS_DB), shades, strict=True))}
    colours |= {"constant payload, scrambled": "#d97a1e", "constant payload, not scrambled": "#b3261e"}
    with benchmark.figure(1500, 680) as figure:
        left, right = figure.subplots(1, 2)
        for name, curve in curves.items():
            known = np.asarray(curve) > 0
            dashes = "--" if name.startswith("constant") else "-"
            left.semilogy(
                LEVELS_DB[known], np.asarray(curve)[known], dashes, color=colours[name], label=name, linewidth=1.8
            )
        left.set(xlim=(0, LEVELS_DB[-1]), ylim=(1e-5, 1))
        left.set_xlabel("power over the mean [dB]")
        left.set_ylabel("probability that a sample exceeds it")
        left.set_title("Peaks of a burst, 4 times oversampled")
        left.legend(loc="upper right")
        for clip_db in (None, *CLIPS_DB):
            points = [(row["es_n0_db"], row["evm_db"]) for row in received if row["clip_db"] == clip_db]
            name = name_of(clip_db)
            right.plot(*zip(*points, strict=True), "o-", color=colours[name], label=name, markersize=5)
        right.set_xticks(SNRS_DB)
        right.set_xlabel("Es/N0 on an occupied carrier [dB]")
        right.set_ylabel("EVM of the equalised header [dB]")
        right.set_title("EVM at the receiver")
        right.legend(loc="lower left")


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__)
    benchmark.add("--bursts", 50, "bursts of each figure", quick=2)
    options = benchmark.parse()

    rng = np.random.default_rng(options.seed)
    result: dict[str, Any] = {"bursts": options.bursts, "numerology": "64"}
    curves: dict[str, list[float]] = {}
    peaks: list[dict[str, Any]] = []
    for name, samples in signals(rng, options.bursts):
        curve = ccdf(samples, LEVELS_DB)
        curves[name] = [float(f"{value:.4g}") for value in curve]
        power = np.abs(samples) ** 2
        rare = {f"1_in_{one_in}_db": np.quantile(power, 1 - 1 / one_in) / power.mean() for one_in in (100, 1000, 10000)}
        at = {label: 10 * float(np.log10(value)) for label, value in rare.items()}
        peaks.append({"signal": name, "papr_db": papr_db(samples), **at})
    result["ccdf"] = {"levels_db": LEVELS_DB.round(2).tolist(), "probability": curves}
    result["peaks"] = peaks
    result["evm_sent"] = error_sent(rng)
    result["evm_received"] = error_received(rng, options.bursts)
    result["losses"] = losses(rng, options.bursts, benchmark.few(MCS, 1))
    for title, rows in (
        ("Peaks over the mean power, 4 times oversampled", peaks),
        ("Error of the symbols sent", result["evm_sent"]),
        ("EVM at the receiver", result["evm_received"]),
        ("Segments lost 2 dB above the threshold without clipping", result["losses"]),
    ):
        bench.show(title, rows)
    benchmark.write(result)
    draw(benchmark, curves, result["evm_received"])


if __name__ == "__main__":
    main()
