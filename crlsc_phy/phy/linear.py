"""Inverse and determinant of small Hermitian matrices.

LAPACK would do, but it starts threads for matrices of 20 rows, and where cores are busy, as in a flowgraph, waiting for
these takes a hundred times as long as the work.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.machine import compiled

__all__ = ["invert"]


@compiled(nogil=True, fastmath={"nnan", "ninf", "nsz", "contract", "reassoc"})
def invert(matrix: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """Invert by Cholesky's decomposition.

    Args:
        matrix: Hermitian and positive definite, complex128 or float64 [n, n].

    Returns:
        The inverse, of the same type and shape, and the logarithm of the determinant of ``matrix``.
    """
    n = len(matrix)
    lower = np.zeros((n, n), matrix.dtype)
    logarithm = 0.0
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= lower[i, k] * np.conj(lower[j, k])
            if i == j:
                pivot = np.sqrt(max(total.real, 1e-300))
                logarithm += 2 * np.log(pivot)
                lower[i, i] = pivot
            else:
                lower[i, j] = total / lower[j, j].real
    # Rows of the inverse of the factor, by forward substitution on the identity.
    factor = np.zeros((n, n), matrix.dtype)
    for i in range(n):
        scale = 1 / lower[i, i].real
        for k in range(i):
            weight = lower[i, k]
            for j in range(k + 1):
                factor[i, j] -= weight * factor[k, j]
        for j in range(i):
            factor[i, j] *= scale
        factor[i, i] = scale
    inverse = np.zeros((n, n), matrix.dtype)
    for k in range(n):
        for i in range(k + 1):
            weight = np.conj(factor[k, i])
            for j in range(k + 1):
                inverse[i, j] += weight * factor[k, j]
    return inverse, logarithm
