"""Headers read at low SNR by receivers that have read headers like them before.

    python benchmarks/habits.py [--bursts 1000] [--seed 1]

Semantic-only bursts over AWGN with unknown timing and phase. "fresh" receivers have heard nothing before; "same" have
read one header of the sender, of another sequence number; "other" one of a sender with another bundle, other sizes and
another MCS. "wrong" counts headers that were never sent.
"""

from __future__ import annotations

import bench
import lab
import numpy as np

from crlsc_phy.frame import FrameHeader, Mode, SemanticFrame
from crlsc_phy.phy import BurstModem
from crlsc_phy.quality.intervals import wilson

SNR_DB = (-12.0, -11.0, -10.0, -9.5, -9.0, -8.5, -8.0, -7.0)
KINDS = ("fresh", "same", "other")
JOB = 100


def work(job: tuple[int, int, float]) -> bench.Row:
    seed, start, snr_db = job
    row: bench.Row = {"snr_db": snr_db, "bursts": JOB, "wrong": 0} | dict.fromkeys(KINDS, 0)
    for index in range(start, start + JOB):
        rng = np.random.default_rng([seed, index])
        sender = rng.bytes(4)
        header = FrameHeader(sender, 64, 64, 16, 0, sequence=int(rng.integers(65536)), mode=Mode.SEMANTIC)
        heard = {
            "same": FrameHeader(sender, 64, 64, 16, 0, sequence=int(rng.integers(65536)), mode=Mode.SEMANTIC),
            "other": FrameHeader(rng.bytes(4), 255, 384, 32, 5000, levels=4, sequence=int(rng.integers(65536))),
        }
        modem = BurstModem()
        burst = modem.modulate(SemanticFrame(header, rng.bytes(16), b""))
        iq = lab.on_air(rng, burst, modem.numerology, snr_db, max_cfo=0.0)
        for kind in KINDS:
            receiver = BurstModem()
            if kind != "fresh":
                before = heard[kind]
                frame = SemanticFrame(before, bytes(before.semantic_bytes), bytes(before.detail_bytes))
                receiver.receive(np.pad(modem.modulate(frame), (500, 500)))
                receiver.flush()
            read = [burst.frame.header for burst in receiver.receive(iq) + receiver.flush()]
            row[kind] += header in read
            row["wrong"] += any(each != header for each in read)
    return row


def plot(benchmark: bench.Benchmark, rows: list[bench.Row]) -> None:
    labels = {"fresh": "nothing heard before", "same": "one header of this sender", "other": "one of another sender"}
    with benchmark.figure(800, 480) as figure:
        axes = figure.subplots()
        for kind, label in labels.items():
            share = [row[kind] / row["bursts"] for row in rows]
            bars = bench.error_bars(share, [row[f"{kind}_95"] for row in rows])
            axes.errorbar([row["snr_db"] for row in rows], share, bars, marker="o", ms=4, capsize=3, label=label)
        axes.set(xlabel="Es/N0 on an occupied carrier [dB]", ylabel="headers read", ylim=(0, 1.02))
        axes.legend()


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__, jobs=2)
    benchmark.add("--bursts", 1000, "bursts of each point, in hundreds", quick=JOB)
    options = benchmark.parse()

    snrs_db = benchmark.few(SNR_DB)
    jobs = [(options.seed, start, snr) for snr in snrs_db for start in range(0, options.bursts, JOB)]
    parts = benchmark.run(work, jobs, "Bursts")
    rows = []
    for snr in snrs_db:
        here = [part for part in parts if part["snr_db"] == snr]
        row: bench.Row = {"snr_db": snr} | {
            name: sum(part[name] for part in here) for name in ("bursts", "wrong", *KINDS)
        }
        rows.append(row | {f"{kind}_95": wilson(row[kind], row["bursts"]) for kind in KINDS})
    bench.show("Headers read", rows)
    benchmark.write({"rows": rows})
    plot(benchmark, rows)


if __name__ == "__main__":
    main()
