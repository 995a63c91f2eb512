"""Repair and search with the bundle's embeddings of real pictures.

    crlsc-train data
    python benchmarks/embeddings.py [--bundle models/default] [--data data] [--crops 400] [--seed 1]

Repair: the base holds all pictograms of three vendors. A query is another view (turned, cut, re-lit, JPEG) of a
pictogram of the held-out vendor, encoded, sent as BPSK over AWGN at a bit error rate, and repaired from its LLRs. It is
right if the entry is the very pictogram. "foreign" asks with crops of held-out photographs, of which the base holds
none. The 16 bytes are the bundle's air code; that of 32 is trained here, on the other two vendors. tau and threshold
are calibrated on views of one of these, with crops of training photographs as what the base does not know.

Search: entries are the pictograms and random crops of the training photographs at two scales, queries crops of the
held-out photographs. Recall is the share of the exact ten nearest among the ten answers; one thread asks.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import bench
import faiss
import numpy as np
from pictures import HELD_OUT, another_view
from vectors import Floats, search_one_by_one

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.data import fixed_crops, load_photos, load_pictograms
from crlsc_phy.images import UInt8Image, resize
from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase
from crlsc_phy.knowledge.calibration import calibrate, noisy_llrs
from crlsc_phy.quality.intervals import wilson

BER = (1e-6, 0.01, 0.02, 0.05, 0.1, 0.15)
SIZES = (16, 32)
TRAINED_ON = ("google", "twitter")
FOREIGN_CROPS = 20
QUERY_CROPS = 20
K = 10


class Embedder:
    """The encoder of the bundle, in ``--jobs`` processes.

    Args:
        benchmark: Says which bundle, and how many processes.
    """

    def __init__(self, benchmark: bench.Benchmark) -> None:
        self._benchmark = benchmark

    def __call__(self, images: list[UInt8Image], label: str) -> Floats:
        """Embed pictures, float32 [N, D]."""
        bundle = self._benchmark.options.bundle
        parts = [(bundle, images[start : start + 500]) for start in range(0, len(images), 500)]
        return np.concatenate(self._benchmark.run(embed, parts, label))


def embed(job: tuple[str, list[UInt8Image]]) -> Floats:
    codec = SemanticCodec.load(job[0])
    return np.stack([codec.embed(image) for image in job[1]])


def views(images: UInt8Image, seed: int) -> list[UInt8Image]:
    return [another_view(image, np.random.default_rng([seed, index])) for index, image in enumerate(images)]


def crops(data: Path, split: str, each: int, seed: int) -> list[UInt8Image]:
    """Return crops of 64 pixels, half of them from photographs reduced to a third, where they show more."""
    photos = load_photos(data, split)
    small = {name: resize(photo, *(max(64, side // 3) for side in photo.shape[:2])) for name, photo in photos.items()}
    return [*fixed_crops(photos, each - each // 2, seed=seed), *fixed_crops(small, each // 2, seed=seed)]


def measure_repair(embedder: Embedder, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    data, seed = options.data, options.seed
    sets = {vendor: load_pictograms(data, vendor) for vendor in (*TRAINED_ON, HELD_OUT)}
    vectors = {vendor: embedder(list(pictograms.images), vendor) for vendor, pictograms in sets.items()}
    entries = [Entry(f"{vendor}/{i}", f"{vendor}/{i}") for vendor, pictograms in sets.items() for i in pictograms.ids]
    asked = embedder(views(sets[HELD_OUT].images, seed), "views")
    foreign = embedder(crops(data, "heldout", FOREIGN_CROPS, seed), "foreign")
    known = embedder(views(sets[TRAINED_ON[0]].images, seed + 1), "calibration")
    unknown = embedder(crops(data, "train", FOREIGN_CROPS, seed), "calibration")
    names = [f"{HELD_OUT}/{i}" for i in sets[HELD_OUT].ids]
    shared = KnowledgeBase.open(Path(options.bundle) / "skb").air_code
    rows = []
    for size in SIZES:
        trained = np.concatenate([vectors[vendor] for vendor in TRAINED_ON])
        code = shared if size == shared.size else AirCode.train(trained, size, seed, rounds=options.rounds)
        base = KnowledgeBase.create(folder / str(size), code, np.concatenate(list(vectors.values())), entries)
        labels = [*(f"{TRAINED_ON[0]}/{i}" for i in sets[TRAINED_ON[0]].ids), *[""] * len(unknown)]
        found = calibrate(base, code.encode(np.concatenate((known, unknown))), labels, seed=seed)
        base.configure(tau=found.tau, threshold=found.threshold)
        for ber in BER:
            rng = np.random.default_rng([seed, 2])
            repairs = base.repair_batch(noisy_llrs(code.encode(asked), ber, rng))
            strange = base.repair_batch(noisy_llrs(code.encode(foreign), ber, rng))
            good = np.array([repair.entry.name == name for repair, name in zip(repairs, names, strict=True)])
            believed = np.array([repair.known for repair in repairs])
            rows.append(
                {
                    "code_bytes": size,
                    "ber": ber,
                    "right": float(good.mean()),
                    "right_95": wilson(int(good.sum()), len(good)),
                    "believed": float(believed.mean()),
                    "wrong_of_believed": float((~good[believed]).mean()) if believed.any() else 0.0,
                    "foreign_believed": float(np.mean([repair.known for repair in strange])),
                }
            )
    return rows


def measure_search(embedder: Embedder, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    pictograms = [image for vendor in (*TRAINED_ON, HELD_OUT) for image in load_pictograms(options.data, vendor).images]
    vectors = embedder([*pictograms, *crops(options.data, "train", options.crops, options.seed)], "entries")
    queries = embedder(crops(options.data, "heldout", QUERY_CROPS, options.seed), "queries")
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    truth = flat.search(queries, K)[1]
    code = KnowledgeBase.open(Path(options.bundle) / "skb").air_code
    names = (Entry(str(i), "") for i in range(len(vectors)))
    base = KnowledgeBase.create(folder / "search", code, vectors, names, keep_vectors=True)
    about = {"entries": len(vectors), "dim": vectors.shape[1], "queries": len(queries), "index": str(base.spec)}
    return about | search_one_by_one(base, queries, truth)


def plot(benchmark: bench.Benchmark, rows: list[dict[str, Any]]) -> None:
    with benchmark.figure(1100, 480) as figure:
        for axes, size in zip(figure.subplots(1, len(SIZES), sharey=True), SIZES, strict=True):
            here = [row for row in rows if row["code_bytes"] == size]
            for name, label in (
                ("right", "right entry"),
                ("believed", "believed"),
                ("wrong_of_believed", "of these, wrong"),
                ("foreign_believed", "of what it does not know, believed"),
            ):
                axes.plot([row["ber"] for row in here], [row[name] for row in here], "o-", ms=4, label=label)
            axes.set(xlabel="bit error rate", ylim=(0, 1.02), title=f"{size} bytes")
        figure.axes[0].set_ylabel("share")
        figure.axes[0].legend()


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__, jobs=2)
    benchmark.add("--bundle", "models/default", "bundle to measure")
    benchmark.add("--data", Path("data"), "folder that `crlsc-train data` filled")
    benchmark.add("--crops", 400, "crops of each training photograph", quick=10)
    benchmark.add("--rounds", 20_000, "rounds in which the centroids of a code are put in order", quick=500)
    options = benchmark.parse()

    embedder = Embedder(benchmark)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure_repair(embedder, options, Path(folder))
        faiss.omp_set_num_threads(1)
        search = measure_search(embedder, options, Path(folder))
    bench.show("Repair", rows)
    bench.show("Search", [search])
    benchmark.write({"bundle": options.bundle, "crops": options.crops, "repair": rows, "search": search})
    plot(benchmark, rows)


if __name__ == "__main__":
    main()
