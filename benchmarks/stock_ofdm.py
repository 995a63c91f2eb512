"""The burst modem beside GNU Radio's digital.ofdm_tx and digital.ofdm_rx, on the same channels with the same noise.

    python benchmarks/stock_ofdm.py [--bursts 1000] [--many 10000] [--seed 1] [--out benchmarks/results/stock_ofdm.json]

Both send the same bytes on 52 of 64 carriers, in bursts of unit mean power. Burst i of a point has the same taps,
CFO, phase, delay and noise for all modems. It is lost unless what comes out is what was sent.

GNU Radio's pair is measured twice. "stock" is as it comes, with a payload of QPSK. There the sync words and the header
are 5.8 dB weaker than the payload, and the synchroniser wants a correlation of 0.9. "stock, tuned" has the first
symbols raised to the power of the others, and a threshold of 0.6, which its arguments do not offer.

"curves" is the loss against Es/N0, "many" the loss of long bursts at 12 dB and more, "without_cfo" shows what the CFO
costs the stock receiver. "loss_without_fec" is computed: what QPSK of the stock packet's length loses by hard decisions
on the same channels when timing, CFO and channel are known. The plot goes beside the JSON file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any
from unittest import mock

import bench

# Before GNU Radio is imported: packets must fit into its buffers, and headers that fail are not worth a line each.
os.environ["GR_CONF_DEFAULT_BUFFER_SIZE"] = "262144"
os.environ["GR_CONF_LOG_LOG_LEVEL"] = "off"

import lab
import numpy as np
import pmt
from gnuradio import blocks, digital, gr
from gnuradio.digital import ofdm_txrx
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import log_ndtr

from crlsc_phy.frame import SemanticFrame
from crlsc_phy.phy import BurstModem, Numerology
from crlsc_phy.quality.intervals import wilson

CFO = 0.02
"""Largest CFO in cycles/sample, 1.28 carriers: the stock receiver too is made for more than one carrier."""

DETAIL_BYTES = 80
"""Detail layer in the curves; with the air code of 16 B the payload has 96 B."""

LONG_DETAIL_BYTES = 288
"""Detail layer of the bursts that are sent by the ten thousand."""

SNRS_DB = tuple(range(-8, 21))
MANY_SNRS_DB = (12, 16, 20, 25)
WITHOUT_CFO_SNRS_DB = (14, 16, 18, 20, 25)
JOB_BURSTS = 250

TAPS = 5
TAP_DECAY = 2.0
"""Samples in which the mean power of the taps falls to 1/e."""

GAPS = (1000, 1400)
"""Noise before a burst in samples, at random in this range."""

TAIL = 64
END = 5000
"""Noise behind the last burst: the stock chain hands a packet out when more samples push it."""

CHANNELS = ("AWGN", "5 taps")
TAG = "packet_len"
CRC_BYTES = 4


@dataclass(frozen=True)
class Point:
    """The settings that the bursts of one point share.

    Attributes:
        part: Which part of the benchmark; parts draw other channels.
        channel: One of ``CHANNELS``.
        snr_db: Es/N0 on an occupied carrier.
        detail_bytes: Of every frame; the air code has 16 B.
        cfo: Largest CFO in cycles/sample.
        modems: Keys of ``MODEMS``.
    """

    part: int
    channel: str
    snr_db: int
    detail_bytes: int
    cfo: float
    modems: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """Bursts ``first`` to ``last - 1`` of a point."""

    point: Point
    first: int
    last: int
    seed: int


@dataclass
class Tally:
    """Counts of bursts received and lost.

    Attributes:
        bursts: Sent.
        lost_meanings: Without the header and the air code; for the stock modem, which has no layers, as ``lost``.
        lost: Not received in full.
        wrong: Received with good CRCs, but never sent.
        burst_samples: Of one burst, without silence.
        samples: Heard by the receiver, noise between the bursts included.
        cpu_s: CPU time of the receiver, all its threads.
    """

    bursts: int = 0
    lost_meanings: int = 0
    lost: int = 0
    wrong: int = 0
    burst_samples: int = 0
    samples: int = 0
    cpu_s: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        mine, theirs = asdict(self), asdict(other)
        total = {name: mine[name] + theirs[name] for name in mine}
        return Tally(**total | {"burst_samples": max(self.burst_samples, other.burst_samples)})


@dataclass(frozen=True)
class Delivered:
    """Indices of the bursts whose meaning and whose whole content came out, and a count of what was never sent."""

    meanings: set[int]
    whole: set[int]
    wrong: int


class Ours:
    """The burst modem.

    Args:
        mcs: Of the detail.
    """

    def __init__(self, mcs: str) -> None:
        self.modem = BurstModem(mcs=mcs)

    def modulate(self, frames: list[SemanticFrame]) -> list[lab.Samples]:
        """Return a burst for each frame, without its guard."""
        return [self.modem.modulate(frame)[: self.modem.burst_samples(frame.header)] for frame in frames]

    def receive(self, iq: lab.Samples, frames: list[SemanticFrame]) -> tuple[Delivered, float]:
        """Return what of ``frames`` is received from a stream, and the CPU-seconds for it."""
        modem = BurstModem()
        received, seconds = bench.timed(lambda: modem.receive(iq) + modem.flush())
        meanings = {(frame.header, frame.semantic): index for index, frame in enumerate(frames)}
        found = {meanings.get((b.frame.header, b.frame.semantic), -1): b.frame for b in received if b.semantic_ok}
        wrong = sum(b.semantic_ok and (b.frame.header, b.frame.semantic) not in meanings for b in received)
        found.pop(-1, None)
        whole = {index for index, frame in found.items() if frame == frames[index]}
        return Delivered(set(found), whole, wrong), seconds


class Stock:
    """GNU Radio's OFDM transmitter and receiver: QPSK without FEC, hard decisions, all or nothing by CRC-32.

    Args:
        tuned: Whether the first three symbols get the power of the others, and the synchroniser a lower threshold.
    """

    def __init__(self, tuned: bool) -> None:
        self.tuned = tuned

    def modulate(self, frames: list[SemanticFrame]) -> list[lab.Samples]:
        """Return a packet for each frame; the frames must be of one size."""
        packets = [payload(frame) for frame in frames]
        top = gr.top_block()
        source = blocks.vector_source_b(list(b"".join(packets)))
        tagger = blocks.stream_to_tagged_stream(gr.sizeof_char, 1, len(packets[0]), TAG)
        sink = blocks.vector_sink_c()
        top.connect(source, tagger, digital.ofdm_tx(packet_length_tag_key=TAG, bps_payload=2), sink)
        top.run()
        bursts = np.asarray(sink.data(), np.complex64).reshape(len(packets), -1)
        if self.tuned:
            leading = 3 * Numerology().symbol_length
            # The last symbol is not always full.
            full = slice(leading, bursts.shape[1] - Numerology().symbol_length)
            bursts[:, :leading] *= np.sqrt(mean_power(bursts[:, full]) / mean_power(bursts[:, :leading]))
        return list(bursts)

    def receive(self, iq: lab.Samples, frames: list[SemanticFrame]) -> tuple[Delivered, float]:
        """Return what of ``frames`` is received from a stream, and the CPU-seconds for it."""
        top = gr.top_block()
        with self._threshold():
            receiver = digital.ofdm_rx(packet_length_tag_key=TAG, bps_payload=2)
        sink = blocks.vector_sink_b()
        top.connect(blocks.vector_source_c(iq), receiver, sink)
        _, seconds = bench.timed(top.run)
        data = bytes(sink.data())
        packets = [
            data[tag.offset : tag.offset + pmt.to_long(tag.value)]
            for tag in sink.tags()
            if pmt.symbol_to_string(tag.key) == TAG
        ]
        sent = {payload(frame): index for index, frame in enumerate(frames)}
        found = {sent[packet] for packet in packets if packet in sent}
        return Delivered(found, found, sum(packet not in sent for packet in packets)), seconds

    @contextlib.contextmanager
    def _threshold(self) -> Iterator[None]:
        if not self.tuned:
            yield
            return
        lower = partial(digital.ofdm_sync_sc_cfb, threshold=0.6)
        with mock.patch.object(ofdm_txrx.digital, "ofdm_sync_sc_cfb", lower):
            yield


MODEMS: dict[str, Callable[[], Ours | Stock]] = {
    "ours, QPSK 1/2": partial(Ours, "qpsk-1/2"),
    "ours, QPSK 3/4": partial(Ours, "qpsk-3/4"),
    "stock": partial(Stock, False),
    "stock, tuned": partial(Stock, True),
}
STOCK = ("stock", "stock, tuned")
NOTES = {
    "ours, QPSK 1/2": "signalling LDPC 1/5 twice, detail LDPC 1/2, soft decisions; header and air code stand alone",
    "ours, QPSK 3/4": "as above, detail LDPC 3/4",
    "stock": "header one uncoded BPSK symbol, payload QPSK without FEC, hard decisions, one CRC-32",
    "stock, tuned": "as above; sync words and header with the power of the payload, sync threshold 0.6, not 0.9",
}
LINES = (
    ("ours, QPSK 1/2", "lost_meanings", "ours: header and air code", "#6baed6", "o", "--"),
    ("ours, QPSK 1/2", "lost", "ours, QPSK 1/2: whole frame", "#08519c", "o", "-"),
    ("ours, QPSK 3/4", "lost", "ours, QPSK 3/4: whole frame", "#41ab5d", "s", "-"),
    ("stock, tuned", "lost", "stock, tuned: whole packet", "#fd8d3c", "^", "-"),
    ("stock", "lost", "stock, as it comes: whole packet", "#cb181d", "v", "-"),
)
"""Modem, count, label, colour, marker and line style of what the plot shows."""


def payload(frame: SemanticFrame) -> bytes:
    """Return the bytes that the stock modem sends for a frame: its two layers, without our header."""
    return (frame.semantic or b"") + (frame.detail or b"")


def mean_power(samples: lab.Samples) -> float:
    return float(np.mean(np.abs(samples) ** 2))


@dataclass(frozen=True)
class Air:
    """The channel of one burst, the same for all modems.

    Not the package's channel: all modems get the same realisation, whose mean gain is 1 for each burst, and the loss of
    an uncoded link over it is known in closed form.

    Attributes:
        gap: Samples of noise before it.
        taps: complex64 [n].
        gains: Power gain of the occupied carriers, mean 1, float [occupied].
        rotation: CFO and phase, complex64, as long as the longest burst with its silence.
        noise: complex64, as long.
    """

    gap: int
    taps: lab.Samples
    gains: NDArray[np.float64]
    rotation: lab.Samples
    noise: lab.Samples

    @classmethod
    def draw(cls, rng: np.random.Generator, point: Point, longest: int) -> Air:
        """Draw a realisation for bursts of up to ``longest`` samples."""
        numerology = Numerology()
        # Taps are drawn for every channel, so that AWGN and multipath differ in nothing else.
        profile = np.exp(-np.arange(TAPS) / (2 * TAP_DECAY))
        taps = profile * (rng.standard_normal(TAPS) + 1j * rng.standard_normal(TAPS))
        cfo, phase, gap = point.cfo * rng.uniform(-1, 1), rng.uniform(0, 2 * np.pi), int(rng.integers(*GAPS))
        if point.channel == "AWGN":
            taps = np.ones(1)
        carriers = np.r_[-numerology.occupied // 2 : 0, 1 : numerology.occupied // 2 + 1]
        gains = np.abs(np.fft.fft(taps, numerology.fft_size)[carriers]) ** 2
        scale = np.mean(gains)
        length = gap + longest + TAPS - 1 + TAIL
        rotation = np.exp(1j * (2 * np.pi * cfo * np.arange(length) + phase)).astype(np.complex64)
        noise = lab.complex_noise(rng, length, lab.noise_variance(numerology, point.snr_db))
        return cls(gap, (taps / np.sqrt(scale)).astype(np.complex64), gains / scale, rotation, noise)

    def __call__(self, burst: lab.Samples) -> lab.Samples:
        """Return the samples at the receiver, with noise before and behind the burst."""
        signal = np.convolve(burst / np.float32(np.sqrt(mean_power(burst))), self.taps)
        received = self.noise[: self.gap + len(signal) + TAIL].copy()
        received[self.gap : self.gap + len(signal)] += signal * self.rotation[: len(signal)]
        return received

    def loss_without_fec(self, snr_db: float, size: int) -> float:
        """Return the probability that a bit of ``size`` bytes of QPSK, spread over the carriers, is decided wrongly."""
        log_right = log_ndtr(np.sqrt(10 ** (snr_db / 10) * self.gains))
        return float(-np.expm1(8 * size * np.mean(log_right)))


@cache
def warm_up() -> None:
    """Load compiled code, whose time is not to be measured."""
    frames = [lab.make_frame(np.random.default_rng(0))]
    for make in MODEMS.values():
        modem = make()
        modem.receive(np.pad(modem.modulate(frames)[0], 2000), frames)


def run(job: Job) -> tuple[dict[str, Tally], float]:
    """Send the bursts of a job through all modems of its point; count also those that would be lost without FEC."""
    warm_up()
    point = job.point
    key = (job.seed, point.part, point.snr_db + 100)
    generators = [np.random.default_rng([*key, number]) for number in range(job.first, job.last)]
    frames = [lab.make_frame(rng, point.detail_bytes) for rng in generators]
    modems = {name: MODEMS[name]() for name in point.modems}
    sent = {name: modem.modulate(frames) for name, modem in modems.items()}
    longest = max(len(bursts[0]) for bursts in sent.values())
    received: dict[str, list[lab.Samples]] = {name: [] for name in modems}
    without_fec = 0.0
    for number, rng in enumerate(generators):
        air = Air.draw(rng, point, longest)
        without_fec += air.loss_without_fec(point.snr_db, len(payload(frames[number])) + CRC_BYTES)
        for name, bursts in sent.items():
            received[name].append(air(bursts[number]))
    end = lab.complex_noise(generators[-1], END, lab.noise_variance(Numerology(), point.snr_db))
    tallies = {}
    for name, modem in modems.items():
        iq = np.concatenate((*received[name], end))
        got, seconds = modem.receive(iq, frames)
        lost_meanings, lost = len(frames) - len(got.meanings), len(frames) - len(got.whole)
        tallies[name] = Tally(len(frames), lost_meanings, lost, got.wrong, len(sent[name][0]), len(iq), seconds)
    return tallies, without_fec


def measure(benchmark: bench.Benchmark, points: list[Point], bursts: int, label: str) -> list[dict[str, Any]]:
    """Return a row for each point and modem."""
    jobs = [
        Job(point, first, min(first + JOB_BURSTS, bursts), benchmark.options.seed)
        for point in points
        for first in range(0, bursts, JOB_BURSTS)
    ]
    totals = {(point, name): Tally() for point in points for name in point.modems}
    without_fec = dict.fromkeys(points, 0.0)
    for job, (tallies, losses) in zip(jobs, benchmark.run(run, jobs, label), strict=True):
        without_fec[job.point] += losses
        for name, tally in tallies.items():
            totals[job.point, name] += tally
    return [
        {
            "payload_bytes": 16 + point.detail_bytes,
            "cfo_within": point.cfo,
            "bursts": bursts,
            "channel": point.channel,
            "es_n0_db": point.snr_db,
            "modem": name,
            **losses_of(name, tally),
            **({"loss_without_fec": round(without_fec[point] / bursts, 7)} if name in STOCK else {}),
            "burst_samples": tally.burst_samples,
            "received_samples": tally.samples,
            "receive_cpu_s": round(tally.cpu_s, 3),
        }
        for (point, name), tally in totals.items()
    ]


def losses_of(name: str, tally: Tally) -> dict[str, Any]:
    """Return the counts of a tally and their intervals; the stock modem has no meaning to count."""
    counts = {"lost": tally.lost} if name in STOCK else {"lost_meanings": tally.lost_meanings, "lost": tally.lost}
    answer: dict[str, Any] = {}
    for key, count in counts.items():
        answer |= {key: count, f"{key}_95": [round(edge, 6) for edge in wilson(count, tally.bursts)]}
    return answer | {"wrong": tally.wrong}


def section(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return rows, with the values that they share once at the head."""
    common = ("payload_bytes", "cfo_within", "bursts")
    head = {key: rows[0][key] for key in common}
    return head | {"rows": [{key: value for key, value in row.items() if key not in common} for row in rows]}


