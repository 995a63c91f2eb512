"""Repair: which entry was meant by a code that the channel has damaged.

The receiver holds the knowledge base, so the base is an error-correcting code. Three rules choose an entry:

    nearest    the decoded vectors of received code and entry are nearest (L2, for decoded vectors are not of unit norm)
    hamming    their codes differ in the fewest bits
    soft       the likelihood of the received LLRs is largest

For the soft rule byte m of a sender who means an entry with centroid c_k is taken to be b with probability

    P(b | k) = w(b) exp(-|c_b - c_k|^2 / tau^2) / Z(k)

as the picture sent need not be the one in the base; w is how often the base uses a centroid. The log-likelihood of an
entry, a sum of M table look-ups, is what stock faiss scans: an IndexPQ by inner product over 256 M dimensions, whose
centroids are unit vectors. Against it stands an unknown code, P(b) = w(b), as likely beforehand as all entries
together; whether an entry is believed is the ratio of the two, whatever rule has chosen it.

Short of choosing an entry, :func:`extrinsic` tells a channel decoder what bits the base expects.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import KnowledgeBaseError
from crlsc_phy.knowledge.air_code import AirCode, Codes, Vectors
from crlsc_phy.knowledge.base import Hit, Repair, Rule

__all__ = [
    "ASSUMED_BER",
    "THRESHOLD",
    "Finding",
    "Repairer",
    "code_or_llrs",
    "default_tau",
    "expected_vectors",
    "extrinsic",
]

THRESHOLD = 3.0
"""Log-likelihood ratio from which repair believes an entry: 20 times as likely as an unknown code."""
ASSUMED_BER = 0.02
"""Bit error rate of a code that comes without LLRs."""
# Entries beyond these have next to no share in the confidence.
_RIVALS = 32
# So many entries are weighed for extrinsic information: more bring no code back that these do not.
_WEIGHED = 256
# Chance beforehand that a code is none of the base.
_STRANGER = 0.1
_MOST_EXTRINSIC = 10.0
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32)
_MOST_LLR = 30.0
_FLOOR = 1e-30


class Finding:
    """What a rule finds for N received codes.

    Attributes:
        rows: int64 [N], the entries.
        ratios: float32 [N], log-likelihood ratio of the entry to an unknown code, less log of the number of entries.
        confidences: float32 [N], 0 to 1.
        distances: float32 [N], by the rule.
        received: uint8 [N, M], hard decisions.
    """

    __slots__ = ("confidences", "distances", "ratios", "received", "rows")

    def __init__(
        self,
        rows: npt.NDArray[np.int64],
        ratios: npt.NDArray[np.float32],
        confidences: npt.NDArray[np.float32],
        distances: npt.NDArray[np.float32],
        received: Codes,
    ) -> None:
        self.rows, self.ratios, self.confidences = rows, ratios, confidences
        self.distances, self.received = distances, received

    def answers(self, codes: Codes, hits: Sequence[Hit], threshold: float) -> list[Repair]:
        """In words.

        Args:
            codes: uint8 [N, M], of the entries found.
            hits: Likewise.
            threshold: Log-likelihood ratio from which they are believed.
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
    """A code uint8 [N, M] or LLRs float32 [N, 8 M] as they are, single ones as a batch of one.

    LLRs are log p(1)/p(0), of the most significant bit first.

    Raises:
        KnowledgeBaseError: If they are neither.
    """
    array: npt.NDArray[Any] = np.atleast_2d(np.asarray(values))
    if array.dtype == np.uint8 and array.ndim == 2 and array.shape[1] == size:
        return array
    if np.issubdtype(array.dtype, np.floating) and array.ndim == 2 and array.shape[1] == 8 * size:
        if np.isnan(array).any():
            raise KnowledgeBaseError("LLRs hold NaN")
        return array.astype(np.float32)
    raise KnowledgeBaseError(
        f"{array.dtype} {list(array.shape)} is no received code; give uint8 [N, {size}] or LLRs float32 [N, {8 * size}]"
    )


def default_tau(air_code: AirCode) -> float:
    """Of the soft rule before it is calibrated: half the root mean square distance of a centroid from its nearest."""
    squares = air_code.centroid_distances()
    squares[:, np.arange(256), np.arange(256)] = np.inf
    # By benchmarks/repair.py: of its values the one that does well with every code.
    return 0.5 * float(np.sqrt(squares.min(axis=2).mean()))


