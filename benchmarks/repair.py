"""Repair of air codes with bit errors by a knowledge base, by rule and tau.

    python benchmarks/repair.py [--entries 10000] [--queries 1000] [--seed 1] [--out benchmarks/results/repair.json]

Clustered synthetic vectors of 512 numbers. A query is new: an entry moved by noise of a quarter of its length, encoded,
sent as BPSK over AWGN at a bit error rate, and repaired from its LLRs (soft) or its hard decisions. It is right if the
entry is the one that it was made from. "tau" compares values of tau, in parts of the root mean square distance between
a centroid and its nearest; half of it is the default. "foreign" asks for vectors of clusters that the base does not
hold.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import bench
import numpy as np
from numpy.typing import NDArray
from vectors import unit

from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase
from crlsc_phy.knowledge.calibration import noisy_llrs
from crlsc_phy.quality.intervals import wilson

DIM, CLUSTERS = 512, 300
BER = (1e-6, 0.01, 0.02, 0.05, 0.1)
SIZES = (16, 32)
TAUS = (0.125, 0.25, 0.5, 1.0, 2.0)
RULES = (("soft", True), ("soft", False), ("nearest", False), ("hamming", False))


def moved(rng: np.random.Generator, vectors: NDArray[Any], distance: float) -> NDArray[np.float32]:
    return unit(vectors + distance * rng.normal(size=vectors.shape) / np.sqrt(DIM))


def measure(options: argparse.Namespace, size: int, folder: Path) -> list[dict[str, Any]]:
    entries, queries, seed = options.entries, options.queries, options.seed
    rng = np.random.default_rng(seed)
    centres = unit(rng.normal(size=(CLUSTERS, DIM)) * np.linspace(1, 0.05, DIM))
    foreign = unit(rng.normal(size=(CLUSTERS, DIM)) * np.linspace(1, 0.05, DIM))
    vectors = moved(rng, centres[rng.integers(CLUSTERS, size=entries)], 0.7)
    code = AirCode.train(vectors, size, seed, rounds=options.rounds)
    base = KnowledgeBase.create(folder / str(size), code, vectors, [Entry(str(i), "") for i in range(entries)])
    meant = rng.integers(entries, size=queries)
    sent = {
        "fresh": code.encode(moved(rng, vectors[meant], 0.25)),
        "foreign": code.encode(moved(rng, foreign[rng.integers(CLUSTERS, size=queries)], 0.7)),
    }
    standard = 2 * base.tau
    rows = []
    for part in TAUS:
        base.configure(tau=part * standard)
        for ber in BER:
            for rule, soft in RULES:
                if part != 0.5 and not (rule == "soft" and soft):
                    continue
                row: dict[str, Any] = {"code_bytes": size, "tau": part, "ber": ber, "rule": rule, "llrs": soft}
                for kind, codes in sent.items():
                    llrs = noisy_llrs(codes, ber, np.random.default_rng([seed, 1]))
                    found = base.repair_batch(llrs if soft else np.packbits(llrs > 0, axis=1), rule)
                    if kind == "fresh":
                        right = sum(int(f.entry.name) == i for f, i in zip(found, meant, strict=True))
                        row |= {"right": right / queries, "right_95": wilson(right, queries)}
                    row[f"{kind}_known"] = float(np.mean([f.known for f in found]))
                rows.append(row)
    return rows


def plot(benchmark: bench.Benchmark, rows: list[dict[str, Any]]) -> None:
    with benchmark.figure(1100, 480) as figure:
        for axes, size in zip(figure.subplots(1, len(SIZES)), SIZES, strict=True):
            for rule, soft in RULES:
                here = [row for row in rows if (row["code_bytes"], row["tau"]) == (size, 0.5)]
                here = [row for row in here if (row["rule"], row["llrs"]) == (rule, soft)]
                label = f"{rule}, {'LLRs' if soft else 'hard decisions'}"
                axes.plot([row["ber"] for row in here], [row["right"] for row in here], "o-", ms=4, label=label)
            axes.set(xlabel="bit error rate", ylabel="right entry", ylim=(0.4, 1.01), title=f"{size} bytes")
            axes.legend()


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__)
    benchmark.add("--entries", 10_000, "entries of the base", quick=1000)
    benchmark.add("--queries", 1000, "queries of each point", quick=20)
    benchmark.add("--rounds", 20_000, "rounds in which the centroids of a code are put in order", quick=500)
    options = benchmark.parse()

    with tempfile.TemporaryDirectory() as folder:
        rows = [row for size in SIZES for row in measure(options, size, Path(folder))]
    bench.show("Repair", rows)
    settings = {"entries": options.entries, "queries": options.queries, "dim": DIM}
    benchmark.write(settings | {"rows": rows})
    plot(benchmark, rows)


if __name__ == "__main__":
    main()