def summed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add up the losses of each modem over all points."""
    answer = []
    for name in dict.fromkeys(row["modem"] for row in rows):
        mine = [row for row in rows if row["modem"] == name]
        sums = {key: sum(row.get(key, 0) for row in mine) for key in ("bursts", "lost_meanings", "lost", "wrong")}
        answer.append({"modem": name, "bursts": sums["bursts"], **losses_of(name, Tally(**sums))})
    return answer


def overhead(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the time on the air and the receiver's speed of each modem, at the highest Es/N0."""
    rows = [row for row in rows if row["es_n0_db"] == max(r["es_n0_db"] for r in rows)]
    shortest = min(row["burst_samples"] for row in rows)
    return [
        {
            "modem": row["modem"],
            "payload_bytes": row["payload_bytes"],
            "burst_samples": row["burst_samples"],
            "samples_per_byte": round(row["burst_samples"] / row["payload_bytes"], 2),
            # At the same Es/N0 a longer burst has more energy: by this much the curves would move at equal energy.
            "energy_db": round(10 * float(np.log10(row["burst_samples"] / shortest)), 2),
            "receive_bursts_per_cpu_s": round(row["bursts"] / row["receive_cpu_s"]),
            "receive_msamples_per_cpu_s": round(row["received_samples"] / row["receive_cpu_s"] / 1e6, 2),
        }
        for row in rows
        if row["channel"] == rows[0]["channel"]
    ]