def usage_of(codes: Codes) -> npt.NDArray[np.float32]:
    """How often each centroid is used by codes, uint8 [N, M]: shares, float32 [M, 256], none of them 0."""
    counts = np.stack([np.bincount(column, minlength=256) for column in codes.T]) + 1.0
    shares: npt.NDArray[np.float32] = (counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


class Repairer:
    """Repairs codes with a set of entries.

    Args:
        air_code: The quantiser.
        codes: uint8 [N, M], the codes of the entries, N > 0.
        tau: Of the soft rule, in units of the vectors.
        usage: Shares of the centroids, float32 [M, 256], where the entries are only the likeliest of a larger base;
            by default what the codes tell.
        population: Entries of that base; N by default.
    """

    def __init__(
        self,
        air_code: AirCode,
        codes: Codes,
        tau: float,
        usage: npt.NDArray[np.float32] | None = None,
        population: int = 0,
    ) -> None:
        self._air_code, self._codes = air_code, np.ascontiguousarray(codes)
        self._population = population or len(codes)
        self._usage = usage_of(self._codes) if usage is None else usage
        meant = self._usage[:, :, None] * np.exp(-air_code.centroid_distances() / max(tau, 1e-6) ** 2)
        # [M, b, k]
        self._meant = (meant / np.maximum(meant.sum(axis=1, keepdims=True), _FLOOR)).astype(np.float32)

    @cached_property
    def _soft_index(self) -> Any:
        size = self._air_code.size
        index: Any = faiss.IndexPQ(256 * size, size, 8, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(np.tile(np.eye(256, dtype=np.float32), (size, 1, 1)).ravel(), index.pq.centroids)
        index.is_trained = True
        index.add_sa_codes(self._codes)
        return index

    @cached_property
    def _decoded_index(self) -> Any:
        size = self._air_code.size
        index: Any = faiss.IndexPQ(self._air_code.dim, size, 8, faiss.METRIC_L2)
        faiss.copy_array_to_vector(self._air_code.centroids.ravel(), index.pq.centroids)
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
            received: As :func:`code_or_llrs` returns it.
            rule: ``soft`` for LLRs and ``nearest`` for codes by default. ``soft`` takes a code's bits to be wrong at
                ``ASSUMED_BER``.

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
        tables, unknown = self._tables(llrs)
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
            raise KnowledgeBaseError(f"no rule {rule!r}; choose soft, nearest or hamming")
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
        """How likely each byte of a code is to have each value, by what the LLRs say of its *other* bytes.

        Args:
            llrs: float32 [8 M].

        Returns:
            Weights float64 [M, 256], and the logarithms of their scales, float64 [M].
        """
        size = self._air_code.size
        at = np.arange(size)
        tables, unknown = self._log_tables(_byte_likelihoods(llrs[None]))
        _, rows = self._soft_index.search(tables.reshape(1, -1), min(_WEIGHED, len(self._codes)))
        codes = self._codes[rows[0]]
        own = tables[0, at, codes]
        entries = own.sum(axis=1, keepdims=True) - own + np.log((1 - _STRANGER) / self._population)
        stranger = unknown[0].sum() - unknown[0] + np.log(_STRANGER)
        scales = np.maximum(entries.max(axis=0), stranger).astype(np.float64)
        meant = np.zeros((size, 256))
        np.add.at(meant, (at, codes), np.exp(entries - scales))
        weights = np.einsum("mbk,mk->mb", self._meant, meant)
        return weights + np.exp(stranger - scales)[:, None] * self._usage, scales

    def _tables(self, llrs: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Log-likelihoods of the entries' bytes, float32 [N, M, 256], and of an unknown code, float32 [N]."""
        tables, unknown = self._log_tables(_byte_likelihoods(llrs))
        return tables, unknown.sum(axis=1)

    def _log_tables(
        self, likelihood: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Log-likelihoods of the entries' bytes, float32 [N, M, 256], and of those of an unknown code, [N, M]."""
        tables = np.log(np.maximum(np.einsum("nmb,mbk->nmk", likelihood, self._meant, optimize=True), _FLOOR))
        unknown = np.log(np.maximum((likelihood * self._usage).sum(axis=2), _FLOOR))
        return tables.astype(np.float32), unknown.astype(np.float32)


def extrinsic(repairers: Sequence[Repairer], llrs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What knowledge bases add to what the LLRs of a code's bits say: the outer half of a turbo decoder.

    The code belongs to one of the bases, each as likely as the others. What an LLR says of its own bit is not in the
    answer for that bit, but it is in that for the seven others of its byte.

    Args:
        repairers: Of bases with one air code, at least one.
        llrs: log p(1)/p(0), extrinsic information of the channel decoder, float32 [8 M].

    Returns:
        Logarithms of ratios as ``llrs``, float32 [8 M].

    Source: J. Hagenauer, "Source-controlled channel decoding", IEEE Trans. Commun. 43(9), 1995.
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
    """What received codes decode to on average, float32 [N, D]; ``received`` is as :func:`code_or_llrs` returns it."""
    if received.dtype == np.uint8:
        return air_code.decode(received)
    return air_code.expectation(_byte_likelihoods(received))


def _byte_likelihoods(llrs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """p(b | LLRs) of each byte, float32 [N, M, 256], of LLRs float32 [N, 8 M]."""
    bits = np.clip(llrs, -_MOST_LLR, _MOST_LLR).reshape(len(llrs), -1, 8)
    # log p(b | LLR) = sum of b_i LLR_i - log(1 + exp LLR_i)
    likelihood: npt.NDArray[np.float32] = np.exp(bits @ _BITS.T - np.logaddexp(0, bits).sum(axis=2, keepdims=True))
    return likelihood
