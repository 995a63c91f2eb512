import math

import numpy as np
import pytest

from crlsc_phy.quality.intervals import bootstrap, difference_interval, mean_interval, rate_interval, wilson


@pytest.mark.parametrize(("events", "trials"), [(0, 10), (10, 10), (3, 40), (1, 1)])
def test_wilson_agrees_with_scipy(events, trials):
    from scipy.stats import binomtest

    exact = binomtest(events, trials).proportion_ci(method="wilson")
    assert wilson(events, trials) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_an_interval_ends_where_rates_do():
    assert wilson(0, 50)[0] == 0.0
    assert wilson(50, 50)[1] == 1.0


def coverage(draw, truth: float, times: int = 400) -> float:
    inside = 0
    for seed in range(times):
        low, high = draw(np.random.default_rng(seed))
        inside += low <= truth <= high
    return inside / times


def test_errors_in_bursts_are_covered_where_wilson_alone_is_too_sure():
    """Forty bursts of 500 bits; in a tenth of them 30 % of the bits are wrong."""

    def errors(generator):
        bad = generator.random(40) < 0.1
        return generator.binomial(500, np.where(bad, 0.3, 0.0))

    grouped = coverage(lambda g: rate_interval(errors(g), np.full(40, 500)), 0.03)
    plain = coverage(lambda g: wilson(int(errors(g).sum()), 40 * 500), 0.03)
    assert grouped > 0.88
    assert plain < 0.4


def test_independent_trials_keep_wilsons_interval():
    generator = np.random.default_rng(0)
    hits = generator.binomial(100, 0.2, size=200)
    low, high = rate_interval(hits, np.full(200, 100))
    plain = wilson(int(hits.sum()), 200 * 100)
    assert (high - low) / (plain[1] - plain[0]) == pytest.approx(1, abs=0.1)


def test_difference_of_rates_agrees_with_newcombe():
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table II, (a) 56/70 - 48/80, method 10: 0.0524 to 0.3339.
    one, other = (56 / 70, *wilson(56, 70)), (48 / 80, *wilson(48, 80))
    assert difference_interval(one, other) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_difference_without_an_interval_has_none():
    assert all(math.isnan(end) for end in difference_interval((1.0, math.nan, math.nan), (0.5, 0.4, 0.6)))


def test_bootstrap_draws_groups_together():
    generator = np.random.default_rng(3)
    means = generator.normal(size=20)
    values = np.repeat(means, 50) + 0.01 * generator.normal(size=1000)
    groups = np.repeat(np.arange(20), 50)
    low, high = bootstrap(values, groups)
    assert high - low == pytest.approx(2 * 1.96 * means.std() / math.sqrt(20), rel=0.2)
    low, high = bootstrap(values)
    assert high - low < 0.3


def test_crops_of_one_photograph_are_one_sample_of_a_mean():
    values = np.repeat(np.random.default_rng(3).normal(size=30), 8)
    mean, low, high = mean_interval(values, groups=8)
    assert [mean, low, high] == [round(value, 4) for value in (values.mean(), *bootstrap(values[::8]))]
    assert high - low > 2 * (mean_interval(values)[2] - mean_interval(values)[1])
    assert mean_interval([0.25]) == [0.25, 0.25, 0.25]