def needed(rows: list[dict[str, Any]], rate: float = 0.01) -> list[dict[str, Any]]:
    """Return the lowest measured Es/N0 from which on no more than ``rate`` is lost, or None."""
    answer = []
    for name, key, *_ in LINES:
        row: dict[str, Any] = {"modem": name, "what": "header and air code" if key == "lost_meanings" else "whole"}
        for channel in CHANNELS:
            mine = [r for r in rows if (r["modem"], r["channel"]) == (name, channel)]
            bad = max((r["es_n0_db"] for r in mine if r[key] > rate * r["bursts"]), default=-np.inf)
            row[channel] = min((r["es_n0_db"] for r in mine if r["es_n0_db"] > bad), default=None)
        answer.append(row)
    return answer


def plot(benchmark: bench.Benchmark, rows: list[dict[str, Any]], bursts: int) -> None:
    """Draw loss against Es/N0, a panel for each channel, with 95 % intervals."""
    # A logarithm has no zero: its place is the lower edge.
    zero = 0.4 / bursts
    with benchmark.figure(1200, 600) as figure:
        draw(figure, rows, bursts, zero)


def draw(figure: Figure, rows: list[dict[str, Any]], bursts: int, zero: float) -> None:
    panels = figure.subplots(1, len(CHANNELS), sharex=True, sharey=True)
    titles = {"AWGN": "AWGN", "5 taps": "5-tap multipath, new for every burst"}
    for panel, channel in zip(panels, CHANNELS, strict=True):
        here = [row for row in rows if row["channel"] == channel]
        bound = [(row["es_n0_db"], max(row["loss_without_fec"], zero)) for row in here if row["modem"] == "stock"]
        label = "QPSK without FEC, all else known (computed)"
        panel.plot(*zip(*bound, strict=True), ":", color="#636363", label=label, linewidth=1.6)
        for name, key, label, colour, marker, style in LINES:
            mine = [row for row in here if row["modem"] == name]
            snr = np.array([row["es_n0_db"] for row in mine])
            rate = np.array([row[key] for row in mine]) / bursts
            interval = np.array([row[f"{key}_95"] for row in mine])
            height = np.maximum(rate, zero)
            look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4.5}
            some = rate > 0
            places = list(np.flatnonzero(some))
            panel.plot(snr, height, linestyle=style, label=label, linewidth=1.6, markevery=places, **look)
            errors = bench.error_bars(height, interval, zero)[:, some]
            panel.errorbar(snr[some], rate[some], errors, linestyle="none", capsize=2, elinewidth=1, color=colour)
            hollow = {
                "linestyle": "none",
                "markerfacecolor": "white",
                "zorder": 3,
                "clip_on": False,
                "in_layout": False,
            }
            panel.plot(snr[~some], height[~some], **look, **hollow)
        panel.set_title(titles[channel])
        panel.set_xlabel("Es/N0 on an occupied carrier [dB]")
        panel.set_yscale("log")
        panel.set_ylim(zero, 1.3)
        panel.set_xlim(SNRS_DB[0] - 0.5, SNRS_DB[-1] + 0.5)
        panel.set_xticks(range(SNRS_DB[0], SNRS_DB[-1] + 1, 4))
        decades = [10.0**exponent for exponent in range(int(np.ceil(np.log10(1 / bursts))), 1)]
        panel.set_yticks([zero, *decades], ["0", *(f"{100 * decade:g} %" for decade in decades)])
        panel.minorticks_off()
    panels[0].set_ylabel(f"lost, of {bursts:,} bursts a point")
    figure.suptitle(f"{16 + DETAIL_BYTES} B on 52 of 64 carriers, CFO within {CFO:.0%} of the sample rate")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)


