"""How deep in noise a header is read by a receiver that has read headers like it.

    python benchmarks/habits.py [--bursts 1000] [--seed 1]

Semantic-only bursts over AWGN with unknown timing and phase. "fresh" receivers have heard nothing before; "same" have
read one header of the sender, of another sequence number; "other" one of a sender with another bundle, other sizes and
another MCS. "wrong" counts headers that were never sent.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import lab
import numpy as np
from report import machine, write_json

from crlsc_phy.frame import FrameHeader, Mode, SemanticFrame
from crlsc_phy.phy import BurstModem
from crlsc_phy.report.figure import drawing

SNR_DB = (-12.0, -11.0, -10.0, -9.5, -9.0, -8.5, -8.0, -7.0)
KINDS = ("fresh", "same", "other")
JOB = 100


def work(job: tuple[int, int, float]) -> dict[str, Any]:
    seed, start, snr_db = job
    row: dict[str, Any] = {"snr_db": snr_db, "bursts": JOB, "wrong": 0} | dict.fromkeys(KINDS, 0)
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
        iq = lab.turn(np.pad(burst, (int(rng.integers(300, 1500)), 300)), 0.0, rng.uniform(0, 6.28))
        iq = iq + lab.complex_noise(rng, len(iq), lab.noise_variance(modem.numerology, snr_db))
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


def plot(path: Path, rows: list[dict[str, Any]]) -> None:
    labels = {"fresh": "nothing heard before", "same": "one header of this sender", "other": "one of another sender"}
    with drawing(path, 800, 480) as figure:
        axes = figure.subplots()
        for kind, label in labels.items():
            share = np.array([row[kind] / row["bursts"] for row in rows])
            bars = np.abs(np.array([row[f"{kind}_95"] for row in rows]).T - share)
            axes.errorbar([row["snr_db"] for row in rows], share, bars, marker="o", ms=4, capsize=3, label=label)
        axes.set(xlabel="Es/N0 on an occupied carrier [dB]", ylabel="headers read", ylim=(0, 1.02))
        axes.legend()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bursts", type=int, default=1000, help="a point, in hundreds (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/habits.json"))
    options = parser.parse_args()

    jobs = [(options.seed, start, snr) for snr in SNR_DB for start in range(0, options.bursts, JOB)]
    parts = lab.in_processes(work, jobs, "Bursts")
    rows = []
    for snr in SNR_DB:
        here = [part for part in parts if part["snr_db"] == snr]
        row: dict[str, Any] = {"snr_db": snr} | {
            name: sum(part[name] for part in here) for name in ("bursts", "wrong", *KINDS)
        }
        rows.append(row | {f"{kind}_95": lab.wilson(row[kind], row["bursts"]) for kind in KINDS})
    lab.show("Headers read", rows)
    write_json(options.out, {"machine": machine(), "seed": options.seed, "rows": rows})
    plot(options.out.with_suffix(".png"), rows)


if __name__ == "__main__":
    main()
