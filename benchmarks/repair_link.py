"""What repair is worth on the air: held-out pictures named from bursts whose air code's LDPC block fails.

    crlsc-train data
    python benchmarks/repair_link.py [--bundle models/default] [--data data] [--seed 1]

The held-out vendor's pictograms are encoded with the bundle, sent as semantic-only bursts over AWGN with unknown timing
and phase, received and decoded. A picture is right if the label is its own. "without" drops what the LDPC decoder could
not restore, "repair" is the codec as it is, "always" believes the nearest entry whatever its likelihood; "clean" is the
same pictures without a channel. A burst whose header is lost is wrong on all sides. The held-out vendor had no part in
the calibration of the base.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import lab
import numpy as np
from report import machine, write_json

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.knowledge import KnowledgeBase
from crlsc_phy.link.plots import drawing
from crlsc_phy.phy import BurstModem
from crlsc_phy.train.data import OBJECT_CATEGORIES, load_pictograms

SNR_DB = (-10, -9.5, -9, -8.5, -8, -7.5, -7, -6)
SIDES = ("without", "repair", "always")
JOB = 100


@cache
def pictures(bundle: str, data: str) -> tuple[list[Any], list[str]]:
    """Held-out pictograms of things that the base knows, and their labels there."""
    known = {entry.name.partition("/")[2]: entry.label for entry in load(bundle).bundle.knowledge.entries}
    held = load_pictograms(Path(data), "fluent")
    rows = zip(held.images, held.ids, held.categories, strict=True)
    chosen = [(image, known[name]) for image, name, kind in rows if kind in OBJECT_CATEGORIES and name in known]
    return [image for image, _ in chosen], [label for _, label in chosen]


@cache
def load(bundle: str) -> SemanticCodec:
    return SemanticCodec.load(bundle)


def work(job: tuple[str, str, str, int, int, float]) -> dict[str, Any]:
    bundle, always, data, seed, start, snr_db = job
    images, labels = pictures(bundle, data)
    codec, believing, modem = load(bundle), load(always), BurstModem()
    row: dict[str, Any] = {"snr_db": snr_db, "sent": 0, "headers": 0, "failed": 0, "repaired": 0, "clean": 0}
    row |= dict.fromkeys(SIDES, 0)
    for index in range(start, min(start + JOB, len(images))):
        frame = codec.encode(images[index], levels=0)
        row["sent"] += 1
        row["clean"] += codec.decode(frame).label == labels[index]
        rng = np.random.default_rng([seed, index])
        iq = lab.turn(np.pad(modem.modulate(frame), (int(rng.integers(300, 1500)), 300)), 0.0, rng.uniform(0, 6.28))
        iq = iq + lab.complex_noise(rng, len(iq), lab.noise_variance(modem.numerology, snr_db))
        bursts = [b for b in modem.receive(iq) + modem.flush() if b.frame.header == frame.header]
        if not bursts:
            continue
        burst = bursts[0]
        row["headers"] += 1
        row["failed"] += burst.frame.semantic is None
        repaired = codec.decode(burst.frame, semantic_llr=burst.semantic_llr)
        row["repaired"] += repaired.repaired
        answers = (
            codec.decode(burst.frame),
            repaired,
            believing.decode(burst.frame, semantic_llr=burst.semantic_llr),
        )
        for side, answer in zip(SIDES, answers, strict=True):
            row[side] += answer.label == labels[index]
    return row


def added(rows: list[dict[str, Any]]) -> dict[str, Any]:
    total = rows[0] | {name: sum(row[name] for row in rows) for name in rows[0] if name != "snr_db"}
    for name in ("clean", *SIDES):
        total[f"{name}_95"] = lab.wilson(total[name], total["sent"])
    return total


def plot(path: Path, rows: list[dict[str, Any]]) -> None:
    with drawing(path, 1000, 500) as figure:
        axes = figure.subplots()
        snr = [row["snr_db"] for row in rows]
        for name, label in (("clean", "no channel"), ("without", "without repair"), ("repair", "with repair"),
                            ("always", "with repair, always believed")):  # fmt: skip
            share = np.array([row[name] / row["sent"] for row in rows])
            bars = np.abs(np.array([row[f"{name}_95"] for row in rows]).T - share)
            axes.errorbar(snr, share, bars, marker="o", ms=4, capsize=3, label=label)
        failed = [1 - (row["headers"] - row["failed"]) / row["sent"] for row in rows]
        axes.plot(snr, failed, "k--", lw=1, label="air codes lost")
        axes.set(xlabel="Es/N0 on an occupied carrier [dB]", ylabel="share of the pictures", ylim=(0, 1))
        axes.legend()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="models/default")
    parser.add_argument("--data", default="data")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/repair_link.json"))
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        always = shutil.copytree(options.bundle, Path(folder) / "bundle")
        KnowledgeBase.open(always / "skb").configure(threshold=-1e9)
        count = len(pictures(options.bundle, options.data)[0])
        jobs = [
            (options.bundle, str(always), options.data, options.seed, start, snr)
            for snr in SNR_DB
            for start in range(0, count, JOB)
        ]
        parts = lab.in_processes(work, jobs, "Bursts")
    rows = [added([part for part in parts if part["snr_db"] == snr]) for snr in SNR_DB]
    lab.show("Held-out pictures named", rows)
    base = KnowledgeBase.open(Path(options.bundle) / "skb")
    settings = {"bundle": options.bundle, "tau": base.tau, "threshold": base.manifest.threshold}
    write_json(options.out, {"machine": machine(), "seed": options.seed} | settings | {"rows": rows})
    plot(options.out.with_suffix(".png"), rows)


if __name__ == "__main__":
    main()
