"""Air code: the product quantiser whose indices are sent in the semantic layer.

Terminals with the same air code understand each other. It is trained once, by the server, and then only copied; its
hash identifies it. Product quantisation follows Jegou et al., "Product quantization for nearest neighbor search", 2011;
the optional rotation is OPQ (Ge et al., "Optimized product quantization", 2013). The order of the centroids is
polysemous (Douze et al., "Polysemous codes", 2016): near centroids have indices of small Hamming distance, so a bit
error moves a vector little.
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
"""One for each centroid; faiss advises 39 times as many for vectors that the code was not trained on."""
MOST_BYTES = 64
# Number of vectors encoded at a time: 64 sub-quantisers then need 64 MB for distances.
_CHUNK = 1024


class AirCode:
    """Product quantiser with one byte for each sub-vector.

    Args:
        centroids: float32 [M, 256, D / M].
        rotation: Orthonormal matrix that vectors are multiplied by before they are split, float32 [D, D], or None.

    Attributes:
        centroids, rotation: As given.
        size: Bytes of a code, M.
        dim: Size of a vector, D.

    Raises:
        KnowledgeBaseError: If a shape is wrong, a number is not finite, or the rotation is not orthonormal.
    """

    def __init__(self, centroids: Vectors, rotation: Vectors | None = None) -> None:
        if centroids.ndim != 3 or centroids.shape[1] != 256 or not 1 <= len(centroids) <= MOST_BYTES:
            raise KnowledgeBaseError(
                f"air code has centroids {list(centroids.shape)}; they must be [M, 256, D / M], M up to {MOST_BYTES}"
            )
        if not np.isfinite(centroids).all():
            raise KnowledgeBaseError("centroids contain NaN or infinite values")
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
        """Return the squared L2 distances between the centroids of each part, float32 [M, 256, 256]."""
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
        """Train an air code. The same arguments give the same code.

        Args:
            vectors: float32 [N, D], N at least 256.
            size: Bytes of a code, 1 to 64; D must be a multiple of it.
            seed: Seed of k-means and of the order of the centroids.
            rotate: Whether to learn a rotation first (OPQ). It helps where the parts of a vector differ in variance.
            polysemous: Whether to order the centroids for bit errors.
            rounds: Iterations of simulated annealing for the order of each sub-quantiser; they take most of the time.

        Raises:
            KnowledgeBaseError: If the size does not match, or there are too few vectors.
        """
        count, dim = vectors.shape
        if not 1 <= size <= MOST_BYTES:
            raise KnowledgeBaseError(f"an air code cannot have {size} bytes; choose 1 to {MOST_BYTES}")
        if dim % size:
            raise KnowledgeBaseError(
                f"vectors of {dim} numbers cannot be split into {size} equal parts; choose a divisor of {dim}"
            )
        if count < FEWEST_VECTORS:
            raise KnowledgeBaseError(
                f"{count} vectors are too few to train an air code; give at least {FEWEST_VECTORS}"
            )
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
        # Any: the type stubs of faiss lack the polysemous options.
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
        """Read a file written by :meth:`save`.

        Raises:
            KnowledgeBaseError: If it is missing or not such a file.
        """
        try:
            arrays = load_file(path)
            return cls(arrays["centroids"], arrays.get("rotation"))
        except (OSError, KeyError, SafetensorError) as error:
            raise KnowledgeBaseError(f"{path}: not an air code ({error})") from None

    def save(self, path: str | Path) -> None:
        """Write the file."""
        # save_file does not raise an OSError when the disk is full.
        Path(path).write_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return centroids and rotation as safetensors."""
        arrays = {"centroids": self.centroids}
        return save(arrays if self.rotation is None else arrays | {"rotation": self.rotation})

    def encode(self, vectors: Vectors) -> Codes:
        """Return the codes, uint8 [N, M], of vectors, float32 [N, D]: the nearest centroid of each part.

        Raises:
            KnowledgeBaseError: If the vectors have another size or are not finite.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise KnowledgeBaseError(f"vectors have shape {list(vectors.shape)}; the air code takes [N, {self.dim}]")
        codes = np.empty((len(vectors), self.size), np.uint8)
        for start in range(0, len(vectors), _CHUNK):
            chunk = vectors[start : start + _CHUNK]
            if not np.isfinite(chunk).all():
                raise KnowledgeBaseError("vectors contain NaN or infinite values")
            if self.rotation is not None:
                chunk = chunk @ self.rotation.T
            parts = chunk.reshape(-1, self.size, self._part).transpose(1, 0, 2)
            distances = self._norms[:, None, :] - 2 * parts @ self.centroids.transpose(0, 2, 1)
            codes[start : start + _CHUNK] = distances.argmin(axis=2).T
        return codes

    def decode(self, codes: Codes) -> Vectors:
        """Return the vectors, float32 [N, D], of codes, uint8 [N, M].

        Raises:
            KnowledgeBaseError: If the codes have another length.
        """
        if codes.ndim != 2 or codes.shape[1] != self.size:
            raise KnowledgeBaseError(f"codes have shape {list(codes.shape)}; the air code takes [N, {self.size}]")
        return self._turned_back(self.centroids[np.arange(self.size), codes])

    def expectation(self, probabilities: npt.NDArray[np.floating[Any]]) -> Vectors:
        """Return the mean vectors, float32 [N, D], given the probabilities of each byte of the codes, [N, M, 256]."""
        means = np.matmul(probabilities.transpose(1, 0, 2), self.centroids)
        return self._turned_back(means.transpose(1, 0, 2).astype(np.float32))

    def _turned_back(self, parts: Vectors) -> Vectors:
        vectors = parts.reshape(-1, self.dim)
        return vectors if self.rotation is None else vectors @ self.rotation
