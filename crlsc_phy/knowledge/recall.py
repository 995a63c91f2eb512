"""Recall: the mean of the entries of a knowledge base, weighted by their similarity to a vector.

Different encoders make different errors, and a classifier trained on the vectors of one learns its errors too. Recalled
vectors lie among the entries, whichever encoder asked: errors that lead away from all entries are removed. Differences
between near entries are lost as well. Recall therefore suits classes with many entries each, and does not suit telling
two similar things apart. It is one step of a modern Hopfield network whose patterns are the entries (Ramsauer et al.,
"Hopfield networks is all you need", 2021, equation 3).
"""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from crlsc_phy.knowledge.air_code import Vectors

__all__ = ["recall"]

TEMPERATURE = 0.05
CHUNK = 1024
"""Number of vectors at a time: a base of 100,000 entries then needs 400 MB of weights."""


def recall(known: Vectors, vectors: Vectors, temperature: float = TEMPERATURE) -> Vectors:
    """Return the mean of all entries, weighted by softmax(similarity / temperature), at unit norm.

    Args:
        known: Vectors of the entries, float32 [B, D], such as ``base.air_code.decode(base.codes)``.
        vectors: Queries, float32 [N, D] of unit norm.
        temperature: Near 0 the result is the nearest entry; for large values it is the mean of all.

    Returns:
        float32 [N, D] of unit norm.
    """
    found = np.empty_like(vectors)
    for start in range(0, len(vectors), CHUNK):
        asked = vectors[start : start + CHUNK]
        found[start : start + CHUNK] = softmax(asked @ known.T / np.float32(temperature), axis=1) @ known
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found
