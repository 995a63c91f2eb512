"""Gain of knowledge bases on the air: held-out pictures named from bursts whose air code is lost.

    crlsc-train data
    python benchmarks/repair_link.py [--bundle models/default] [--data data] [--seed 1]

Two questions, both with pictograms of the vendor that no training and no calibration has seen:

    drawing   the base holds other vendors' drawings of the same thing: the bundle's shared base
    view      the base holds the very picture, and what is sent is another view of it, turned, cut, re-lit and with the
              marks of JPEG: beside the shared base the receiver has a private one, made of this vendor's pictograms and
              calibrated with another vendor's

Each picture is encoded with the bundle, sent as a semantic-only burst over AWGN with unknown timing and phase, received
and decoded. It is right if the label is its own. "without" takes what the LDPC decoder restores, "entries" adds entries
that soft repair believes, "turbo" is the codec as it is: knowledge bases and LDPC decoder look for the code together
first. "clean" is without a channel. A burst whose header is lost is wrong on all sides. "told" is how many of a code's
bits the likeliest entry tells beforehand, on average: log2 of its likelihood over that of an unknown code.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import bench
import lab
import numpy as np
from pictures import HELD_OUT, another_view

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.data import Pictograms, fixed_crops, load_photos, load_pictograms
from crlsc_phy.knowledge import Entry, KnowledgeBase
from crlsc_phy.knowledge.calibration import calibrate
from crlsc_phy.knowledge.joint import joint_repair
from crlsc_phy.phy import Burst, BurstModem
from crlsc_phy.quality.intervals import wilson
from crlsc_phy.train.calibrate import CROPS_EACH, air_codes

SNR_DB = (-10.0, -9.5, -9.25, -9.0, -8.75, -8.5, -8.25, -8.0, -7.5, -7.0, -6.0)
QUESTIONS = ("drawing", "view")
SIDES = ("without", "entries", "turbo")
JOB = 50
OTHERS = "twitter"
CERTAIN = 30.0
COUNTS = ("sent", "headers", "failed", "restored", "believed", "clean", "told", *SIDES)


@cache
def asked(bundle: str, data: str) -> Pictograms:
    """Return the held-out pictograms of things that the shared base knows."""
    base = KnowledgeBase.open(Path(bundle) / "skb")
    return load_pictograms(Path(data), HELD_OUT).things({entry.name.partition("/")[2] for entry in base.entries})


@cache
def load(bundle: str, private: str) -> SemanticCodec:
    return SemanticCodec.load(bundle, private=[private] if private else [])


def make_private(bundle: str, data: str, folder: Path) -> str:
    """Make a private base of the vendor's pictograms, as ``crlsc-kb build`` and ``calibrate`` do of their files."""
    codec, pictures = load(bundle, ""), load_pictograms(Path(data), HELD_OUT)
    others, photos = load_pictograms(Path(data), OTHERS), fixed_crops(load_photos(Path(data), "train"), CROPS_EACH)
    shared = codec.bundle.knowledge
    entries = [Entry(f"{HELD_OUT}/{i}", name) for i, name in zip(pictures.ids, pictures.names, strict=True)]
    vectors = np.stack([codec.embed(image) for image in pictures.images])
    base = KnowledgeBase.create(folder / "pkb", shared.air_code, vectors, entries, aligned_to=shared.id, tau=shared.tau)
    labels = [*others.names, *[""] * len(photos)]
    found = calibrate(base, air_codes(codec, [*others.images, *photos]), labels)
    base.configure(tau=found.tau, threshold=found.threshold)
    return str(folder / "pkb")


def work(job: tuple[str, str, str, int, str, range, list[float]]) -> list[dict[str, Any]]:
    """Send some of the pictures at every Es/N0."""
    bundle, private, data, seed, question, places, snrs_db = job
    pictures, codec, modem = asked(bundle, data), load(bundle, private), BurstModem()
    rows = [{"question": question, "snr_db": snr} | dict.fromkeys(COUNTS, 0) for snr in snrs_db]
    for index in places:
        image, label = pictures.images[index], pictures.names[index]
        if question == "view":
            image = another_view(image, np.random.default_rng([seed, index, 1]))
        frame = codec.encode(image, levels=0)
        clean = codec.decode(frame).label == label
        bits = np.unpackbits(np.frombuffer(frame.semantic or b"", np.uint8))
        told = max(-joint_repair(codec.bases, CERTAIN * (2.0 * bits - 1)).distance, 0) / np.log(2)
        burst = modem.modulate(frame)
        for row in rows:
            rng = np.random.default_rng([seed, index])
            iq = lab.on_air(rng, burst, modem.numerology, row["snr_db"], max_cfo=0.0)
            row["sent"] += 1
            row["clean"] += clean
            row["told"] += told
            received = [b for b in modem.receive(iq) + modem.flush() if b.frame.header == frame.header]
            if received:
                judge(row, codec, received[0], label, clean)
    return rows


