"""Analog error, long bursts, fading and the calibration of LLRs.

    python benchmarks/tracking.py [--bursts 40] [--seed 1] [--out benchmarks/results/tracking.json]

Everywhere with a CFO within 2 % of the sample rate, unknown timing and phase:
- EVM of 10,000 analog symbols over AWGN with clock errors of 20 ppm, for the three numerologies;
- EVM over 20,000 OFDM symbols with a clock error of 40 ppm;
- Rayleigh fading, three paths, Doppler up to 300 Hz at 1 MS/s: segments lost, and the error that the receiver expects
  of its symbols beside the one that they have;
- LLRs: the bit error rate that they predict beside the one observed, over AWGN, standing paths and fading ones.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import bench
import lab
import numpy as np

from crlsc_phy.frame import SemanticFrame
from crlsc_phy.phy import PRESETS, Burst, BurstModem, Numerology
from crlsc_phy.phy.layout import Layout
from crlsc_phy.quality.intervals import wilson

EVM_DB = (0, 5, 10, 15, 20, 25)
LONG_DB = (5, 15, 25)
LONG_SYMBOLS = 20_000
DOPPLER_HZ = (0, 10, 30, 100, 200, 300)
PATHS = (0.6, 0.3, 0.1)
STANDING = (0.5, 0.3, 0.15, 0.05)
CALIBRATION = (("qpsk-1/2", 1.0), ("16qam-1/2", 7.0), ("64qam-2/3", 14.0))
BINS = (0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 6, 8)


def send(
    modem: BurstModem,
    rng: np.random.Generator,
    frame: SemanticFrame,
    snr_db: float,
    *,
    ppm: float = 0.0,
    powers: tuple[float, ...] = (1.0,),
    doppler_hz: float | None = None,
) -> Burst | None:
    """Send a frame and return the burst received, None if header or meaning is lost.

    Args:
        modem: Sender and receiver.
        rng: Draws the channel.
        frame: Complete.
        snr_db: Es/N0 on occupied carriers.
        ppm: Clock error.
        powers: Mean power of each Rayleigh path, a sample apart.
        doppler_hz: Largest Doppler shift; None for no fading.
    """
    iq = modem.modulate(frame)
    if doppler_hz is not None:
        # Longer by the delay of the last path.
        iq = lab.fade(rng, np.pad(iq, (0, len(powers))), powers, doppler_hz, modem.numerology.sample_rate)
    received = modem.receive(lab.on_air(rng, iq, modem.numerology, snr_db, sro_ppm=ppm or None)) + modem.flush()
    good = [b for b in received if (b.frame.header, b.frame.semantic) == (frame.header, frame.semantic)]
    return good[0] if good else None


def evm_job(job: tuple[int, str, float, int, int, float]) -> dict[str, Any]:
    """Measure the mean error of analog symbols, and the error that the receiver expected."""
    seed, preset, snr_db, symbols, bursts, ppm = job
    modem = BurstModem(Numerology.preset(preset), mode="analog")
    errors, expected, lost = [], [], 0
    for index in range(bursts):
        rng = np.random.default_rng([seed, index])
        frame = lab.make_analog_frame(rng, symbols)
        burst = send(modem, rng, frame, snr_db, ppm=ppm * (-1) ** index)
        if burst is None:
            lost += 1
            continue
        sent = frame.symbols / np.sqrt(np.mean(np.abs(frame.symbols) ** 2))
        errors.append(np.mean(np.abs(burst.symbols - sent) ** 2))
        expected.append(np.mean(burst.symbol_noise))
    spread = 1.96 * np.std(errors) / np.sqrt(len(errors)) / np.mean(errors) * 10 / np.log(10)
    evm = float(10 * np.log10(np.mean(errors)))
    return {
        "numerology": preset,
        "snr_db": snr_db,
        "bursts": bursts,
        "lost": lost,
        "evm_db": evm,
        "evm_db_95": (evm - float(spread), evm + float(spread)),
        "expected_evm_db": float(10 * np.log10(np.mean(expected))),
        "over_snr_db": evm + snr_db,
    }


def doppler_job(job: tuple[int, str, float, float, int]) -> dict[str, Any]:
    """Count segments lost over fading paths, and compare the error of symbols with the expected one."""
    seed, mcs, snr_db, doppler_hz, bursts = job
    modem, analog = BurstModem(mcs=mcs), BurstModem(mode="analog")
    segments = failed = lost = 0
    ratios = []
    for index in range(bursts):
        rng = np.random.default_rng([seed, index])
        burst = send(modem, rng, lab.make_frame(rng, 1500), snr_db, powers=PATHS, doppler_hz=doppler_hz)
        count = -(-1500 // 192)
        segments += count
        failed += burst.segment_failures if burst else count
        lost += burst is None
        frame = lab.make_analog_frame(rng, 5000)
        burst = send(analog, rng, frame, snr_db, powers=PATHS, doppler_hz=doppler_hz)
        if burst:
            sent = frame.symbols / np.sqrt(np.mean(np.abs(frame.symbols) ** 2))
            ratios.append(np.mean(np.abs(burst.symbols - sent) ** 2 / burst.symbol_noise))
    return {
        "mcs": mcs,
        "snr_db": snr_db,
        "doppler_hz": doppler_hz,
        "segments": segments,
        "failed": failed,
        "failed_95": wilson(failed, segments),
        "bursts_lost": lost,
        "error_over_expected_db": float(10 * np.log10(np.median(ratios))),
    }


def llr_job(job: tuple[int, str, float, str, int]) -> list[dict[str, Any]]:
    """Count bit errors observed and predicted, by magnitude of the LLR."""
    seed, mcs, snr_db, channel, bursts = job
    modem = BurstModem(mcs=mcs)
    llr, wrong = [], []
    for index in range(bursts):
        rng = np.random.default_rng([seed, index])
        frame = lab.make_frame(rng, 1500)
        options: dict[str, Any] = {"awgn": {}, "standing": {"powers": STANDING, "doppler_hz": 0.0}}.get(
            channel, {"powers": PATHS, "doppler_hz": 100.0}
        )
        burst = send(modem, rng, frame, snr_db, **options)
        layout = Layout.of(modem.numerology, frame.header, modem.mcs)
        if burst is None or layout.detail is None or layout.segments is None:
            continue
        coded = layout.detail.coded_bits(layout.segments.split(frame.detail or b"", frame.header.check)).ravel()
        llr.append(np.abs(burst.llr))
        wrong.append((burst.llr > 0) != coded)
    size, error = np.concatenate(llr), np.concatenate(wrong)
    rows = []
    for low, high in pairwise(BINS):
        inside = (size >= low) & (size < high)
        count = int(inside.sum())
        predicted, observed = float(np.mean(1 / (1 + np.exp(size[inside])))), int(error[inside].sum())
        rows.append(
            {"mcs": mcs, "snr_db": snr_db, "channel": channel, "llr_from": low, "llr_to": high, "bits": count}
            | {"predicted": predicted, "observed": observed / count, "observed_95": wilson(observed, count)}
            | {"ratio": observed / count / predicted}
        )
    return rows


def plot(benchmark: bench.Benchmark, result: dict[str, Any]) -> None:
    with benchmark.figure(1650, 506) as figure:
        draw(*figure.subplots(1, 3), result)


def draw(left: Any, middle: Any, right: Any, result: dict[str, Any]) -> None:
    for preset in PRESETS:
        rows = [row for row in result["evm"] if row["numerology"] == preset]
        left.plot([r["snr_db"] for r in rows], [r["evm_db"] for r in rows], "o-", ms=4, label=f"{preset} carriers")
    rows = result["long"]
    label = "64 carriers, 20,000 OFDM symbols, 40 ppm"
    left.plot([r["snr_db"] for r in rows], [r["evm_db"] for r in rows], "s", ms=8, mfc="none", label=label)
    left.plot(EVM_DB, [-s for s in EVM_DB], ":", color="grey", label="-Es/N0")
    left.set(xlabel="Es/N0 [dB]", ylabel="EVM [dB]", title="Analog symbols, AWGN, CFO and clock error")
    for mcs in dict.fromkeys(row["mcs"] for row in result["doppler"]):
        rows = [row for row in result["doppler"] if row["mcs"] == mcs]
        lost, sent = (sum(row[name] for row in rows) for name in ("failed", "segments"))
        label = f"{mcs} at {rows[0]['snr_db']:g} dB: {lost} of {sent} segments lost"
        middle.plot(
            [r["doppler_hz"] for r in rows], [r["error_over_expected_db"] for r in rows], "o-", ms=4, label=label
        )
    middle.axhline(0, color="grey", linestyle=":")
    middle.set(xlabel="Doppler [Hz]", ylabel="error of symbols over what the receiver expects [dB]")
    middle.set(title="Rayleigh fading, 3 paths, 1 MS/s", ylim=(-1, 1))
    for mcs, channel in dict.fromkeys((row["mcs"], row["channel"]) for row in result["llr"]):
        rows = [row for row in result["llr"] if (row["mcs"], row["channel"]) == (mcs, channel)]
        right.loglog([r["predicted"] for r in rows], [r["observed"] for r in rows], ".-", label=f"{mcs}, {channel}")
    right.plot([1e-4, 0.5], [1e-4, 0.5], ":", color="grey")
    right.set(xlabel="bit error rate predicted by the LLRs", ylabel="observed", title="Calibration of LLRs")
    for axis in (left, middle, right):
        axis.legend(fontsize=8)


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__, jobs=2)
    benchmark.add("--bursts", 40, "bursts of each point", quick=2)
    options = benchmark.parse()
    seed, bursts = options.seed, options.bursts

    carriers = Numerology().data_carriers
    evm = benchmark.run(evm_job, [(seed, p, s, 10_000, bursts, 20.0) for p in PRESETS for s in EVM_DB], "EVM")
    few = max(bursts // 10, 2)
    long = benchmark.run(evm_job, [(seed, "64", s, LONG_SYMBOLS * carriers, few, 40.0) for s in LONG_DB], "long bursts")
    doppler = benchmark.run(
        doppler_job,
        [(seed, mcs, snr, hz, bursts) for mcs, snr in (("qpsk-1/2", 14.0), ("16qam-1/2", 22.0)) for hz in DOPPLER_HZ],
        "Doppler",
    )
    channels = ("awgn", "standing", "fading")
    jobs = [(seed, mcs, snr, channel, bursts) for mcs, snr in CALIBRATION for channel in channels]
    llr = [row for rows in benchmark.run(llr_job, jobs, "LLRs") for row in rows]
    result = {"evm": evm, "long": long, "doppler": doppler, "llr": llr}
    bench.show("Analog EVM, 10,000 symbols, 20 ppm", evm)
    bench.show(f"Analog EVM, {LONG_SYMBOLS:,} OFDM symbols, 40 ppm", long)
    bench.show("Fading", doppler)
    worst = [
        {"mcs": mcs, "channel": channel}
        | {
            "bits": sum(row["bits"] for row in llr if (row["mcs"], row["channel"]) == (mcs, channel)),
            "ratio_least": min(row["ratio"] for row in llr if (row["mcs"], row["channel"]) == (mcs, channel)),
            "ratio_most": max(row["ratio"] for row in llr if (row["mcs"], row["channel"]) == (mcs, channel)),
        }
        for mcs, channel in dict.fromkeys((row["mcs"], row["channel"]) for row in llr)
    ]
    bench.show("LLRs: bit errors observed over predicted", worst)
    benchmark.write(result)
    plot(benchmark, result)


if __name__ == "__main__":
    main()
