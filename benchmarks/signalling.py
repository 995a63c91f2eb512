"""Delivery of header and meaning, and accuracy of the SNR estimate.

    python benchmarks/signalling.py [--bursts 2000] [--fading-bursts 8000] [--seed 1]

Three parts: AWGN with unknown timing, phase and CFO; Sionna's TDL-A (100 ns, 3 m/s at 3.5 GHz, 1 MS/s) with the same
unknowns, beside the same receiver given timing, CFO, channel and noise, on the same realisations; and the estimate of
the SNR over AWGN from -5 to 30 dB. A burst counts as delivered when header and air code are right. Each burst draws
from a seed of its own, and the same bursts are sent at every SNR.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bench
import lab
import numpy as np

from crlsc_phy.channel import StreamChannel
from crlsc_phy.errors import FrameError
from crlsc_phy.frame import SemanticFrame
from crlsc_phy.phy import Burst, BurstModem, Numerology
from crlsc_phy.phy.demodulator import Reception
from crlsc_phy.phy.layers import LayerReader, Receive
from crlsc_phy.phy.layout import Layout, header_block, pack_header
from crlsc_phy.phy.ofdm import Ofdm
from crlsc_phy.phy.preamble import Preamble
from crlsc_phy.quality.intervals import wilson

AWGN_DB = (-8, -7.5, -7, -6.5, -6, -5.5, -5, -4.5, -4, -3)
FADING_DB = (2, 4, 6, 8, 9, 10, 11, 12, 14, 16)
ESTIMATE_DB = tuple(range(-5, 31, 5))
CARRIER_HZ, SPEED, DELAY_SPREAD_S = 3.5e9, 3.0, 100e-9
MAX_DELAY_S = 1.5e-6
JOB = 100


def delivered(frame: SemanticFrame, bursts: list[Burst]) -> bool:
    return any((b.frame.header, b.frame.semantic) == (frame.header, frame.semantic) for b in bursts)


def awgn_job(job: tuple[int, int, int, float]) -> dict[str, Any]:
    """Send bursts over AWGN at one SNR; count those delivered whole and in part, and collect the SNR estimates."""
    seed, number, bursts, snr_db = job
    meaning = whole = 0
    estimates: list[float] = []
    for index in range(bursts):
        rng = np.random.default_rng([seed, number, index])
        frame = lab.make_frame(rng)
        if burst := lab.send(rng, frame, snr_db).burst:
            meaning += burst.frame.semantic == frame.semantic
            whole += burst.frame == frame
            estimates.append(burst.snr_db)
    return {"snr_db": snr_db, "bursts": bursts, "meaning": meaning, "whole": whole, "estimates": estimates}


class KnownChannel:
    """The true channel of a burst, in place of all estimates.

    Args:
        ofdm, preamble: Of the modem.
        taps: Of every sample, complex64 [samples, taps]; tap l reaches back l samples.
        start: First sample of the burst by the path of no delay.
        delay: The tap of that path.
        cfo: In cycles/sample.
        noise: Variance on a carrier.
    """

    def __init__(
        self, ofdm: Ofdm, preamble: Preamble, taps: np.ndarray, start: int, delay: int, cfo: float, noise: float
    ) -> None:
        self._ofdm, self._taps, self._start, self._cfo, self._noise = ofdm, taps, start, cfo, noise
        self._first = start + len(preamble.waveform) + ofdm.numerology.cp_length - ofdm.backoff
        delays = np.arange(taps.shape[1]) - delay + ofdm.backoff
        self._basis = np.exp(-2j * np.pi * np.outer(delays, ofdm.carriers) / ofdm.numerology.fft_size)

    def reception(self, samples: np.ndarray, symbols: int) -> Reception:
        numerology = self._ofdm.numerology
        starts = self._first + numerology.symbol_length * np.arange(symbols)
        values = self._ofdm.analyse(samples, starts, self._cfo)
        # The phase of the CFO counts from sample 0 of the stream, as in analyse.
        means = np.stack([self._taps[at : at + numerology.fft_size].mean(axis=0) for at in starts])
        nothing = np.zeros(symbols)
        channel = (means @ self._basis).astype(np.complex64)
        error = np.zeros(symbols, np.float32)
        return Reception(values, channel, self._noise, error, nothing, nothing, nothing, self._cfo, self._ofdm)


def fading_job(job: tuple[int, int, int]) -> list[dict[str, Any]]:
    """Send bursts over TDL-A at all SNRs; count those we and the receiver that knows the channel delivered."""
    import torch
    from sionna.phy import config
    from sionna.phy.channel import TimeChannel
    from sionna.phy.channel.tr38901 import TDL

    torch.set_num_threads(1)
    seed, number, bursts = job
    config.seed = seed * 100_003 + number
    modem = BurstModem()
    numerology = modem.numerology
    ofdm = Ofdm(numerology)
    preamble = Preamble(ofdm)
    reader = LayerReader()
    tdl = TDL("A", DELAY_SPREAD_S, CARRIER_HZ, min_speed=SPEED)
    rows = [{"snr_db": snr_db, "bursts": bursts, "ours": 0, "known": 0} for snr_db in FADING_DB]
    for index in range(bursts):
        rng = np.random.default_rng([seed, number, index])
        frame = lab.make_frame(rng)
        lead = int(rng.integers(300, 1500))
        iq = np.pad(modem.modulate(frame), (lead, 300))
        # Sionna's channel, not the package's: it hands out the taps of every sample, and shares no code with ours.
        channel = TimeChannel(tdl, numerology.sample_rate, len(iq), MAX_DELAY_S, return_channel=True)
        faded, response = channel(torch.tensor(iq)[None, None, None])
        taps = response.numpy().reshape(-1, response.shape[-1])
        cfo = float(rng.uniform(-lab.MAX_CFO, lab.MAX_CFO))
        clean = StreamChannel(cfo_hz=cfo * numerology.sample_rate)(faded.numpy().ravel())
        white = lab.complex_noise(rng, len(clean), 1.0)
        delay = -channel.l_min
        for row in rows:
            variance = lab.noise_variance(numerology, row["snr_db"])
            received = clean + np.float32(np.sqrt(variance)) * white
            row["ours"] += delivered(frame, modem.receive(received) + modem.flush())
            known = KnownChannel(ofdm, preamble, taps, lead + delay, delay, cfo, variance)
            row["known"] += _read_known(reader, known, received, frame)
    return rows


def _read_known(reader: LayerReader, known: KnownChannel, samples: np.ndarray, frame: SemanticFrame) -> bool:
    def receive(symbols: int) -> Receive:
        return lambda _: known.reception(samples, symbols)

    try:
        header, mcs = reader.header(receive(header_block(Numerology()).symbols), Numerology())
    except FrameError:
        return False
    layout = Layout.of(Numerology(), header, mcs)
    layers, _ = reader.layers(header, layout, receive(layout.symbols), layout.header.modulate(pack_header(header, mcs)))
    return (layers.frame.header, layers.frame.semantic) == (frame.header, frame.semantic)


def added(jobs: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Add up the rows of several jobs."""
    return [
        {"snr_db": rows[0]["snr_db"]} | {name: sum(row[name] for row in rows) for name in ("bursts", "ours", "known")}
        for rows in zip(*jobs, strict=True)
    ]


