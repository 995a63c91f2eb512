"""How sure a rate or a mean is."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

__all__ = ["bootstrap", "difference_interval", "mean_interval", "rate_interval", "wilson"]

Z_95 = float(ndtri(0.975))


def wilson(events: float, trials: float) -> tuple[float, float]:
    """95 % interval of a rate.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22 (1927). Without trials it is 0 to 1.
    """
    if not trials:
        return 0.0, 1.0
    z = Z_95
    centre = (events + z * z / 2) / (trials + z * z)
    half = z / (trials + z * z) * np.sqrt(events * (trials - events) / trials + z * z / 4)
    # Where all or no trials are events the interval ends there, but for rounding.
    low, high = centre - half if events else 0.0, centre + half if events < trials else 1.0
    return float(max(low, 0.0)), float(min(high, 1.0))


def rate_interval(events: ArrayLike, trials: ArrayLike) -> tuple[float, float]:
    """95 % interval of the rate of events that come in groups.

    Bit errors of one burst or hits of one picture are not independent. This is Wilson's interval with the trials
    divided by the design effect of L. Kish, "Survey Sampling" (1965): how much more the rate varies between groups than
    that of independent trials would.

    Args:
        events: int [G], of each group.
        trials: int [G].

    Returns:
        Low and high. Wilson's on the bare counts where there is only one group, or no spread between them.
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
    """95 % interval of the difference ``one - other`` of two independent figures that have intervals of their own.

    G. Y. Zou and A. Donner, "Construction of confidence limits about effect measures", Statistics in Medicine 27
    (2008); of two rates with Wilson's intervals it is method 10 of R. G. Newcombe, the same journal 17 (1998).

    Args:
        one: Value, low and high.
        other: The same.

    Returns:
        Low and high; NaN if an interval is.
    """
    (a, a_low, a_high), (b, b_low, b_high) = one, other
    below, above = np.hypot(a - a_low, b_high - b), np.hypot(a_high - a, b - b_low)
    return float(a - b - below), float(a - b + above)


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


def mean_interval(values: ArrayLike, groups: int = 1) -> list[float]:
    """Mean with its bootstrap 95 % interval, ``[mean, low, high]`` to four digits.

    Args:
        values: float [N], one at least.
        groups: How many in a row belong together, such as the crops of one photograph.
    """
    values = np.asarray(values, np.float64)
    return [round(float(value), 4) for value in (values.mean(), *bootstrap(values, np.arange(len(values)) // groups))]
