"""Confidence intervals of rates, means and differences."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["bootstrap", "difference_interval", "mean_interval", "rate_interval", "wilson"]

Z_95 = 1.959963984540054
"""The quantile of the normal distribution at 0.975; scipy.special.ndtri would cost a command a third of a second."""


def wilson(events: float, trials: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a rate, low and high; 0 to 1 without trials.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22 (1927).
    """
    if not trials:
        return 0.0, 1.0
    z = Z_95
    centre = (events + z * z / 2) / (trials + z * z)
    half = z / (trials + z * z) * np.sqrt(events * (trials - events) / trials + z * z / 4)
    # If all trials are events, or none, the interval ends at 1 or 0, apart from rounding.
    low, high = centre - half if events else 0.0, centre + half if events < trials else 1.0
    return float(max(low, 0.0)), float(min(high, 1.0))


def rate_interval(events: ArrayLike, trials: ArrayLike) -> tuple[float, float]:
    """Return the 95 % interval of the rate of events that come in groups.

    Bit errors of one burst, or hits of one picture, are not independent. This is Wilson's interval with the trials
    divided by the design effect: the ratio of the rate's variance between groups to that of independent trials (L.
    Kish, "Survey Sampling", 1965).

    Args:
        events: Number of events in each group, int [G].
        trials: Number of trials in each group, int [G].

    Returns:
        Low and high. With one group, or without spread between groups, this is Wilson's interval of the counts.
    """
    events, trials = np.asarray(events, np.float64), np.asarray(trials, np.float64)
    happened, tried, groups = float(events.sum()), float(trials.sum()), int(np.count_nonzero(trials))
    effect = 1.0
    if groups > 1 and 0 < happened < tried:
        rate = happened / tried
        between = groups / (groups - 1) * float(((events - rate * trials) ** 2).sum()) / tried**2
        effect = max(between * (tried - 1) / (rate * (1 - rate)), 1.0)
    return wilson(happened / effect, tried / effect)


def difference_interval(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float]:
    """Return the 95 % interval of the difference ``one - other`` of two independent estimates.

    G. Y. Zou and A. Donner, "Construction of confidence limits about effect measures", Statistics in Medicine 27
    (2008). For two rates with Wilson's intervals this is method 10 of R. G. Newcombe, Statistics in Medicine 17 (1998).

    Args:
        one: Value, low and high of the first estimate.
        other: Value, low and high of the second estimate.

    Returns:
        Low and high; NaN if an end of either interval is NaN.
    """
    (a, a_low, a_high), (b, b_low, b_high) = one, other
    below, above = np.hypot(a - a_low, b_high - b), np.hypot(a_high - a, b - b_low)
    return float(a - b - below), float(a - b + above)


def bootstrap(values: ArrayLike, groups: ArrayLike | None = None, draws: int = 2000) -> tuple[float, float]:
    """Return the 95 % interval of a mean by the percentile bootstrap; every call draws the same samples.

    Args:
        values: Values, float [N].
        groups: Group of each value, [N] of any type that can be sorted. Values of one group, such as replicas of one
            picture, are not independent and are drawn together. None if each value is a group of its own.
        draws: Number of bootstrap samples.

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


def mean_interval(values: ArrayLike, groups: int = 1) -> list[float]:
    """Return a mean and its 95 % interval by the bootstrap, ``[mean, low, high]`` to four decimals.

    Args:
        values: Values, float [N], at least one.
        groups: Number of values in a row that belong together, such as the crops of one photograph.
    """
    values = np.asarray(values, np.float64)
    return [round(float(value), 4) for value in (values.mean(), *bootstrap(values, np.arange(len(values)) // groups))]
