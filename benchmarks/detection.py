"""Probability of detection of a burst, and rate of false alarms.

    python benchmarks/detection.py [--samples 1e9] [--bursts 2000] [--seed 1] [--out benchmarks/results/detection.json]

False alarms: preambles found in noise alone. Detection: preambles at random places, phases and CFOs within 2 % of the
sample rate, for the three numerologies; found means at most a quarter of the cyclic prefix from the true place.
"""

from __future__ import annotations

from typing import Any

import bench
import lab
import numpy as np
from scipy.stats import beta

from crlsc_phy.channel import StreamChannel
from crlsc_phy.phy import PRESETS, BurstModem, Numerology
from crlsc_phy.phy.ofdm import Ofdm
from crlsc_phy.phy.preamble import Preamble
from crlsc_phy.quality.intervals import wilson

SNRS_DB = (-12, -11, -10, -9, -8, -7, -6, -5, -4)
CHUNK = 1 << 20
JOB_SAMPLES = 25 * CHUNK


def noise_job(job: tuple[int, int]) -> dict[str, float]:
    """Count false alarms in noise, and the CPU-seconds of listening to it."""
    rng = np.random.Generator(np.random.SFC64(job))
    modem = BurstModem()
    modem.receive(np.zeros(CHUNK, np.complex64))
    seconds = 0.0
    for _ in range(JOB_SAMPLES // CHUNK):
        _, spent = bench.timed(modem.receive, lab.complex_noise(rng, CHUNK, 1.0))
        seconds += spent
    return {"samples": JOB_SAMPLES, "false_alarms": modem.counters.detected, "seconds": seconds}


def detection_job(job: tuple[int, str, float, int]) -> dict[str, Any]:
    """Count preambles missed or misplaced at one SNR, and measure the errors of the others."""
    seed, preset, snr_db, bursts = job
    numerology = Numerology.preset(preset)
    preamble = Preamble(Ofdm(numerology))
    missed = misplaced = 0
    timing, frequency = [], []
    for index in range(bursts):
        rng = np.random.default_rng([seed, index])
        place, cfo = int(rng.integers(400, 1200)), float(rng.uniform(-lab.MAX_CFO, lab.MAX_CFO))
        # Not lab.on_air: what the preamble finds is compared with the place and the CFO that were drawn.
        settings = lab.band(numerology) | {"cfo_hz": cfo * numerology.sample_rate, "seed": int(rng.integers(1 << 63))}
        iq = np.pad(preamble.waveform, (place, preamble.lookahead + 400)) * np.exp(2j * np.pi * rng.random())
        iq = StreamChannel("awgn", snr_db, **settings)(iq)
        total, above = preamble.metric(iq)
        sync = None
        above[len(iq) - preamble.lookahead :] = False
        if above.any():
            peak = int(np.argmax(np.where(above, np.abs(total), 0)))
            sync = preamble.refine(iq, peak, complex(total[peak]))
        if sync is None:
            missed += 1
        elif abs(sync.start - place) > numerology.cp_length // 4:
            misplaced += 1
        else:
            timing.append(sync.start - place)
            frequency.append(sync.cfo - cfo)
    row = {"numerology": preset, "snr_db": snr_db, "bursts": bursts, "missed": missed, "misplaced": misplaced}
    row["loss"] = (missed + misplaced) / bursts
    row["loss_95"] = wilson(missed + misplaced, bursts)
    return row | {
        "timing_rms_samples": float(np.sqrt(np.mean(np.square(timing)))) if timing else None,
        "cfo_rms_cycles_per_sample": float(np.sqrt(np.mean(np.square(frequency)))) if frequency else None,
    }


def plot(benchmark: bench.Benchmark, rows: list[dict[str, Any]]) -> None:
    with benchmark.figure(900, 600) as figure:
        axes = figure.subplots()
        for preset in PRESETS:
            here = [row for row in rows if row["numerology"] == preset]
            snr, loss = [row["snr_db"] for row in here], np.array([max(row["loss"], 1e-6) for row in here])
            bars = np.abs(np.maximum(np.array([row["loss_95"] for row in here]).T, 1e-6) - loss)
            axes.errorbar(snr, loss, bars, marker="o", markersize=4, capsize=3, label=f"{preset} carriers")
        axes.set_yscale("log")
        axes.set_ylim(1e-4, 1.2)
        axes.set(xlabel="Es/N0 on an occupied carrier [dB]", ylabel="preambles missed or misplaced")
        axes.set_title("Detection over AWGN, CFO within 2 % of the sample rate")
        axes.legend()


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__, jobs=2)
    benchmark.add("--samples", 1e9, "samples of noise", quick=1.0)
    benchmark.add("--bursts", 2000, "preambles of each point", quick=20)
    options = benchmark.parse()

    jobs = range(-(-int(options.samples) // JOB_SAMPLES))
    noise = benchmark.run(noise_job, [(options.seed, job) for job in jobs], "noise")
    samples, alarms = (int(sum(part[name] for part in noise)) for name in ("samples", "false_alarms"))
    # Clopper and Pearson's exact bound, one-sided.
    most = float(beta.ppf(0.95, alarms + 1, samples - alarms))
    listening = {
        "noise_samples": samples,
        "false_alarms": alarms,
        "false_alarms_per_sample_95_bound": most,
        "idle_msamples_per_cpu_s": samples / sum(part["seconds"] for part in noise) / 1e6,
    }
    points = [(options.seed, preset, snr, options.bursts) for preset in PRESETS for snr in benchmark.few(SNRS_DB)]
    rows = benchmark.run(detection_job, points, "detection")
    bench.show("Noise alone", [listening])
    bench.show("Detection", rows)
    benchmark.write({"noise": listening, "detection": rows})
    plot(benchmark, rows)


if __name__ == "__main__":
    main()
