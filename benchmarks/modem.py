"""Speed of the modem, per CPU-second of one core.

    python benchmarks/modem.py [--bursts 300] [--seed 1] [--out benchmarks/results/modem.json]

A 64 x 64 frame of the default bundle is modulated and received: digital with QPSK 1/2, digital over a channel that
fades, and as 1,024 analog symbols. Then noise alone.
"""

from __future__ import annotations

from typing import Any

import bench
import lab
import numpy as np

from crlsc_phy.phy import BurstModem

SNR_DB = 15.0
DOPPLER = 1e-4
NOISE_SAMPLES = 8_000_000


def measure(rng: np.random.Generator, bursts: int, case: str) -> dict[str, Any]:
    modem = BurstModem(mode="analog" if case == "analog" else "digital")
    make = (lambda: lab.make_analog_frame(rng, 1024)) if case == "analog" else (lambda: lab.make_frame(rng))
    frames = [make() for _ in range(bursts)]
    iq = np.concatenate([modem.modulate(frame) for frame in frames])
    clean = iq
    if case == "digital, fading":
        iq = lab.fade(rng, iq, (0.6, 0.3, 0.1), DOPPLER * modem.numerology.sample_rate)
    iq = iq + lab.complex_noise(rng, len(iq), lab.noise_variance(modem.numerology, SNR_DB))
    # What is compiled or cached once is not the rate.
    modem.receive(iq[:40_000])
    modem.flush()
    _, modulate = bench.timed(lambda: [modem.modulate(frame) for frame in frames])
    received, receive = bench.timed(lambda: modem.receive(iq) + modem.flush())
    return {
        "case": case,
        "samples_a_burst": len(clean) // bursts,
        "bursts": bursts,
        "received": len(received),
        "modulate_bursts_per_s": bursts / modulate,
        "receive_bursts_per_s": bursts / receive,
        "both_bursts_per_s": bursts / (modulate + receive),
        "receive_msamples_per_s": len(iq) / receive / 1e6,
    }


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__)
    benchmark.add("--bursts", 300, "bursts of each case", quick=5)
    options = benchmark.parse()

    rng = np.random.default_rng(options.seed)
    rows = [measure(rng, options.bursts, case) for case in ("digital", "digital, fading", "analog")]
    noise = lab.complex_noise(rng, NOISE_SAMPLES // 10 if options.quick else NOISE_SAMPLES, 1.0)
    _, idle = bench.timed(BurstModem().receive, noise)
    listening = {"idle_msamples_per_s": len(noise) / idle / 1e6}
    bench.show("64 carriers, 15 dB, one core", rows)
    bench.show("Listening to noise, one core", [listening])
    settings = {"snr_db": SNR_DB, "doppler_cycles_per_sample": DOPPLER, "numerology": "64"}
    benchmark.write(settings | {"rates": rows} | listening)


if __name__ == "__main__":
    main()
