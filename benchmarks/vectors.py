"""Vectors and searches of the knowledge bases' benchmarks."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crlsc_phy.knowledge import KnowledgeBase

Floats = NDArray[np.float32]


def unit(vectors: ArrayLike) -> Floats:
    """Scale vectors [N, D] to unit norm, float32; an array of float32 in place, for it may hold gigabytes."""
    scaled = np.asarray(vectors, np.float32)
    scaled /= np.sqrt(np.einsum("nd,nd->n", scaled, scaled))[:, None]
    return scaled


def search_one_by_one(base: KnowledgeBase, queries: Floats, truth: NDArray[np.int64]) -> dict[str, float]:
    """Ask a base one query after another, as a receiver does.

    Args:
        base: The knowledge base.
        queries: float32 [N, D].
        truth: Positions of the exact nearest entries, int64 [N, K].

    Returns:
        Median and 95 % quantile of the time of a query, and the share of the exact nearest among K answers.
    """
    k = truth.shape[1]
    base.search(queries[:64], k)
    times, shares = [], []
    for query, nearest in zip(queries, truth, strict=True):
        start = time.perf_counter()
        hits = base.search(query[None], k)[0]
        times.append((time.perf_counter() - start) * 1e3)
        shares.append(len(np.intersect1d(hits.positions, nearest)) / k)
    p50, p95 = np.percentile(times, (50, 95)).round(3).tolist()
    return {"p50_ms": p50, "p95_ms": p95, "recall": float(np.mean(shares))}
