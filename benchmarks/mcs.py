"""SNR threshold of each MCS: the modem over AWGN against Sionna's decoder with perfect knowledge of the channel.

The same segments, codes and QAM symbols are sent three ways. "modem": bursts with unknown timing, phase and CFO, from
BurstModem.modulate to BurstModem.receive. "sionna": perfect synchronisation, exact LLRs, and Sionna's LDPC5GDecoder
with 20 iterations of belief propagation. "decoder": the same LLRs into our own decoder; its distance from Sionna is
what min-sum costs, the rest of the modem's is what finding and tracking a burst costs.

SNR is walked in steps of 0.25 dB until the block error rate (BLER) of a segment crosses 1 %. Between the last two
points log10(BLER) is taken to be linear.

python benchmarks/mcs.py [--quick] [--seed 1] [--out benchmarks/results/mcs.json]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import bench
import lab
import numpy as np
from numpy.typing import NDArray

from crlsc_phy.frame import FrameHeader
from crlsc_phy.phy import MCS_TABLE, Mcs, Numerology
from crlsc_phy.phy.adaptation import THRESHOLDS_DB
from crlsc_phy.phy.blocks import MAX_SEGMENT_BYTES, CodedBlock, Decoder, Segments
from crlsc_phy.phy.layout import Layout
from crlsc_phy.quality.intervals import wilson

SEGMENTS = 8
DETAIL_BYTES = SEGMENTS * MAX_SEGMENT_BYTES
TARGET = 0.01
STEP_DB = 0.25
# The curve is drawn from here down; above it a picture shows nothing.
TOP = 0.3
# Segments decoded at once where there are no bursts.
WORDS = 50
# The modem's own, and what Sionna is given.
ITERATIONS, SIONNA_ITERATIONS = 25, 20
WAYS = ("sionna", "modem", "decoder")


@dataclass
class Count:
    """Counts at one SNR: segments, failed segments, bursts, and bursts without a header."""

    blocks: int = 0
    errors: int = 0
    bursts: int = 0
    lost: int = 0


@dataclass(frozen=True)
class Job:
    """One curve: up to ``blocks`` at an SNR, fewer if ``errors`` come first."""

    way: str
    mcs: Mcs
    seed: int
    blocks: int
    errors: int


def through_modem(mcs: Mcs) -> Callable[[np.random.Generator, float, Count], None]:
    """Return a function that sends one burst."""

    def send(rng: np.random.Generator, snr_db: float, count: Count) -> None:
        passage = lab.send(rng, lab.make_frame(rng, DETAIL_BYTES), snr_db, mcs.index)
        count.bursts += 1
        count.blocks += SEGMENTS
        count.lost += passage.burst is None
        count.errors += passage.segment_failures

    return send


def detail_of(mcs: Mcs, size: int) -> tuple[CodedBlock, Segments]:
    """Return the coded block of a detail layer of ``size`` bytes, and its segments."""
    layout = Layout.of(Numerology(), FrameHeader(bytes(4), 64, 64, 16, size), mcs)
    assert layout.detail and layout.segments
    return layout.detail, layout.segments


def through_awgn(mcs: Mcs, decoder: Decoder, iterations: int) -> Callable[[np.random.Generator, float, Count], None]:
    """Return a function that sends a detail block alone and demaps it with the true variance of the noise."""
    block, segments = detail_of(mcs, WORDS * MAX_SEGMENT_BYTES)

    def send(rng: np.random.Generator, snr_db: float, count: Count) -> None:
        bits = segments.split(rng.bytes(segments.size), check=0)
        symbols = block.modulate(bits)
        variance = 10 ** (-snr_db / 10)
        received: lab.Samples = symbols + lab.complex_noise(rng, symbols.size, variance).reshape(symbols.shape)
        llr = block.soft_bits(received, np.full(symbols.shape, variance, np.float32))
        _, posterior = block.decode(llr, iterations, decoder)
        count.blocks += WORDS
        count.errors += int(np.any((posterior > 0) != bits, axis=1).sum())

    return send


def curve(job: Job) -> list[dict[str, Any]]:
    """Measure BLER against SNR, from the top of the curve to the first point at 1 % or less."""
    if job.way == "modem":
        send = through_modem(job.mcs)
    elif job.way == "decoder":
        send = through_awgn(job.mcs, "min-sum", ITERATIONS)
    else:
        send = through_awgn(job.mcs, "sionna", SIONNA_ITERATIONS)

    def measure(step: int) -> dict[str, Any]:
        # A seed of its own for each point: it does not depend on where the walk began.
        rng = np.random.default_rng([job.seed, job.mcs.index, WAYS.index(job.way), step + 1000])
        count = Count()
        while count.blocks < job.blocks and count.errors < job.errors:
            send(rng, step * STEP_DB, count)
        point: dict[str, Any] = {
            "es_n0_db": step * STEP_DB,
            "blocks": count.blocks,
            "errors": count.errors,
            "bler": count.errors / count.blocks,
            "bler_95": wilson(count.errors, count.blocks),
        }
        return point | ({"bursts": count.bursts, "headers_lost": count.lost} if count.bursts else {})

    start = round(THRESHOLDS_DB[job.mcs.index] / STEP_DB)
    points = [measure(start)]
    while points[-1]["bler"] > TARGET:
        points.append(measure(start := start + 1))
    low = round(points[0]["es_n0_db"] / STEP_DB)
    while points[0]["bler"] < TOP:
        points.insert(0, measure(low := low - 1))
    return points


def crossing(points: list[dict[str, Any]], rng: np.random.Generator, draws: int = 4000) -> NDArray[np.float64]:
    """Return the SNR [dB] of a BLER of 1 %: estimate and draws from its posterior (Jeffreys' prior), [1 + draws]."""
    upper = next(i for i, point in enumerate(points) if point["bler"] <= TARGET)
    logs = []
    for point in points[upper - 1 : upper + 1]:
        blocks, errors = point["blocks"], point["errors"]
        # No error seen: half a one, so that there is a logarithm.
        rate = max(errors, 0.5) / blocks
        logs.append(np.log10(np.r_[rate, rng.beta(errors + 0.5, blocks - errors + 0.5, draws)]))
    share = (logs[0] - math.log10(TARGET)) / np.maximum(logs[0] - logs[1], 0.1)
    return np.asarray(points[upper - 1]["es_n0_db"] + STEP_DB * share)


def interval(draws: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(draws[1:], (0.025, 0.975))
    return round(float(low), 3), round(float(high), 3)


def summary(mcs: Mcs, curves: dict[str, list[dict[str, Any]]], seed: int) -> dict[str, Any]:
    """Return the thresholds of one MCS with 95 % intervals, the gap, and all counts."""
    rng = np.random.default_rng([seed, mcs.index])
    at = {way: crossing(curves[way], rng) for way in WAYS}
    block, _ = detail_of(mcs, DETAIL_BYTES)
    row: dict[str, Any] = {"mcs": mcs.name, "k": block.k, "n": block.n}
    for way in WAYS:
        row |= {f"{way}_db": round(float(at[way][0]), 3), f"{way}_db_95": interval(at[way])}
    gap = at["modem"] - at["sionna"]
    row |= {"gap_db": round(float(gap[0]), 3), "gap_db_95": interval(gap)}
    return row | {"curves": curves}


def draw(benchmark: bench.Benchmark, rows: list[dict[str, Any]]) -> None:
    """Draw BLER against SNR: the modem solid, Sionna dashed, a colour an MCS."""
    from matplotlib import colormaps

    with benchmark.figure(1200, 650) as figure:
        axes = figure.subplots()
        for index, row in enumerate(rows):
            colour = colormaps["turbo"](0.05 + 0.9 * index / (len(rows) - 1))
            label = f"{row['mcs']}: {row['modem_db']:.1f} dB, gap {row['gap_db']:.2f} dB"
            for way, style, name in (("modem", "o-", label), ("sionna", "x--", None)):
                points = [point for point in row["curves"][way] if point["errors"]]
                snrs_db = [point["es_n0_db"] for point in points]
                axes.semilogy(snrs_db, [point["bler"] for point in points], style, color=colour, ms=4.5, label=name)
        axes.axhline(TARGET, color="black", lw=0.8, ls=":")
        axes.set(xlabel="Es/N0 [dB]", ylabel="BLER of a segment of 192 B", ylim=(1e-3, 1))
        axes.set_title("Solid: the modem, unknown timing, CFO and phase. Dashed: Sionna BP-20, channel known.")
        axes.legend(title="SNR for a BLER of 1 %", fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__, jobs=2)
    options = benchmark.parse()

    scale = 0.02 if options.quick else 1.0
    jobs = []
    table = benchmark.few(MCS_TABLE)
    # The longest jobs first, so that both processes end together.
    for way, mcs in product(WAYS, table):
        # Sionna's time is that of its edges, near enough that of the coded bits.
        blocks = min(940 * mcs.efficiency, 2400) if way == "sionna" else 3200
        jobs.append(
            Job(way, mcs, options.seed, int(blocks * scale), math.ceil((40 if way == "sionna" else 150) * scale))
        )
    answers = dict(zip(product(WAYS, table), benchmark.run(curve, jobs, "MCS"), strict=True))
    rows = [summary(mcs, {way: answers[way, mcs] for way in WAYS}, options.seed) for mcs in table]
    bench.show("Es/N0 for a BLER of 1 %, in dB", rows)
    content = {"numerology": "64"}
    content |= {"segment_bytes": MAX_SEGMENT_BYTES, "segments": SEGMENTS, "max_cfo": lab.MAX_CFO, "rows": rows}
    benchmark.write(content)
    draw(benchmark, rows)


if __name__ == "__main__":
    main()
