"""Speed and exactness of the streaming channels, beside stock Sionna and GNU Radio in the same run.

    python benchmarks/channel.py [--seconds 3] [--seed 1]

Speed: samples a CPU-second on one thread, at 1 MS/s, 3.5 GHz, 3 m/s unless said otherwise; the sides take turns. Stock
Sionna is ``TimeChannel`` over the same model, which draws a new channel for each call of 4,096 samples; GNU Radio is
``channels.dynamic_channel_model`` with one path a cluster of TDL-A and eight waves each, in a flowgraph of its own.
Exactness: error of the taps that move along straight lines between knots, and of the output if the stream is cut at 300
random places.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import bench
import lab
import numpy as np
import torch
from numpy.typing import NDArray

from crlsc_phy.channel import StreamChannel

RATE, CHUNK, COUNT = 1e6, 4096, 1 << 18
OURS: dict[str, tuple[dict[str, Any], int]] = {
    "AWGN and CFO": ({"model": "awgn", "snr_db": 10.0, "cfo_hz": 1000.0}, 1 << 16),
    "TDL-A": ({"model": "tdl-a"}, 1 << 16),
    "TDL-A, chunks of 4,096": ({"model": "tdl-a"}, CHUNK),
    "TDL-A, 10 MS/s (23 taps)": ({"model": "tdl-a", "sample_rate": 10e6}, 1 << 16),
    "TDL-A, 30 m/s": ({"model": "tdl-a", "speed": 30.0}, 1 << 16),
    "TDL-A, AWGN and CFO": ({"model": "tdl-a", "snr_db": 10.0, "cfo_hz": 1000.0}, 1 << 16),
    "CDL-A, chunks of 4,096": ({"model": "cdl-a"}, CHUNK),
    "CDL-A 2x2, chunks of 4,096": ({"model": "cdl-a", "rx": 2, "tx": 2}, CHUNK),
    "UMi": ({"model": "umi"}, 1 << 16),
    "clock 20 ppm off": ({"model": "awgn", "sro_ppm": 20.0}, 1 << 16),
    "all faults, TDL-A": (
        {"model": "tdl-a", "snr_db": 10.0, "cfo_hz": 1000.0, "sro_ppm": 20.0, "phase_noise_hz": 10.0,
         "iq_gain_db": 0.5, "dc": 0.01, "adc_bits": 12, "clip_db": 8.0},
        1 << 16,
    ),
}  # fmt: skip
EXACT = ("tdl-a", "tdl-d", "cdl-a", "rayleigh", "uma")
SPEEDS = (3.0, 30.0, 300.0)


def noise(seed: int, count: int, rows: int = 1) -> NDArray[np.complex64]:
    return lab.complex_noise(np.random.default_rng(seed), rows * count, 1.0).reshape(rows, count)


def rate_of(call: Callable[[], int], seconds: float) -> float:
    """Return millions of samples per CPU-second."""
    call()
    count, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        count += call()
    return count / (time.process_time() - start) / 1e6


def ours(settings: dict[str, Any], chunk: int, seed: int) -> Callable[[], int]:
    channel = StreamChannel(**{"sample_rate": RATE, "seed": seed} | settings)
    samples = noise(seed, COUNT, channel.settings.tx)

    def call() -> int:
        for start in range(0, COUNT, chunk):
            channel(samples[:, start : start + chunk])
        return COUNT

    return call


def stock_sionna(kind: str, seed: int) -> Callable[[], int]:
    from sionna.phy import config
    from sionna.phy.channel import TimeChannel, time_lag_discrete_time_channel
    from sionna.phy.channel.tr38901 import CDL, TDL, AntennaArray

    config.seed = seed
    if kind == "TDL-A":
        model = TDL("A", 100e-9, 3.5e9, min_speed=3.0)
    else:
        one = AntennaArray(1, 1, "single", "V", "omni", 3.5e9)
        model = CDL("A", 100e-9, 3.5e9, one, one, min_speed=3.0, max_speed=3.0)
    low, high = time_lag_discrete_time_channel(RATE, 1e-6)
    channel = TimeChannel(model, RATE, CHUNK, l_min=low, l_max=high)
    samples = torch.from_numpy(noise(seed, CHUNK))[None]

    def call() -> int:
        with torch.inference_mode():
            channel(samples)
        return CHUNK

    return call


def gnuradio(seed: int) -> Callable[[], int]:
    from gnuradio import blocks, channels, gr
    from sionna.phy.channel.tr38901 import TDL

    tdl = TDL("A", 100e-9, 3.5e9)
    delays = [float(delay) * RATE for delay in tdl.delays]
    gains = [float(power) ** 0.5 for power in tdl.mean_powers]
    doppler = 3.0 / 299_792_458 * 3.5e9

    def call() -> int:
        top = gr.top_block()
        count = 4 * COUNT
        source, head, sink = blocks.null_source(8), blocks.head(8, count), blocks.null_sink(8)
        channel = channels.dynamic_channel_model(
            RATE, 0.0, 0.0, 0.0, 0.0, 8, doppler, False, 4.0, delays, gains, 14, 0.0, seed
        )
        top.connect(source, head, channel, sink)
        top.run()
        return count

    return call


def interpolation(model: str, speed: float, seed: int) -> dict[str, Any]:
    channel = StreamChannel(model, speed=speed, sample_rate=RATE, seed=seed)
    places = np.arange(0, 1_000_000, 97)
    taps = channel.taps_at(places)
    gains, delays = channel.gains_at(places)
    lags = np.arange(taps.shape[3]) - channel.latency
    exact = gains @ np.sinc(lags - RATE * delays[:, None])
    error = np.sum(np.abs(taps - exact) ** 2) / np.sum(np.abs(exact) ** 2)
    return {"model": model, "speed": speed, "error_db": round(10 * float(np.log10(error)), 1)}


def cutting(name: str, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    options = {"sample_rate": RATE, "seed": seed} | settings
    whole, pieces = StreamChannel(**options), StreamChannel(**options)
    samples = noise(seed, COUNT, whole.settings.tx)
    borders = [0, *np.sort(np.random.default_rng([seed, 1]).integers(0, COUNT, 300)), COUNT]
    parts = [pieces(samples[:, a:b]) for a, b in itertools.pairwise(borders)]
    return {"channel": name, "identical": bool(np.array_equal(whole(samples), np.concatenate(parts, axis=-1)))}


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__)
    benchmark.add("--seconds", 3.0, "CPU time of each rate", quick=0.1)
    options = benchmark.parse()

    torch.set_num_threads(1)
    sides = {f"ours: {name}": ours(*OURS[name], options.seed) for name in benchmark.few(list(OURS), 3)}
    sides |= {f"Sionna TimeChannel: {kind}": stock_sionna(kind, options.seed) for kind in ("TDL-A", "CDL-A")}
    sides |= {"GNU Radio dynamic_channel_model": gnuradio(options.seed)}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(1 if options.quick else 3):
        for name, call in sides.items():
            rates[name].append(rate_of(call, options.seconds / 3))
    speed = [{"channel": name, "msamples_s": round(float(np.median(found)), 3)} for name, found in rates.items()]
    bench.show("Million samples a CPU-second", speed)
    models, speeds = benchmark.few(EXACT), benchmark.few(SPEEDS, 1)
    errors = [interpolation(model, metres, options.seed) for model in models for metres in speeds]
    bench.show("Straight lines between knots", errors)
    cuts = [cutting(name, OURS[name][0], options.seed) for name in benchmark.few(list(OURS), 3)]
    bench.show("Cut at 300 places", cuts)
    benchmark.write({"speed": speed, "interpolation": errors, "cuts": cuts})


if __name__ == "__main__":
    main()
