"""The air code: the product quantiser whose indices travel in the semantic layer.

Every terminal that shares it can talk to every other, so it is trained once, by the server, and then only copied; its
hash tells whether two ends share it. Product quantisation follows Jegou et al. 2011, the optional rotation before it Ge
et al. 2013 (OPQ). The order of the centroids is polysemous (Douze et al. 2016): near centroids get indices of small
Hamming distance, so that a bit error moves a vector little.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from crlsc_phy.errors import KnowledgeBaseError

__all__ = ["AirCode", "Codes", "Vectors"]

Vectors = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

FEWEST_VECTORS = 256
"""One a centroid. faiss advises 39 times as many for a code that serves vectors it was not trained on."""
MOST_BYTES = 64
# Vectors encoded at a time: 64 sub-quantisers then need 64 MB of distances.
_CHUNK = 1024


class AirCode:
    """A product quantiser of one byte a sub-vector.

    Args:
        centroids: float32 [M, 256, D / M].
        rotation: What vectors are multiplied with before they are cut into parts, orthonormal float32 [D, D], or None.

    Attributes:
        centroids, rotation: As given.
        size: Bytes of a code, M.
        dim: Size of a vector, D.

    Raises:
        KnowledgeBaseError: If the shapes do not fit, or the rotation is none.
    """

    def __init__(self, centroids: Vectors, rotation: Vectors | None = None) -> None:
        if centroids.ndim != 3 or centroids.shape[1] != 256 or not 1 <= len(centroids) <= MOST_BYTES:
            raise KnowledgeBaseError(
                f"air code has centroids {list(centroids.shape)}; they must be [M, 256, D / M], M up to {MOST_BYTES}"
            )
        if not np.isfinite(centroids).all():
            raise KnowledgeBaseError("centroids hold NaN or infinite values")
        self.centroids = np.ascontiguousarray(centroids, np.float32)
        self.size, _, self._part = centroids.shape
        self.dim = self.size * self._part
        if rotation is not None:
            rotation = np.ascontiguousarray(rotation, np.float32)
            square = rotation.shape == (self.dim, self.dim)
            if not square or not np.allclose(rotation @ rotation.T, np.eye(self.dim), atol=1e-3):
                raise KnowledgeBaseError(f"the rotation must be orthonormal [{self.dim}, {self.dim}]")
        self.rotation = rotation
        self._norms = (self.centroids**2).sum(axis=2)

    @cached_property
    def id(self) -> str:
        """SHA-256 of centroids and rotation, in hex."""
        digest = hashlib.sha256(f"air code {list(self.centroids.shape)}".encode())
        digest.update(self.centroids.astype("<f4").tobytes())
        if self.rotation is not None:
            digest.update(self.rotation.astype("<f4").tobytes())
        return digest.hexdigest()

    def centroid_distances(self) -> Vectors:
        """Squared L2 distances of the centroids of each part from each other, float32 [M, 256, 256]."""
        distances: Vectors = ((self.centroids[:, :, None] - self.centroids[:, None]) ** 2).sum(axis=3)
        return distances

    @classmethod
    def train(
        cls,
        vectors: Vectors,
        size: int,
        seed: int = 0,
        *,
        rotate: bool = False,
        polysemous: bool = True,
        rounds: int = 500_000,
    ) -> AirCode:
        """Train an air code; the same on every run for the same arguments.

        Args:
            vectors: float32 [N, D].
            size: Bytes of a code; D must be a multiple of it.
            seed: Of k-means and of the centroids' order.
            rotate: Whether to learn a rotation first (OPQ). It gains where the parts of a vector differ in variance.
            polysemous: Whether to order the centroids for bit errors.
            rounds: Of simulated annealing a sub-quantiser for that order; they take nearly all of the time.

        Raises:
            KnowledgeBaseError: If the size does not fit, or there are too few vectors.
        """
        count, dim = vectors.shape
        if not 1 <= size <= MOST_BYTES:
            raise KnowledgeBaseError(f"an air code has 1 to {MOST_BYTES} bytes, not {size}")
        if dim % size:
            raise KnowledgeBaseError(f"a vector of {dim} cannot be cut into {size} equal parts")
        if count < FEWEST_VECTORS:
            raise KnowledgeBaseError(f"{count} vectors are too few to train an air code; it needs {FEWEST_VECTORS}")
        vectors = np.ascontiguousarray(vectors, np.float32)
        rotation = None
        if rotate:
            transform: Any = faiss.OPQMatrix(dim, size)
            transform.pq = pq = faiss.ProductQuantizer(dim, size, 8)
            pq.cp.seed = seed + 1234
            pq.cp.min_points_per_centroid = 1
            transform.train(vectors)
            rotation = faiss.vector_to_array(transform.A).reshape(dim, dim)
            vectors = vectors @ rotation.T
        # Any: the stubs of faiss leave the polysemous options out.
        index: Any = faiss.IndexPQ(dim, size, 8)
        index.do_polysemous_training = polysemous
        index.polysemous_training.n_iter = rounds
        index.polysemous_training.seed = seed + 123
        index.pq.cp.seed = seed + 1234
        index.pq.cp.min_points_per_centroid = 1
        index.train(vectors)
        centroids = faiss.vector_to_array(index.pq.centroids).reshape(size, 256, dim // size)
        return cls(centroids, rotation)

    @classmethod
    def load(cls, path: str | Path) -> AirCode:
        """Read a file that :meth:`save` wrote.

        Raises:
            KnowledgeBaseError: If it is missing or is not such a file.
        """
        try:
            arrays = load_file(path)
            return cls(arrays["centroids"], arrays.get("rotation"))
        except (OSError, KeyError, SafetensorError) as error:
            raise KnowledgeBaseError(f"{path}: not an air code ({error})") from None

    def save(self, path: str | Path) -> None:
        """Write centroids and rotation as safetensors."""
        arrays = {"centroids": self.centroids}
        if self.rotation is not None:
            arrays["rotation"] = self.rotation
        # Not save_file, whose errors are no OSError when the disk is full.
        Path(path).write_bytes(save(arrays))

    def encode(self, vectors: Vectors) -> Codes:
        """Codes uint8 [N, M] of vectors float32 [N, D]: the nearest centroid of each part.

        Raises:
            KnowledgeBaseError: If the vectors have another size or are not finite.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise KnowledgeBaseError(f"vectors are {list(vectors.shape)}; the air code takes [N, {self.dim}]")
        codes = np.empty((len(vectors), self.size), np.uint8)
        for start in range(0, len(vectors), _CHUNK):
            chunk = vectors[start : start + _CHUNK]
            if not np.isfinite(chunk).all():
                raise KnowledgeBaseError("vectors hold NaN or infinite values")
            if self.rotation is not None:
                chunk = chunk @ self.rotation.T
            parts = chunk.reshape(-1, self.size, self._part).transpose(1, 0, 2)
            distances = self._norms[:, None, :] - 2 * parts @ self.centroids.transpose(0, 2, 1)
            codes[start : start + _CHUNK] = distances.argmin(axis=2).T
        return codes

    def decode(self, codes: Codes) -> Vectors:
        """Vectors float32 [N, D] of codes uint8 [N, M].

        Raises:
            KnowledgeBaseError: If the codes have another length.
        """
        if codes.ndim != 2 or codes.shape[1] != self.size:
            raise KnowledgeBaseError(f"codes are {list(codes.shape)}; the air code has [N, {self.size}]")
        return self._turned_back(self.centroids[np.arange(self.size), codes])

    def expectation(self, probabilities: npt.NDArray[np.float32]) -> Vectors:
        """Mean vectors float32 [N, D] of codes of which only the probabilities of each byte are known, [N, M, 256]."""
        return self._turned_back(np.einsum("nmb,mbd->nmd", probabilities, self.centroids, optimize=True))

    def _turned_back(self, parts: Vectors) -> Vectors:
        vectors = parts.reshape(-1, self.dim)
        return vectors if self.rotation is None else vectors @ self.rotation
