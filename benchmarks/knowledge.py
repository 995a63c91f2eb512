"""Time, recall and size of the search of a knowledge base, beside raw faiss with the same index.

    python benchmarks/knowledge.py [--entries 1000000] [--queries 1000] [--seed 1] [--out FILE]

Clustered synthetic vectors of 512 numbers: 2,000 centres and the entries about them, the variance of both along the
i-th principal direction i^-1.1, as measured of the default teacher's features of the pictograms. A query is an entry
moved by a third of its length. Recall is the share of the exact ten nearest, by float32 vectors, among the ten answers.
One thread asks; building uses all cores. "codes alone" keeps no vectors. "beside faiss" asks the same file of an index
through the base, without a second look at candidates, and through faiss. The base is opened in a new process, its files
in the page cache; imports do not count. 1,000,000 entries need 12 GB of memory and 1.5 GB for temporary files.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import bench
import faiss
import numpy as np
from numpy.typing import NDArray
from vectors import Floats, search_one_by_one, unit

from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase
from crlsc_phy.knowledge.index import IndexSpec

DIM, CLUSTERS, CODE_BYTES, K = 512, 2000, 32, 10
NPROBE, RERANK = (8, 16, 32, 64, 128), (0, 10, 20, 40)
CODES_ALONE_PARTS = 32
BATCHES = {1: 1000, 256: 20}
OPENING = """
import sys, time
import numpy as np
from crlsc_phy.knowledge import KnowledgeBase
query = np.random.default_rng(0).normal(size=(1, 512)).astype(np.float32)
start = time.perf_counter()
list(KnowledgeBase.open(sys.argv[1]).search(query, 10)[0])
print(time.perf_counter() - start)
"""


def draw(rng: np.random.Generator, count: int, directions: Floats) -> Floats:
    values = rng.standard_normal((count, DIM), np.float32) * np.arange(1, DIM + 1, dtype=np.float32) ** -0.55
    return unit(values @ directions)


def exact(vectors: Floats, queries: Floats) -> NDArray[np.int64]:
    flat = faiss.IndexFlatIP(DIM)
    flat.add(vectors)
    return np.asarray(flat.search(queries, K)[1])


def ms_a_query(ask: Any, queries: Floats, batch: int) -> float:
    start = time.perf_counter()
    ask(queries[:batch])
    return (time.perf_counter() - start) * 1e3 / batch


def sweep(
    benchmark: bench.Benchmark, base: KnowledgeBase, factory: str, queries: Floats, truth: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """Ask a base with every number of cells probed and of candidates ranked again."""
    rows = []
    for nprobe in benchmark.few(NPROBE):
        for rerank in RERANK:
            base.configure(index=str(IndexSpec(factory, nprobe, rerank)))
            rows.append({"nprobe": nprobe, "rerank": rerank} | search_one_by_one(base, queries, truth))
    return rows


def beside_faiss(base: KnowledgeBase, queries: Floats, part: float) -> list[dict[str, Any]]:
    """Time the base's search and that of faiss on the same index file, in turns; ``part`` of the turns."""
    rows = []
    spec = IndexSpec.parse(base.manifest.index)
    base.configure(index=str(IndexSpec(spec.factory, spec.nprobe)))
    (file,) = (base.path / "cache").glob("*.faiss")
    index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)
    faiss.extract_index_ivf(index).nprobe = spec.nprobe
    for batch, turns in BATCHES.items():
        repeats = round(part * turns)
        ours, raw = [], []
        for turn in range(repeats):
            asked = np.roll(queries, -turn * batch, axis=0)[:batch].copy()
            sides = [(ours, lambda x: base.search(x, K)), (raw, lambda x: index.search(x, K))]
            for times, ask in sides[:: 1 if turn % 2 else -1]:
                ms_a_query(ask, asked, batch)  # caches as the other side finds them
                times.append(ms_a_query(ask, asked, batch))
        # By turns, so that a machine that slows down does not tell.
        ratio = float(np.median(np.array(ours) / np.array(raw)))
        rows.append(
            {"batch": batch, "ours_ms": np.median(ours), "faiss_ms": np.median(raw), "ratio": ratio, "turns": repeats}
        )
    base.configure(index=str(spec))
    return rows


