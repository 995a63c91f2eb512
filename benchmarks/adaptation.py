"""Link adaptation in closed loop through the modem: throughput against every fixed MCS and against a genie.

Throughput is delivered bits of the detail layer over channel uses: preamble, prefix, pilots, signalling, CRCs and what
is lost are counted. Bursts follow one another; a report about a burst reaches the sender one burst late. Within a
burst the SNR stands still.

The sweep holds each SNR still. The traces change it: "fading" is a slow swing and lognormal shadowing, a "swing" 6 dB
from peak to peak at 10 Hz. The genie of the sweep takes the best of the fixed MCS after the fact. That of a trace knows
the SNR of the burst that it is about to send, and what each MCS delivered there in the sweep.

python benchmarks/adaptation.py [--quick] [--seed 1] [--out benchmarks/results/adaptation.json]
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import bench
import lab
import numpy as np
from mcs import DETAIL_BYTES

from crlsc_phy.frame import SemanticFrame
from crlsc_phy.phy import MCS_TABLE, BurstModem, Numerology
from crlsc_phy.phy.adaptation import LinkAdapter, LinkReport

SWEEP_DB = tuple(np.arange(-2, 24.25, 0.5).tolist())
SETTLING = 50
DELAY = 1
# Samples/s and seconds of each trace. What counts is how many bursts there are in a swing: about 30, and 120.
TRACES = {"fading": (1e6, 6.0), "swing, 5 MS/s": (5e6, 0.6), "swing, 20 MS/s": (20e6, 0.3)}
FIXED = [f"fixed {mcs.index}" for mcs in MCS_TABLE]


@dataclass(frozen=True)
class Sent:
    """One burst: its start [s], Es/N0 [dB] and MCS, the bits it delivered, and its channel uses."""

    time_s: float
    snr_db: float
    mcs: int
    bits: int
    uses: float


@dataclass(frozen=True)
class Job:
    """One policy on one channel.

    Attributes:
        policy: "adapted", "genie" or "fixed N".
        channel: SNR in dB, or a name in ``TRACES``.
        length: Number of bursts at a constant SNR, seconds of a trace.
        seed: Seed of everything that is drawn.
        table_db: For the genie: SNRs of the sweep.
        table: Throughput of each MCS at each of them, [MCS][SNR].
    """

    policy: str
    channel: float | str
    length: float
    seed: int
    table_db: Sequence[float] = ()
    table: Sequence[Sequence[float]] = ()


def trace(name: str, seconds: float, seed: int) -> Callable[[float], float]:
    """Return a function from time in s to SNR in dB."""
    if name.startswith("swing"):
        return lambda time: 9 + 3 * float(np.sin(2 * np.pi * 10 * time))
    # Shadowing is a first-order Gauss-Markov process: one sigma 3 dB, correlated over 0.5 s.
    step = 1e-3
    rng = np.random.default_rng([seed, 7])
    keep = np.exp(-step / 0.5)
    shadow = 3 * rng.standard_normal(int(seconds / step) + 2)
    for i in range(1, len(shadow)):
        shadow[i] = keep * shadow[i - 1] + np.sqrt(1 - keep**2) * shadow[i]
    return lambda time: 9 + 4 * float(np.sin(2 * np.pi * 0.4 * time)) + float(shadow[int(time / step)])


def channel_of(job: Job) -> tuple[float, Callable[[float], float]]:
    """Return the sample rate, and a function from time in s to SNR in dB."""
    channel = job.channel
    if isinstance(channel, str):
        return TRACES[channel][0], trace(channel, job.length, job.seed)
    return 1e6, lambda _: channel


def run(job: Job) -> list[Sent]:
    """Send bursts by the policy of a job until its length is reached."""
    rate, snr_at = channel_of(job)
    # A seed of its own for each policy and channel.
    rng = np.random.default_rng([job.seed, zlib.crc32(f"{job.policy} {job.channel}".encode())])
    numerology = Numerology(rate)
    senders = [BurstModem(numerology, mcs.index) for mcs in MCS_TABLE]
    # One receiver for all bursts, as in a running link: it also learns from the headers that it has read.
    receiver = BurstModem(numerology)
    adapter = LinkAdapter()
    reports: list[LinkReport | None] = []
    sent: list[Sent] = []
    time = 0.0
    while (time if job.channel in TRACES else len(sent)) < job.length:
        snr_db = snr_at(time)
        if job.policy == "adapted":
            mcs = adapter.choice
        elif job.policy == "genie":
            mcs = int(np.argmax([np.interp(snr_db, job.table_db, row) for row in job.table]))
        else:
            mcs = int(job.policy.removeprefix("fixed "))
        frame = lab.make_frame(rng, DETAIL_BYTES)
        frame = SemanticFrame(replace(frame.header, sequence=len(sent) % 65536), frame.semantic, frame.detail)
        heard = receiver.receive(lab.on_air(rng, senders[mcs].modulate(frame), numerology, snr_db)) + receiver.flush()
        burst = next((each for each in heard if each.frame.header == frame.header), None)
        share = 1 - burst.segment_failures / burst.segments if burst else 0.0
        bits = round(8 * DETAIL_BYTES * share)
        sent.append(Sent(time, snr_db, mcs, bits, senders[mcs].channel_uses(frame.header)))
        time += (senders[mcs].burst_samples(frame.header) + numerology.guard) / rate
        reports.append(LinkReport.of(burst) if burst else None)
        if len(reports) > DELAY:
            report = reports.pop(0)
            if report is None:
                adapter.miss()
            else:
                adapter.update(report)
    return sent


def throughput(sent: list[Sent]) -> float:
    """Return the delivered bits per channel use."""
    return sum(burst.bits for burst in sent) / sum(burst.uses for burst in sent)


def lost(sent: list[Sent]) -> float:
    return 1 - sum(burst.bits for burst in sent) / (8 * DETAIL_BYTES * len(sent))


def switches(sent: list[Sent]) -> int:
    return int(np.count_nonzero(np.diff([burst.mcs for burst in sent])))


def sweep(benchmark: bench.Benchmark) -> tuple[list[dict[str, Any]], list[list[float]]]:
    """Measure at constant SNRs; return rows, and the throughput of each MCS at each SNR."""
    seed = benchmark.options.seed
    bursts, fixed_bursts = (SETTLING + 5, 1) if benchmark.options.quick else (200, 20)
    snrs_db = benchmark.few(SWEEP_DB, 3)
    jobs = [Job("adapted", snr_db, bursts, seed) for snr_db in snrs_db]
    jobs += [Job(policy, snr_db, fixed_bursts, seed) for policy in FIXED for snr_db in snrs_db]
    runs = benchmark.run(run, jobs, "sweep")
    adapted, fixed = runs[: len(snrs_db)], runs[len(snrs_db) :]
    table = [[throughput(sent) for sent in fixed[i : i + len(snrs_db)]] for i in range(0, len(fixed), len(snrs_db))]
    rows = []
    for index, (snr_db, sent) in enumerate(zip(snrs_db, adapted, strict=True)):
        settled = sent[SETTLING:]
        best = max(row[index] for row in table)
        rows.append(
            {
                "es_n0_db": snr_db,
                "bursts": len(settled),
                "adapted": throughput(settled),
                "genie": best,
                "of_genie": throughput(settled) / best,
                "lost": lost(settled),
                "switches": switches(settled),
                "mcs": int(np.median([burst.mcs for burst in settled])),
            }
        )
    return rows, table


def traces(benchmark: bench.Benchmark, table: list[list[float]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Measure with the SNR in motion; return rows, and the adapted run and the genie's of each trace."""
    rows: list[dict[str, Any]] = []
    runs: dict[str, Any] = {}
    snrs_db = benchmark.few(SWEEP_DB, 3)
    for name, (_, seconds) in TRACES.items():
        seconds *= 0.05 if benchmark.options.quick else 1.0
        policies = ["adapted", "genie", *FIXED]
        jobs = [Job(policy, name, seconds, benchmark.options.seed, snrs_db, table) for policy in policies]
        answers = dict(zip(policies, benchmark.run(run, jobs, name), strict=True))
        adapted = answers["adapted"]
        fixed = [throughput(answers[policy]) for policy in FIXED]
        genie = throughput(answers["genie"])
        rows.append(
            {
                "trace": name,
                "bursts": len(adapted),
                "adapted": throughput(adapted),
                "genie": genie,
                "best_fixed": max(fixed),
                "best_fixed_mcs": MCS_TABLE[int(np.argmax(fixed))].name,
                "of_genie": throughput(adapted) / genie,
                "lost": lost(adapted),
                "genie_lost": lost(answers["genie"]),
                "switches": 1000 * switches(adapted) / len(adapted),
                "genie_switches": 1000 * switches(answers["genie"]) / len(answers["genie"]),
                "fixed": fixed,
            }
        )
        runs[name] = {policy: answers[policy] for policy in ("adapted", "genie")}
    return rows, runs