def judge(row: dict[str, Any], codec: SemanticCodec, burst: Burst, label: str, clean: bool) -> None:
    """Count the names that each side gets right; ``clean`` is whether the code as sent gives the right one."""
    row["headers"] += 1
    if burst.frame.semantic is not None:
        for side in SIDES:
            row[side] += clean
        return
    row["failed"] += 1
    entries = codec.decode(burst.frame, semantic_llr=burst.semantic_llr)
    turbo = codec.decode(burst.frame, None, burst.semantic_llr, burst.semantic_coded_llr)
    alone = codec.decode(burst.frame, semantic_coded_llr=burst.semantic_coded_llr)
    row["believed"] += entries.repaired
    row["restored"] += alone.repaired
    row["entries"] += entries.label == label
    row["turbo"] += turbo.label == label


def added(rows: list[dict[str, Any]]) -> dict[str, Any]:
    total = rows[0] | {name: sum(row[name] for row in rows) for name in COUNTS}
    total["told"] = round(total["told"] / total["sent"], 1)
    for name in ("clean", *SIDES):
        total[f"{name}_95"] = wilson(total[name], total["sent"])
    return total


def plot(benchmark: bench.Benchmark, rows: list[dict[str, Any]]) -> None:
    titles = {"drawing": "another drawing of a thing in the base", "view": "another view of a picture in the base"}
    labels = {"clean": "no channel", "without": "LDPC alone", "entries": "entries believed", "turbo": "turbo, entries"}
    with benchmark.figure(1200, 480) as figure:
        for axes, question in zip(figure.subplots(1, 2, sharey=True), QUESTIONS, strict=True):
            shown = [row for row in rows if row["question"] == question]
            snr = [row["snr_db"] for row in shown]
            for name, label in labels.items():
                share = np.array([row[name] / row["sent"] for row in shown])
                bars = np.abs(np.array([row[f"{name}_95"] for row in shown]).T - share)
                axes.errorbar(snr, share, bars, marker="o", ms=4, capsize=3, label=label)
            axes.plot(snr, [row["headers"] / row["sent"] for row in shown], "k--", lw=1, label="headers received")
            axes.set(xlabel="Es/N0 on an occupied carrier [dB]", ylim=(0, 1), title=titles[question])
        figure.axes[0].set_ylabel("share of the pictures named rightly")
        figure.axes[1].legend(loc="lower right")


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__, jobs=2)
    benchmark.add("--bundle", "models/default", "bundle to measure")
    benchmark.add("--data", "data", "folder that `crlsc-train data` filled")
    options = benchmark.parse()

    with tempfile.TemporaryDirectory() as folder:
        bases = {"drawing": "", "view": make_private(options.bundle, options.data, Path(folder))}
        snrs_db = benchmark.few(SNR_DB)
        places = range(5 if options.quick else len(asked(options.bundle, options.data).ids))
        jobs = [
            (
                options.bundle,
                bases[question],
                options.data,
                options.seed,
                question,
                places[start : start + JOB],
                snrs_db,
            )
            for question in QUESTIONS
            for start in range(0, len(places), JOB)
        ]
        calibrated = KnowledgeBase.open(bases["view"])
        parts = [row for rows in benchmark.run(work, jobs, "Bursts") for row in rows]
    keys = [(question, snr) for question in QUESTIONS for snr in snrs_db]
    rows = [added([part for part in parts if (part["question"], part["snr_db"]) == key]) for key in keys]
    bench.show("Held-out pictures named", rows)
    base = KnowledgeBase.open(Path(options.bundle) / "skb")
    settings: dict[str, Any] = {"bundle": options.bundle, "tau": base.tau, "threshold": base.manifest.threshold}
    settings["private"] = {"tau": calibrated.tau, "threshold": calibrated.manifest.threshold}
    benchmark.write(settings | {"rows": rows})
    plot(benchmark, rows)


if __name__ == "__main__":
    main()
