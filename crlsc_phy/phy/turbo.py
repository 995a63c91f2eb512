"""Turbo decoding of the semantic layer: the LDPC decoder and a second one that knows air codes, in turns.

coded LLRs --> LDPC decoder --> extrinsic LLRs of the air code's bits --> outer decoder
                    ^-------------- its extrinsic LLRs, as a prior -----------'

Each decoder is told only what it does not know already (extrinsic information). The CRC tells when the code is found.

Source: J. Hagenauer, E. Offer, L. Papke, "Iterative decoding of binary block and convolutional codes", IEEE Trans.
Inf. Theory 42(2), 1996.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crlsc_phy.errors import FrameError, ModemError
from crlsc_phy.frame import FrameHeader
from crlsc_phy.phy.blocks import signalling_code
from crlsc_phy.phy.layout import SEMANTIC_CRC_BYTES, unpack_semantic

__all__ = ["Outer", "turbo_decode"]

Outer = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Outer decoder: LLRs of an air code's bits to extrinsic LLRs of them, log p(1)/p(0), float32 [8 M] both."""

_ROUNDS = 20
_ITERATIONS = 20


def turbo_decode(coded_llr: ArrayLike, header: FrameHeader, outer: Outer) -> bytes | None:
    """Return the air code of a burst whose semantic layer was lost, or None if it stays lost.

    Args:
        coded_llr: LLRs of the semantic layer's coded bits, log p(1)/p(0), float32 [40 (M + 2)] for an air code of M
            bytes; see ``Burst.semantic_coded_llr``.
        header: Header of the burst, from which the air code's CRC starts.
        outer: Outer decoder, such as :func:`crlsc_phy.knowledge.joint.joint_extrinsic` of knowledge bases.

    Raises:
        ModemError: If there are more or fewer LLRs, or one is not finite.
    """
    size, check = header.semantic_bytes, header.check
    code = signalling_code(size + SEMANTIC_CRC_BYTES)
    llr = np.atleast_2d(np.asarray(coded_llr, np.float32))
    if llr.shape != (1, code.n) or not np.isfinite(llr).all():
        raise ModemError(f"an air code of {size} bytes needs {code.n} finite LLRs; these are {np.shape(coded_llr)}")
    prior = np.zeros((1, code.k), np.float32)
    bits = slice(0, 8 * size)
    for _ in range(_ROUNDS):
        posterior, _, _ = code.decode(llr, _ITERATIONS, prior)
        try:
            return unpack_semantic(np.packbits(posterior[0] > 0).tobytes(), check)
        except FrameError:
            prior[0, bits] = outer(posterior[0, bits] - prior[0, bits])
    return None