def series(sent: list[Sent], value: Callable[[Sent], float]) -> tuple[list[float], list[float]]:
    """Return time and value of each burst."""
    return [burst.time_s for burst in sent], [value(burst) for burst in sent]


def draw(
    benchmark: bench.Benchmark, rows: list[dict[str, Any]], table: list[list[float]], runs: dict[str, Any]
) -> None:
    """Draw throughput against SNR, and for each trace the SNR and the MCS over time."""
    from matplotlib import colormaps

    with benchmark.figure(1200, 900) as figure:
        grid = figure.add_gridspec(2, len(runs), height_ratios=(1.25, 1))
        top = figure.add_subplot(grid[0, :])
        snrs_db = [row["es_n0_db"] for row in rows]
        for mcs, row in zip(MCS_TABLE, table, strict=True):
            colour = colormaps["turbo"](0.05 + 0.9 * mcs.index / (len(MCS_TABLE) - 1))
            top.plot(snrs_db, row, color=colour, lw=1, label=mcs.name)
        top.plot(snrs_db, [row["genie"] for row in rows], "k--", lw=1.5, label="genie: best of these")
        top.plot(snrs_db, [row["adapted"] for row in rows], "ko-", lw=2, ms=4, label="adapted")
        top.set(xlabel="Es/N0 [dB]", ylabel="delivered bits per channel use")
        top.set_title(f"SNR held still; bursts of {DETAIL_BYTES} B of detail, all overhead counted")
        top.legend(fontsize=9, loc="upper left", ncols=2)
        for column, (name, sent) in enumerate(runs.items()):
            axes = figure.add_subplot(grid[1, column])
            axes.plot(*series(sent["adapted"], lambda burst: burst.snr_db), color="tab:gray", lw=1)
            axes.set(xlabel="time [s]", ylabel="Es/N0 [dB], grey", title=name)
            right = axes.twinx()
            right.grid(visible=False)
            for policy, line, width in (("genie", "tab:orange", 0.8), ("adapted", "tab:blue", 1.5)):
                points = series(sent[policy], lambda burst: burst.mcs)
                right.step(*points, where="post", color=line, lw=width, label=policy)
            right.set(ylabel="MCS", ylim=(-0.5, 10.5))
            right.legend(fontsize=9, loc="lower right", frameon=True)


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__, jobs=2)
    benchmark.parse()

    rows, table = sweep(benchmark)
    moving, runs = traces(benchmark, table)
    bursts = sum(row["bursts"] for row in rows)
    total = {
        "bursts": bursts,
        "switches_per_1000": 1000 * sum(row["switches"] for row in rows) / bursts,
        "of_genie_mean": float(np.mean([row["of_genie"] for row in rows])),
        "of_genie_least": min(row["of_genie"] for row in rows),
    }
    bench.show("SNR held still", rows)
    bench.show("SNR held still, all together", [total])
    shown = ("trace", "bursts", "adapted", "genie", "best_fixed", "of_genie", "lost", "switches")
    bench.show("SNR in motion; switches in 1000 bursts", [{name: row[name] for name in shown} for row in moving])
    fixed = {mcs.name: row for mcs, row in zip(MCS_TABLE, table, strict=True)}
    settings = {"detail_bytes": DETAIL_BYTES, "delay_bursts": DELAY, "settling_bursts": SETTLING}
    found = {"still": total, "sweep": rows, "traces": moving, "fixed": fixed}
    benchmark.write({"numerology": "64"} | settings | found)
    draw(benchmark, rows, table, runs)


if __name__ == "__main__":
    main()