def show_losses(title: str, rows: list[dict[str, Any]]) -> None:
    """Print the losses, a row for each point and a column for each modem."""
    table: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:
        line = table.setdefault((row["channel"], row["es_n0_db"]), {"channel": row["channel"], "dB": row["es_n0_db"]})
        if "lost_meanings" in row:
            line[f"{row['modem']}: meaning"] = row["lost_meanings"]
        line[row["modem"]] = row["lost"]
    bench.show(title, list(table.values()))


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__, jobs=2)
    benchmark.add("--bursts", 1000, "bursts of each point of the curves", quick=5)
    benchmark.add("--many", 10000, "bursts at 12 dB and more, in all", quick=20)
    options = benchmark.parse()

    def rows(label: str, bursts: int, points: list[Point]) -> list[dict[str, Any]]:
        return measure(benchmark, points, bursts, label)

    names = tuple(MODEMS)
    without_cfo = rows(
        "without CFO",
        options.bursts,
        [Point(0, "AWGN", snr_db, DETAIL_BYTES, 0.0, STOCK) for snr_db in benchmark.few(WITHOUT_CFO_SNRS_DB)],
    )
    best = [row for row in without_cfo if row["es_n0_db"] == WITHOUT_CFO_SNRS_DB[-1]]
    if any(row["lost"] > 0.01 * row["bursts"] for row in best):
        raise SystemExit(f"the stock modem loses bursts over a good channel, so this run compares nothing: {best}")
    curves = rows(
        "curves",
        options.bursts,
        [
            Point(1, channel, snr_db, DETAIL_BYTES, CFO, names)
            for channel in CHANNELS
            for snr_db in benchmark.few(SNRS_DB)
        ],
    )
    long = ("ours, QPSK 1/2", *STOCK)
    many = rows(
        "many",
        -(-options.many // len(MANY_SNRS_DB)),
        [Point(2, "5 taps", snr_db, LONG_DETAIL_BYTES, CFO, long) for snr_db in MANY_SNRS_DB],
    )
    result: dict[str, Any] = {
        "machine": bench.machine() | {"gnuradio": gr.version()},
        "modems": NOTES,
        "multipath": {"taps": TAPS, "decay_samples": TAP_DECAY, "mean_gain_of_each_realisation": 1},
        "overhead": overhead(curves) + overhead(many),
        "es_n0_db_for_1_percent": needed(curves),
        "many_in_all": summed(many),
        "many": section(many),
        "without_cfo": section(without_cfo),
        "curves": section(curves),
    }
    show_losses(f"Lost of {options.bursts}, 96 B", curves)
    show_losses(f"Lost of {options.bursts}, 96 B, without CFO", without_cfo)
    show_losses(f"Lost of {many[0]['bursts']}, 304 B", many)
    bench.show("Es/N0 in dB from which on at most 1 % is lost", needed(curves))
    bench.show("On the air, and received", result["overhead"])
    for row in result["many_in_all"]:
        meanings = f"{row['lost_meanings']} without header or air code, " if "lost_meanings" in row else ""
        print(f"{row['modem']}, 12 dB and more: {meanings}{row['lost']} not whole, of {row['bursts']} bursts")
    benchmark.write(result)
    plot(benchmark, curves, options.bursts)


if __name__ == "__main__":
    main()