def sizes(base: KnowledgeBase) -> dict[str, float]:
    """Return the bytes an entry takes, by kind of file."""
    total: dict[str, float] = {}
    for path in base.path.rglob("*"):
        kind = {".faiss": "index", ".sqlite": "names"}.get(path.suffix, path.stem)
        if kind in ("codes", "vectors", "index", "names"):
            total[kind] = total.get(kind, 0) + path.stat().st_size / len(base)
    return {kind: round(value, 1) for kind, value in total.items()}


def opening(base: KnowledgeBase, repeats: int) -> list[float]:
    """Measure how long new processes take to open a base and to answer a first query, in seconds, sorted."""
    command = [sys.executable, "-c", OPENING, str(base.path)]
    return sorted(
        round(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout), 4)
        for _ in range(repeats)
    )


def plot(benchmark: bench.Benchmark, bases: dict[str, Any]) -> None:
    with benchmark.figure(1100, 480) as figure:
        for axes, (name, content) in zip(figure.subplots(1, len(bases), sharey=True), bases.items(), strict=True):
            for rerank in RERANK:
                here = [row for row in content["rows"] if row["rerank"] == rerank]
                label = f"{rerank * K} looked at again" if rerank else "by the index's word"
                axes.plot([row["p50_ms"] for row in here], [row["recall"] for row in here], "o-", ms=4, label=label)
            size = sum(value for kind, value in content["bytes"].items() if kind != "names")
            axes.set(xlabel="p50 [ms]", ylim=(0, 1.02), title=f"{name}, {size:.0f} bytes a vector")
            axes.set_ylabel("recall@10")
            axes.legend()


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__)
    benchmark.add("--entries", 1_000_000, "entries of the base", quick=21_000)
    benchmark.add("--queries", 1000, "queries", quick=50)
    options = benchmark.parse()

    cores = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(os.cpu_count())
    rng = np.random.default_rng(options.seed)
    directions = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0].astype(np.float32)
    centres = draw(rng, CLUSTERS, directions)
    vectors = unit(centres[rng.integers(CLUSTERS, size=options.entries)] + draw(rng, options.entries, directions))
    chosen = rng.integers(options.entries, size=options.queries)
    queries = unit(vectors[chosen] + np.float32(0.33) * draw(rng, options.queries, directions))
    truth = exact(vectors, queries)
    code = AirCode.train(
        vectors[: min(100_000, options.entries)], CODE_BYTES, options.seed, rounds=500 if options.quick else 20_000
    )
    codes = code.encode(vectors)
    chosen_index = IndexSpec.choose(options.entries, DIM)
    smaller = chosen_index.factory.replace("PQ64", f"PQ{CODES_ALONE_PARTS}")
    bases: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, keep, factory in (
            ("with vectors", True, chosen_index.factory),
            ("codes alone", False, smaller),
        ):
            spec = str(IndexSpec(factory, chosen_index.nprobe, chosen_index.rerank))
            entries = (Entry(f"entry/{i}", f"label {i % CLUSTERS}") for i in range(options.entries))
            faiss.omp_set_num_threads(os.cpu_count())
            start = time.perf_counter()
            place = Path(folder) / name.replace(" ", "-")
            base = KnowledgeBase.create(place, code, vectors, entries, codes=codes, keep_vectors=keep, index=spec)
            created = time.perf_counter()
            base.search(queries[:1], K)
            indexed = time.perf_counter()
            faiss.omp_set_num_threads(1)
            content: dict[str, Any] = {
                "index": spec,
                "create_s": round(created - start, 1),
                "index_s": round(indexed - created, 1),
                "bytes": sizes(base),
                "beside_faiss": beside_faiss(base, queries, 0.1 if options.quick else 1.0),
                "opening_s": opening(base, 2 if options.quick else 7),
            }
            content["rows"] = sweep(benchmark, base, factory, queries, truth)
            bases[name] = content
            bench.show(f"{name}: {content['bytes']} bytes, opened in {content['opening_s']} s", content["rows"])
            bench.show(f"{name}: beside faiss, ms a query", content["beside_faiss"])
    faiss.omp_set_num_threads(cores)
    settings = {"entries": options.entries, "queries": options.queries, "dim": DIM, "code_bytes": CODE_BYTES, "k": K}
    benchmark.write(settings | {"bases": bases})
    plot(benchmark, bases)


if __name__ == "__main__":
    main()
