"""Metrics of image quality and of bandwidth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d

from crlsc_phy.errors import ImageError
from crlsc_phy.images import UInt8Image, check_image

__all__ = ["cbr", "ms_ssim", "psnr_db", "ssim"]

# Wang, Simoncelli and Bovik 2003, section 3.2: beta_j = gamma_j, the finest scale first.
SCALE_WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])
WINDOW = 11
SIGMA = 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

_Plane = npt.NDArray[np.float64]

_OFFSETS = np.arange(WINDOW) - WINDOW // 2
_KERNEL = np.exp(-(_OFFSETS**2) / (2 * SIGMA**2))
_KERNEL /= _KERNEL.sum()


def psnr_db(a: UInt8Image, b: UInt8Image) -> float:
    """Return the peak signal-to-noise ratio of two images, uint8 [H, W, 3], in dB; infinite if they are equal.

    Raises:
        ImageError: If the images are not uint8 [H, W, 3], or differ in size.
    """
    _check_pair(a, b)
    mse = np.mean((a.astype(np.float64) - b) ** 2)
    return float(10 * np.log10(255**2 / mse)) if mse else float("inf")


def ssim(a: UInt8Image, b: UInt8Image) -> float:
    """Return the structural similarity of two images, uint8 [H, W, 3], from -1 to 1.

    Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli, "Image quality assessment: from error visibility to
    structural similarity", IEEE Transactions on Image Processing 13 (2004), with the window and constants of
    :func:`ms_ssim`: the mean over the places where the window fits and over the colours R, G and B.

    Raises:
        ImageError: If the images are not uint8 [H, W, 3], differ in size, or have a side below 11 pixels.
    """
    _check_pair(a, b)
    _smallest_side(a)
    luminance, structure = _ssim_parts(a.astype(np.float64), b.astype(np.float64))
    return float(np.mean(luminance * structure))


def ms_ssim(a: UInt8Image, b: UInt8Image) -> float:
    """Return the multi-scale structural similarity of two images, uint8 [H, W, 3], from 0 to 1.

    Z. Wang, E. P. Simoncelli and A. C. Bovik, "Multi-scale structural similarity for image quality assessment",
    Asilomar 2003: Gaussian window of 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03, mean over pixels and over the colours
    R, G and B. The paper's five scales need sides of 176 pixels, so that the window fits the coarsest scale. Smaller
    images get fewer scales, with weights scaled up to a sum of 1: four from 88 pixels, three from 44, two from 22.
    Values from different numbers of scales are not comparable.

    Raises:
        ImageError: If the images are not uint8 [H, W, 3], differ in size, or have a side below 11 pixels.
    """
    _check_pair(a, b)
    scales = min(len(SCALE_WEIGHTS), int(np.log2(_smallest_side(a) / WINDOW)) + 1)
    weights = SCALE_WEIGHTS[:scales] / SCALE_WEIGHTS[:scales].sum()
    x, y = a.astype(np.float64), b.astype(np.float64)
    value = 1.0
    for scale, weight in enumerate(weights):
        if scale:
            x, y = _halve(x), _halve(y)
        luminance, structure = _ssim_parts(x, y)
        term = np.mean(luminance * structure if scale == scales - 1 else structure)
        value *= max(float(term), 0.0) ** weight
    return value


def cbr(samples: float, height: int, width: int) -> float:
    """Return the channel bandwidth ratio: complex channel uses per source value, N / (3 H W).

    Args:
        samples: Complex samples of the whole burst: preamble, signalling, pilots, cyclic prefixes and guard included.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
    """
    return samples / (3 * height * width)


def _check_pair(a: UInt8Image, b: UInt8Image) -> None:
    check_image(a)
    check_image(b)
    if a.shape != b.shape:
        raise ImageError(f"images differ in size: {a.shape[1]}x{a.shape[0]} and {b.shape[1]}x{b.shape[0]} pixels")


def _smallest_side(image: UInt8Image) -> int:
    smallest = min(image.shape[:2])
    if smallest < WINDOW:
        raise ImageError(f"image is {image.shape[1]}x{image.shape[0]} pixels; SSIM needs sides of {WINDOW} or more")
    return smallest


def _ssim_parts(x: _Plane, y: _Plane) -> tuple[_Plane, _Plane]:
    """Return luminance, and contrast times structure, at every place where the window fits."""
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return luminance, (2 * covariance + C2) / (var_x + var_y + C2)


def _blur(x: _Plane) -> _Plane:
    edge = WINDOW // 2
    blurred = correlate1d(correlate1d(x, _KERNEL, axis=0), _KERNEL, axis=1)
    return np.asarray(blurred[edge:-edge, edge:-edge])


def _halve(x: _Plane) -> _Plane:
    height, width = x.shape[0] // 2 * 2, x.shape[1] // 2 * 2
    return np.asarray(x[:height, :width].reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3)))
