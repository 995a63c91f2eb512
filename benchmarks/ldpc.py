"""Our LDPC decoder beside Sionna's belief propagation with 20 iterations, on the same code and the same noise.

    python benchmarks/ldpc.py [--words 3000] [--seed 1] [--out benchmarks/results/ldpc.json]

QPSK over AWGN with exact LLRs. For each code the block error rate of both over the SNR, the SNR at which each reaches
1 %, and the throughput at the SNR nearest to it, both in one process of one thread.
"""

from __future__ import annotations

from typing import Any

import bench
import numpy as np

from crlsc_phy.phy.fec import ldpc_code
from crlsc_phy.quality.intervals import wilson

# Information bits, coded bits, and the SNRs around the one with 1 % block errors.
CODES = (
    (152, 760, (-3.4, -3.0, -2.6, -2.2)),
    (1024, 2048, (1.2, 1.4, 1.6, 1.8)),
    (1560, 2080, (4.2, 4.4, 4.6, 4.8)),
)
ITERATIONS = {"ours": 25, "sionna": 20}
BATCH = 100


def job(task: tuple[int, int, int, float, int]) -> dict[str, Any]:
    """Run both decoders on the same words."""
    import torch
    from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder

    torch.set_num_threads(1)
    seed, k, n, snr_db, words = task
    code = ldpc_code(k, n, 2)
    theirs = LDPC5GDecoder(LDPC5GEncoder(k, n, 2), num_iter=ITERATIONS["sionna"])
    variance = 10 ** (-snr_db / 10)
    row: dict[str, Any] = {"k": k, "n": n, "snr_db": snr_db, "words": 0}
    row |= {f"{side}_{what}": 0 for side in ITERATIONS for what in ("errors", "seconds")}
    # The first batch warms both up and is not counted.
    for batch in range(-1, words // BATCH):
        rng = np.random.default_rng([seed, k, round(1000 * (snr_db + 100)), batch + 1])
        bits = rng.integers(0, 2, (BATCH, k), dtype=np.uint8)
        received = np.sqrt(2) * code.encode(bits) - np.sqrt(0.5)
        received = received + np.sqrt(variance / 2) * rng.standard_normal(received.shape)
        llr = (2 * np.sqrt(2) / variance * received).astype(np.float32)
        soft = torch.tensor(llr)
        (posterior, _, _), ours_seconds = bench.timed(code.decode, llr, ITERATIONS["ours"])
        answer, sionna_seconds = bench.timed(theirs, soft)
        if batch < 0:
            continue
        row["words"] += BATCH
        row["ours_errors"] += int(np.any((posterior > 0) != bits, axis=1).sum())
        row["sionna_errors"] += int(np.any(answer.numpy() != bits, axis=1).sum())
        row["ours_seconds"] += ours_seconds
        row["sionna_seconds"] += sionna_seconds
    for side in ITERATIONS:
        row[f"{side}_bler"] = row[f"{side}_errors"] / row["words"]
        row[f"{side}_bler_95"] = wilson(row[f"{side}_errors"], row["words"])
        row[f"{side}_mbit_per_cpu_s"] = row["words"] * k / row.pop(f"{side}_seconds") / 1e6
    return row


def snr_at(rows: list[dict[str, Any]], side: str, bler: float) -> float:
    """Return the SNR at which a decoder reaches a block error rate, the logarithm interpolated; NaN out of range."""
    snr = np.array([row["snr_db"] for row in rows])
    logarithm = np.log10(np.maximum([row[f"{side}_bler"] for row in rows], 1e-9))
    if not logarithm[0] >= np.log10(bler) >= logarithm[-1]:
        return float("nan")
    return float(np.interp(-np.log10(bler), -logarithm, snr))


def plot(benchmark: bench.Benchmark, rows: list[dict[str, Any]]) -> None:
    with benchmark.figure(880, 550) as figure:
        axes = figure.subplots()
        for number, (k, n) in enumerate(dict.fromkeys((row["k"], row["n"]) for row in rows)):
            here = [row for row in rows if row["k"] == k]
            for side, style, name in (("ours", "o-", "min-sum, ours"), ("sionna", "s--", "BP-20, Sionna")):
                bler = np.array([max(row[f"{side}_bler"], 1e-6) for row in here])
                bars = bench.error_bars(bler, [row[f"{side}_bler_95"] for row in here], 1e-6)
                look = {"fmt": style, "color": f"C{number}", "label": f"k = {k}, n = {n}: {name}"}
                axes.errorbar([row["snr_db"] for row in here], bler, bars, ms=4, capsize=3, **look)
        axes.axhline(0.01, color="grey", linestyle=":")
        axes.set(yscale="log", ylim=(1e-4, 1), xlabel="Es/N0 [dB]", ylabel="block error rate")
        axes.set_title("5G LDPC, QPSK over AWGN")
        axes.legend(fontsize=8)


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__, jobs=2)
    benchmark.add("--words", 3000, "words of each SNR", quick=BATCH)
    options = benchmark.parse()

    chosen = benchmark.few(CODES, 1)
    tasks = [(options.seed, k, n, snr, options.words) for k, n, snrs in chosen for snr in snrs]
    rows = benchmark.run(job, tasks, "LDPC")
    codes = []
    for k, n, _ in chosen:
        here = [row for row in rows if row["k"] == k]
        ours, sionna = (snr_at(here, side, 0.01) for side in ITERATIONS)
        nearest = min(here, key=lambda row: abs(row["snr_db"] - ours))
        ratio = nearest["ours_mbit_per_cpu_s"] / nearest["sionna_mbit_per_cpu_s"]
        codes.append(
            {"k": k, "n": n, "ours_db_at_1_percent": ours, "sionna_db_at_1_percent": sionna, "gap_db": ours - sionna}
            | {"ours_mbit_per_cpu_s": nearest["ours_mbit_per_cpu_s"]}
            | {"sionna_mbit_per_cpu_s": nearest["sionna_mbit_per_cpu_s"], "times_as_fast": ratio}
        )
    bench.show("Block error rates", rows)
    bench.show("At 1 % block errors", codes)
    benchmark.write({"iterations": ITERATIONS, "codes": codes, "rows": rows})
    plot(benchmark, rows)


if __name__ == "__main__":
    main()
