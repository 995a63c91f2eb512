"""Soft-decision repair of a received air code with the entries of a knowledge base.

The receiver has the knowledge base, which therefore acts as an error-correcting code. Three rules choose an entry:

    nearest    the decoded vector of the entry is nearest to that of the received code, by L2 distance
    hamming    the code of the entry differs in the fewest bits
    soft       the likelihood of the received LLRs is largest

The picture sent need not be the one in the base. The soft rule therefore models byte m, sent for an entry whose byte
has centroid c_k, as b with probability

    P(b | k) = w(b) exp(-|c_b - c_k|^2 / tau^2) / Z(k)

where w(b) is the share of entries that use centroid b. The log-likelihood of an entry is a sum of M table look-ups.
faiss computes it as a search in an IndexPQ by inner product over 256 M dimensions, whose centroids are unit vectors.

The alternative to all entries is an unknown code with P(b) = w(b). A priori it is as likely as all entries together.
An entry is trusted if its log-likelihood ratio to the unknown code reaches a threshold, whichever rule chose it.

:func:`extrinsic` does not choose an entry, but gives a channel decoder the bits that the base expects.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge.air_code import AirCode, Codes, Vectors
from crlsc_phy.knowledge.base import Hit, Repair, Rule

__all__ = ["Finding", "Repairer", "code_or_llrs", "default_tau", "expected_vectors", "extrinsic"]

ASSUMED_BER = 0.02
"""Bit error rate that the soft rule assumes for a code without LLRs."""
# Number of entries that the confidence is computed from; the others have almost no share in it.
_RIVALS = 32
# Number of entries that extrinsic information is computed from; more entries do not restore more codes.
_WEIGHED = 256
# Prior probability of an unknown code in extrinsic information.
_UNKNOWN = 0.1
_MOST_EXTRINSIC = 10.0
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32)
_MOST_LLR = 30.0
_FLOOR = 1e-30
_NEGLIGIBLE = 1e-100


@dataclass(frozen=True, slots=True)
class Finding:
    """Entries chosen for N received codes.

    Attributes:
        rows: Rows of the entries, int64 [N].
        ratios: Log-likelihood ratios of the entries to an unknown code, with their priors, in nats, float32 [N].
        confidences: Probabilities of the entries, 0 to 1, float32 [N].
        distances: Distances by the rule, see :class:`~crlsc_phy.knowledge.base.Repair`, float32 [N].
        received: Hard decisions of the received codes, uint8 [N, M].
    """

    rows: npt.NDArray[np.int64]
    ratios: npt.NDArray[np.float32]
    confidences: npt.NDArray[np.float32]
    distances: npt.NDArray[np.float32]
    received: Codes

    def answers(self, codes: Codes, hits: Sequence[Hit], threshold: float) -> list[Repair]:
        """Return the repaired codes.

        Args:
            codes: Codes of the entries, uint8 [N, M].
            hits: Names, labels and scores of the entries.
            threshold: Log-likelihood ratio, in nats, from which an entry is trusted.
        """
        known = self.ratios >= threshold
        return [
            Repair(
                code=codes[i] if known[i] else self.received[i],
                entry=hit,
                known=bool(known[i]),
                distance=float(self.distances[i]),
                confidence=float(self.confidences[i]),
            )
            for i, hit in enumerate(hits)
        ]


def code_or_llrs(values: npt.ArrayLike, size: int) -> npt.NDArray[Any]:
    """Return codes or LLRs as a batch: uint8 [N, M] or float32 [N, 8 M].

    Args:
        values: Codes uint8 [N, M] or [M], or LLRs log p(1)/p(0) [N, 8 M] or [8 M], most significant bit first.
        size: Bytes of a code, M.

    Raises:
        KnowledgeBaseError: If the shape is another, or LLRs contain NaN.
    """
    array: npt.NDArray[Any] = np.atleast_2d(np.asarray(values))
    if array.dtype == np.uint8 and array.ndim == 2 and array.shape[1] == size:
        return array
    if np.issubdtype(array.dtype, np.floating) and array.ndim == 2 and array.shape[1] == 8 * size:
        if np.isnan(array).any():
            raise KnowledgeBaseError("LLRs contain NaN")
        return array.astype(np.float32)
    raise KnowledgeBaseError(
        f"received codes are {array.dtype} {list(array.shape)}; give uint8 [N, {size}], or LLRs float32 [N, {8 * size}]"
    )


def default_tau(air_code: AirCode) -> float:
    """Return the default tau of the soft rule: half the RMS distance of a centroid from the nearest other one."""
    squares = air_code.centroid_distances()
    squares[:, np.arange(256), np.arange(256)] = np.inf
    # The factor that does well with every code in benchmarks/repair.py.
    return 0.5 * float(np.sqrt(squares.min(axis=2).mean()))


class Repairer:
    """Repair of received codes with a set of entries.

    Args:
        air_code: Quantiser of the codes.
        codes: Codes of the entries, uint8 [N, M]. With N = 0 the centroids are taken as used equally, and
            :meth:`among` gives the entries.
        tau: Width of the soft rule, in units of the vectors.
    """

    def __init__(self, air_code: AirCode, codes: Codes, tau: float) -> None:
        self._air_code, self._codes = air_code, np.ascontiguousarray(codes)
        self._population = len(codes)
        counts = np.stack([np.bincount(column, minlength=256) for column in self._codes.T]) + 1.0
        # w(b), float32 [M, 256], all above 0
        self._usage = (counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)
        # In double precision and without the smallest numbers: arithmetic with subnormal numbers is 100 times as slow.
        distances = air_code.centroid_distances().astype(np.float64)
        meant = self._usage[:, :, None] * np.exp(-distances / max(tau, 1e-6) ** 2)
        meant /= np.maximum(meant.sum(axis=1, keepdims=True), _FLOOR)
        meant[meant < _NEGLIGIBLE] = 0
        # P(b | k), float64 [M, b, k]
        self._meant = meant

    def among(self, codes: Codes, population: int) -> Repairer:
        """Return a repairer with the same model of received bytes for candidates from a base of ``population`` entries.

        Their codes are uint8 [N, M], N > 0.
        """
        other = copy(self)
        other._codes, other._population = np.ascontiguousarray(codes), population
        for index in ("_soft_index", "_decoded_index", "_binary_index"):
            other.__dict__.pop(index, None)
        return other

    @cached_property
    def _soft_index(self) -> Any:
        units = np.tile(np.eye(256, dtype=np.float32), (self._air_code.size, 1, 1))
        return self._index_of(units, faiss.METRIC_INNER_PRODUCT)

    @cached_property
    def _decoded_index(self) -> Any:
        return self._index_of(self._air_code.centroids, faiss.METRIC_L2)

    def _index_of(self, centroids: Vectors, metric: int) -> Any:
        """Return an index of the codes with centroids float32 [M, 256, d]."""
        size, _, part = centroids.shape
        index: Any = faiss.IndexPQ(size * part, size, 8, metric)
        faiss.copy_array_to_vector(centroids.ravel(), index.pq.centroids)
        index.is_trained = True
        index.add_sa_codes(self._codes)
        return index

    @cached_property
    def _binary_index(self) -> Any:
        index = faiss.IndexBinaryFlat(8 * self._air_code.size)
        index.add(self._codes)
        return index

    def find(self, received: npt.NDArray[Any], rule: Rule | None = None) -> Finding:
        """Choose an entry for each received code.

        Args:
            received: Output of :func:`code_or_llrs`.
            rule: ``soft``, ``nearest`` or ``hamming``; by default ``soft`` for LLRs and ``nearest`` for codes. For
                codes the rule ``soft`` assumes the bit error rate ``ASSUMED_BER``.

        Raises:
            KnowledgeBaseError: If there is no such rule.
        """
        hard = received.dtype == np.uint8
        rule = rule or ("nearest" if hard else "soft")
        if hard:
            codes = np.ascontiguousarray(received)
            certain = np.log((1 - ASSUMED_BER) / ASSUMED_BER)
            llrs = (2 * np.unpackbits(codes, axis=1).astype(np.float32) - 1) * np.float32(certain)
        else:
            llrs, codes = received, np.packbits(received > 0, axis=1)
        tables, unknown_bytes = self._tables(llrs)
        unknown = unknown_bytes.sum(axis=1)
        top = min(_RIVALS, len(self._codes))
        scores, rivals = self._soft_index.search(tables.reshape(len(llrs), -1), top)
        if rule == "soft":
            rows = rivals[:, 0]
        elif rule == "nearest":
            vectors = self._air_code.centroids[np.arange(self._air_code.size), codes].reshape(len(codes), -1)
            near, found = self._decoded_index.search(vectors, 1)
            rows, distances = found[:, 0], near[:, 0]
        elif rule == "hamming":
            bits, found = self._binary_index.search(codes, 1)
            rows, distances = found[:, 0], bits[:, 0].astype(np.float32)
        else:
            raise KnowledgeBaseError(f"repair rule {rule!r} is unknown; choose soft, nearest or hamming")
        own = np.take_along_axis(tables, self._codes[rows][:, :, None].astype(np.int64), axis=2).sum(axis=(1, 2))
        prior = np.log(self._population)
        ratios = own - unknown - prior
        rest = np.logaddexp(np.logaddexp.reduce(scores, axis=1), unknown + prior)
        # The entry chosen may not be among the rivals.
        confidences = np.exp(np.minimum(own - np.maximum(rest, own), 0))
        if rule == "soft":
            distances = -ratios
        return Finding(rows, ratios, confidences, distances, codes)

    def byte_weights(self, llrs: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the likelihood of each value of each byte of a code, given the LLRs of its *other* bytes.

        LLRs float32 [8 M] give weights, float64 [M, 256], and the logarithms of their scales, float64 [M].
        """
        size = self._air_code.size
        at = np.arange(size)
        tables, unknown = self._tables(llrs[None])
        _, rows = self._soft_index.search(tables.reshape(1, -1), min(_WEIGHED, len(self._codes)))
        codes = self._codes[rows[0]]
        own = tables[0, at, codes]
        entries = own.sum(axis=1, keepdims=True) - own + np.log((1 - _UNKNOWN) / self._population)
        other = unknown[0].sum() - unknown[0] + np.log(_UNKNOWN)
        scales = np.maximum(entries.max(axis=0), other).astype(np.float64)
        meant = np.zeros((size, 256))
        np.add.at(meant, (at, codes), np.exp(entries - scales))
        weights = np.einsum("mbk,mk->mb", self._meant, meant)
        return weights + np.exp(other - scales)[:, None] * self._usage, scales

    def _tables(self, llrs: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return log-likelihoods of the bytes of entries, float32 [N, M, 256], and of an unknown code, [N, M]."""
        likelihood = _byte_likelihoods(llrs)
        byte_given_entry = np.matmul(likelihood.transpose(1, 0, 2), self._meant).transpose(1, 0, 2)
        tables = np.log(np.maximum(byte_given_entry, _FLOOR))
        unknown = np.log(np.maximum((likelihood * self._usage).sum(axis=2), _FLOOR))
        return tables.astype(np.float32), unknown.astype(np.float32)


def extrinsic(repairers: Sequence[Repairer], llrs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return extrinsic information of knowledge bases on the bits of a code: the outer decoder of a turbo decoder.

    All bases are equally likely to hold the code. The information on a bit depends on the LLRs of all other bits, also
    of those in the same byte, but not on its own. See J. Hagenauer, "Source-controlled channel decoding", IEEE Trans.
    Commun. 43(9), 1995.

    Args:
        repairers: Repairers of one or more bases with the same air code.
        llrs: Extrinsic information of the channel decoder, log p(1)/p(0), float32 [8 M].

    Returns:
        LLRs log p(1)/p(0), float32 [8 M].
    """
    found = [repairer.byte_weights(llrs) for repairer in repairers]
    top = np.max([scales for _, scales in found], axis=0)
    weights = np.sum([weights * np.exp(scales - top)[:, None] for weights, scales in found], axis=0)
    joint = weights * _byte_likelihoods(llrs[None])[0]
    ones, zeros = joint @ _BITS, joint @ (1 - _BITS)
    posterior = np.log(np.maximum(ones, _FLOOR) / np.maximum(zeros, _FLOOR)).ravel()
    told = posterior - np.clip(llrs, -_MOST_LLR, _MOST_LLR)
    return np.asarray(np.clip(told, -_MOST_EXTRINSIC, _MOST_EXTRINSIC), np.float32)


def expected_vectors(air_code: AirCode, received: npt.NDArray[Any]) -> Vectors:
    """Return the mean vectors, float32 [N, D], of received codes as :func:`code_or_llrs` returns them."""
    if received.dtype == np.uint8:
        return air_code.decode(received)
    return air_code.expectation(_byte_likelihoods(received))


def _byte_likelihoods(llrs: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return p(b | LLRs) of each byte, float64 [N, M, 256], for LLRs float32 [N, 8 M]."""
    bits = np.clip(llrs.astype(np.float64), -_MOST_LLR, _MOST_LLR).reshape(len(llrs), -1, 8)
    # log p(b | LLR) = sum of b_i LLR_i - log(1 + exp LLR_i)
    return np.asarray(np.exp(bits @ _BITS.T - np.logaddexp(0, bits).sum(axis=2, keepdims=True)))
