"""What a knowledge base makes of vectors: the mean of its entries, each as near as it lies.

Unlike encoders err in unlike ways, and whatever learns from the vectors of one learns its errors too. What a base
recalls lies among its own entries, whoever asked: errors that lead away from all of them are gone. So is what tells
near entries apart: it suits kinds of things, of which each has many entries, and not one thing of two alike. It is one
step of a modern Hopfield network (Ramsauer et al. 2021, equation 3) whose patterns are the entries.
"""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from crlsc_phy.knowledge.air_code import Vectors

__all__ = ["recall"]

TEMPERATURE = 0.05
CHUNK = 1024
"""Vectors at a time: a base of 100,000 entries then needs 400 MB of weights."""


def recall(known: Vectors, vectors: Vectors, temperature: float = TEMPERATURE) -> Vectors:
    """Mean of all entries, weighted by softmax(similarity / temperature), at unit norm.

    Args:
        known: Vectors of the entries, float32 [B, D], such as ``base.air_code.decode(base.codes)``.
        vectors: What is asked, float32 [N, D] of unit norm.
        temperature: The nearest entry alone towards 0, the mean of all towards infinity.

    Returns:
        float32 [N, D] of unit norm.
    """
    found = np.empty_like(vectors)
    for start in range(0, len(vectors), CHUNK):
        asked = vectors[start : start + CHUNK]
        found[start : start + CHUNK] = softmax(asked @ known.T / np.float32(temperature), axis=1) @ known
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found