def gap_db(rows: list[dict[str, Any]], rate: float) -> float:
    """Return the SNR that we need beyond the receiver that knows the channel, for the same delivery rate.

    It is interpolated; NaN if a side reaches the rate outside the SNRs measured.
    """
    snr = np.array([row["snr_db"] for row in rows], float)
    at = []
    for side in ("ours", "known"):
        lost = np.log10(np.maximum([1 - row[side] / row["bursts"] for row in rows], 1e-6))
        if not lost[0] >= np.log10(1 - rate) >= lost[-1]:
            return float("nan")
        at.append(float(np.interp(-np.log10(1 - rate), -lost, snr)))
    return at[0] - at[1]


def gap_row(jobs: list[list[dict[str, Any]]], rate: float, seed: int) -> dict[str, Any]:
    """Return the gap at a delivery rate and its 95 % interval, by bootstrap over the jobs."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(jobs), (1000, len(jobs)))
    gaps = [gap_db(added([jobs[i] for i in draw]), rate) for draw in draws]
    interval = np.nanquantile(gaps, (0.025, 0.975)).tolist()
    return {"delivered": rate, "gap_db": gap_db(added(jobs), rate), "gap_db_95": interval}


def plot(benchmark: bench.Benchmark, result: dict[str, Any]) -> None:
    with benchmark.figure(1650, 506) as figure:
        draw(*figure.subplots(1, 3), result)


def draw(left: Any, middle: Any, right: Any, result: dict[str, Any]) -> None:
    for axis, rows, sides, title in (
        (left, result["awgn"], (("meaning", "header and air code"),), "AWGN, unknown timing, phase and CFO"),
        (
            middle,
            result["tdl_a"],
            (("ours", "ours"), ("known", "channel, timing and CFO known")),
            "TDL-A, 100 ns, 3 m/s, 1 MS/s",
        ),
    ):
        snr = [row["snr_db"] for row in rows]
        for name, label in sides:
            lost = np.array([1 - row[name] / row["bursts"] for row in rows])
            bars = bench.error_bars(lost, [wilson(row["bursts"] - row[name], row["bursts"]) for row in rows], 1e-5)
            axis.errorbar(snr, np.maximum(lost, 1e-5), bars, marker="o", markersize=4, capsize=3, label=label)
        axis.set(xlabel="Es/N0 on an occupied carrier [dB]", ylabel="bursts not delivered", title=title)
        axis.set_yscale("log")
        axis.set_ylim(1e-4, 1.2)
        axis.legend()
    left.axhline(0.01, color="grey", linestyle=":")
    middle.axhline(0.02, color="grey", linestyle=":")
    rows = result["snr_estimate"]
    right.errorbar(
        [row["snr_db"] for row in rows],
        [row["bias_db"] for row in rows],
        [row["sigma_db"] for row in rows],
        marker="o",
        capsize=3,
    )
    right.set(xlabel="Es/N0 [dB]", ylabel="estimate - truth [dB]", title="SNR estimate: mean and one sigma")
    right.set_ylim(-1.5, 1.5)


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__, jobs=2)
    benchmark.add("--bursts", 2000, "bursts of each SNR", quick=1)
    benchmark.add("--fading-bursts", 8000, "bursts of each SNR over TDL-A", quick=2)
    options = benchmark.parse()

    jobs = range(-(-options.bursts // JOB))
    snrs_db = sorted({*benchmark.few(AWGN_DB), *benchmark.few(ESTIMATE_DB)})
    size = 10 if options.quick else JOB
    parts = benchmark.run(awgn_job, [(options.seed, job, size, snr) for snr in snrs_db for job in jobs], "AWGN")
    awgn, estimates = [], []
    for snr in sorted({part["snr_db"] for part in parts}):
        here = [part for part in parts if part["snr_db"] == snr]
        bursts, meaning, whole = (sum(part[name] for part in here) for name in ("bursts", "meaning", "whole"))
        if snr in AWGN_DB:
            lost = bursts - meaning
            awgn.append({"snr_db": snr, "bursts": bursts, "meaning": meaning, "whole": whole, "loss": lost / bursts})
            awgn[-1]["loss_95"] = wilson(lost, bursts)
        if snr in ESTIMATE_DB:
            found = np.array([value for part in here for value in part["estimates"]]) - snr
            within = float(np.mean(np.abs(found) <= 1))
            estimates.append(
                {"snr_db": snr, "bursts": len(found), "bias_db": float(found.mean()), "sigma_db": float(found.std())}
                | {"within_1_db": within}
            )
    fading_jobs = [(options.seed, job, size) for job in range(-(-options.fading_bursts // JOB))]
    fading = benchmark.run(fading_job, fading_jobs, "TDL-A")
    tdl_a = added(fading)
    for row in tdl_a:
        for name in ("ours", "known"):
            row[f"{name}_loss"] = 1 - row[name] / row["bursts"]
            row[f"{name}_loss_95"] = wilson(row["bursts"] - row[name], row["bursts"])
    gaps = [gap_row(fading, rate, options.seed) for rate in (0.95, 0.98, 0.99)]
    result = {"numerology": "64", "awgn": awgn, "tdl_a": tdl_a, "tdl_a_gap": gaps, "snr_estimate": estimates}
    bench.show("AWGN", awgn)
    bench.show("TDL-A", tdl_a)
    bench.show("Gap to the receiver that knows the channel", gaps)
    bench.show("SNR estimate", estimates)
    benchmark.write(result)
    plot(benchmark, result)


if __name__ == "__main__":
    main()
