"""The air code: the product quantiser whose indices travel in the semantic layer.

Every terminal that shares it can talk to every other, so it is trained once, by the server, and then only copied.
Product quantisation follows Jegou et al. 2011. The order of the centroids is polysemous (Douze et al. 2016): near
centroids get indices of small Hamming distance, so that a bit error moves a vector little.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from crlsc_phy.errors import KnowledgeBaseError

__all__ = ["AirCode"]

Vectors = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

FEWEST_VECTORS = 256
"""One a centroid. faiss advises 39 times as many for a code that serves vectors it was not trained on."""


class AirCode:
    """A product quantiser of one byte a sub-vector.

    Args:
        centroids: float32 [M, 256, D / M].

    Attributes:
        centroids: As given.
        size: Bytes of a code, M.
        dim: Size of a vector, D.
    """

    def __init__(self, centroids: Vectors) -> None:
        if centroids.ndim != 3 or centroids.shape[1] != 256:
            raise KnowledgeBaseError(f"air code has centroids {list(centroids.shape)}; they must be [M, 256, D / M]")
        self.centroids = np.ascontiguousarray(centroids, np.float32)
        self.size, _, self._part = centroids.shape
        self.dim = self.size * self._part
        self._norms = (self.centroids**2).sum(axis=2)

    @classmethod
    def train(cls, vectors: Vectors, size: int, seed: int = 0, rounds: int = 500_000) -> AirCode:
        """Train on float32 [N, D] for codes of ``size`` bytes.

        ``rounds`` of simulated annealing a sub-quantiser order the centroids; they take nearly all of the time.

        Raises:
            KnowledgeBaseError: If D is not a multiple of ``size``, or there are too few vectors.
        """
        count, dim = vectors.shape
        if dim % size:
            raise KnowledgeBaseError(f"a vector of {dim} cannot be cut into {size} equal parts")
        if count < FEWEST_VECTORS:
            raise KnowledgeBaseError(f"{count} vectors are too few to train an air code; it needs {FEWEST_VECTORS}")
        # Any: the stubs of faiss leave the polysemous options out.
        index: Any = faiss.IndexPQ(dim, size, 8)
        index.do_polysemous_training = True
        index.polysemous_training.n_iter = rounds
        index.polysemous_training.seed = seed + 123
        index.pq.cp.seed = seed + 1234
        index.pq.cp.min_points_per_centroid = 1
        index.train(np.ascontiguousarray(vectors, np.float32))
        centroids = faiss.vector_to_array(index.pq.centroids).reshape(size, 256, dim // size)
        return cls(centroids)

    @classmethod
    def load(cls, path: str | Path) -> AirCode:
        """Read a file that :meth:`save` wrote.

        Raises:
            KnowledgeBaseError: If it is missing or is not such a file.
        """
        try:
            return cls(load_file(path)["centroids"])
        except (OSError, KeyError, SafetensorError) as error:
            raise KnowledgeBaseError(f"{path}: not an air code ({error})") from None

    def save(self, path: str | Path) -> None:
        """Write the centroids as safetensors."""
        save_file({"centroids": self.centroids}, path)

    def encode(self, vectors: Vectors) -> Codes:
        """Codes uint8 [N, M] of vectors float32 [N, D]: the nearest centroid of each part.

        Raises:
            KnowledgeBaseError: If the vectors have another size or are not finite.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise KnowledgeBaseError(f"vectors are {list(vectors.shape)}; the air code takes [N, {self.dim}]")
        if not np.isfinite(vectors).all():
            raise KnowledgeBaseError("vectors hold NaN or infinite values")
        parts = vectors.reshape(-1, self.size, self._part).transpose(1, 0, 2)
        distances = self._norms[:, None, :] - 2 * parts @ self.centroids.transpose(0, 2, 1)
        nearest: Codes = distances.argmin(axis=2).T.astype(np.uint8)
        return nearest

    def decode(self, codes: Codes) -> Vectors:
        """Vectors float32 [N, D] of codes uint8 [N, M].

        Raises:
            KnowledgeBaseError: If the codes have another length.
        """
        if codes.ndim != 2 or codes.shape[1] != self.size:
            raise KnowledgeBaseError(f"codes are {list(codes.shape)}; the air code has [N, {self.size}]")
        vectors: Vectors = self.centroids[np.arange(self.size), codes].reshape(-1, self.dim)
        return vectors
