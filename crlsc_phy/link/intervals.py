"""How sure a rate or a mean is."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

__all__ = ["bootstrap", "wilson"]

Z_95 = float(ndtri(0.975))


def wilson(events: int, trials: int) -> tuple[float, float]:
    """95 % interval of a rate.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22 (1927). Without trials it is 0 to 1.
    """
    if not trials:
        return 0.0, 1.0
    z = Z_95
    centre = (events + z * z / 2) / (trials + z * z)
    half = z / (trials + z * z) * np.sqrt(events * (trials - events) / trials + z * z / 4)
    return float(max(centre - half, 0.0)), float(min(centre + half, 1.0))


def bootstrap(values: ArrayLike, groups: ArrayLike | None = None, draws: int = 2000) -> tuple[float, float]:
    """Percentile bootstrap 95 % interval of a mean; the draws are the same in every call.

    Args:
        values: float [N].
        groups: To which group each belongs, [N] of anything that can be compared: values of one group, such as
            replicas of one picture, are no independent samples and are drawn together. None if each is its own.
        draws: How many times.

    Returns:
        Low and high; NaN if there are no values.
    """
    values = np.asarray(values, np.float64)
    if not len(values):
        return float("nan"), float("nan")
    names = np.arange(len(values)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    sums, sizes = np.bincount(names, values), np.bincount(names)
    rows = np.random.default_rng(0).integers(len(sums), size=(draws, len(sums)))
    low, high = np.percentile(sums[rows].sum(axis=1) / sizes[rows].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)
