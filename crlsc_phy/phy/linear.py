"""Inverse and determinant of small Hermitian matrices.

LAPACK starts threads for matrices of 20 rows already. Where cores are busy, as in a flowgraph, waiting for the threads
takes a hundred times as long as the work.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.machine import compiled

__all__ = ["invert", "invert_parts"]


def invert(matrix: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """Invert by Cholesky's decomposition.

    Args:
        matrix: Hermitian and positive definite, complex128 or float64 [n, n].

    Returns:
        The inverse, of the same type and shape, and the logarithm of the determinant of ``matrix``.
    """
    real, imag = np.array(matrix.real, order="C"), np.array(matrix.imag, order="C")
    real, imag, logarithm = invert_parts(real, imag)
    return real + 1j * imag if np.iscomplexobj(matrix) else real, logarithm


@compiled(nogil=True, fastmath={"nnan", "ninf", "nsz", "contract", "reassoc"})
def invert_parts(
    real: NDArray[np.float64], imag: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Invert a Hermitian matrix whose parts are arrays of their own: only these loops are vectorised.

    Args:
        real: Real part, float64 [n, n].
        imag: Imaginary part, likewise.

    Returns:
        Real and imaginary part of the inverse, and the logarithm of the determinant.
    """
    n = len(real)
    lower_re, lower_im = np.zeros((n, n)), np.zeros((n, n))
    logarithm = 0.0
    for i in range(n):
        for j in range(i + 1):
            total_re, total_im = 0.0, 0.0
            for k in range(j):
                total_re += lower_re[i, k] * lower_re[j, k] + lower_im[i, k] * lower_im[j, k]
                total_im += lower_im[i, k] * lower_re[j, k] - lower_re[i, k] * lower_im[j, k]
            total_re, total_im = real[i, j] - total_re, imag[i, j] - total_im
            if i == j:
                pivot = np.sqrt(max(total_re, 1e-300))
                logarithm += 2 * np.log(pivot)
                lower_re[i, i] = pivot
            else:
                lower_re[i, j] = total_re / lower_re[j, j]
                lower_im[i, j] = total_im / lower_re[j, j]
    # Rows of the inverse of the factor, by forward substitution on the identity.
    factor_re, factor_im = np.zeros((n, n)), np.zeros((n, n))
    for i in range(n):
        scale = 1 / lower_re[i, i]
        for k in range(i):
            weight_re, weight_im = scale * lower_re[i, k], scale * lower_im[i, k]
            for j in range(k + 1):
                factor_re[i, j] -= weight_re * factor_re[k, j] - weight_im * factor_im[k, j]
                factor_im[i, j] -= weight_re * factor_im[k, j] + weight_im * factor_re[k, j]
        factor_re[i, i] = scale
    inverse_re, inverse_im = np.zeros((n, n)), np.zeros((n, n))
    for i in range(n):
        for k in range(i, n):
            weight_re, weight_im = factor_re[k, i], -factor_im[k, i]
            for j in range(i + 1):
                inverse_re[i, j] += weight_re * factor_re[k, j] - weight_im * factor_im[k, j]
                inverse_im[i, j] += weight_re * factor_im[k, j] + weight_im * factor_re[k, j]
        for j in range(i):
            inverse_re[j, i], inverse_im[j, i] = inverse_re[i, j], -inverse_im[i, j]
    return inverse_re, inverse_im, logarithm
