"""Statistics of the channels against stock Sionna and theory, at the beginning and after 1,000 s.

    python benchmarks/channel_statistics.py [--out benchmarks/results/channel_statistics.json]

Each row is one value of many realisations, with the interval that holds 99 % of such values if the expectation is
right. So of N values about N / 100 must lie outside; the result says how many do, and how likely as many or more are.
Those of one model share their realisations, so that they do not lie outside independently of each other.
"""

from __future__ import annotations

from typing import Any

import bench
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import j0

from crlsc_phy.channel import MODELS, StreamChannel
from crlsc_phy.channel.paths import LIGHT_SPEED

LEVEL = 0.99
STARTS = (0.0, 1000.0)
DOPPLER, RATE, CARRIER = 100.0, 1e6, 3.5e9
LAGS = np.arange(1, 20) * 1e-3
RICE_DB = 5.0
WIDE = float(stats.norm.isf((1 - LEVEL) / 2))

Values = NDArray[Any]
Row = dict[str, Any]


class Ensemble:
    """Realisations of a model, one per seed."""

    def __init__(self, model: str, count: int) -> None:
        self.model = model
        self.channels = [
            StreamChannel(model, seed=seed, doppler_hz=DOPPLER, rice_k_db=RICE_DB) for seed in range(count)
        ]
        self.delays = self.channels[0].gains_at([0])[1]

    def gains(self, start_s: float, offsets_s: ArrayLike = (0.0,)) -> Values:
        """Return the gains complex128 [realisation, time, path] of a model whose number of paths is fixed."""
        return np.array(self.each_gains(start_s, offsets_s))

    def each_gains(self, start_s: float, offsets_s: ArrayLike = (0.0,)) -> list[Values]:
        """Return the gains complex128 [time, path] of each realisation."""
        places = (start_s + np.asarray(offsets_s)) * RATE
        return [channel.gains_at(places)[0][:, 0, 0] for channel in self.channels]


def row(what: tuple[str, str, Any], measured: float, expected: float, deviation: float) -> Row:
    """Return the row of a value that is normally distributed around ``expected`` with ``deviation``."""
    model, statistic, at = what
    return {
        "model": model, "statistic": statistic, "at": at, "measured": round(float(measured), 6),
        "expected": round(float(expected), 6), "low": round(float(expected - WIDE * deviation), 6),
        "high": round(float(expected + WIDE * deviation), 6),
        "p": round(float(2 * stats.norm.sf(abs(measured - expected) / deviation)), 6),
    }  # fmt: skip


def distance(what: tuple[str, str, Any], found: Any, count: float) -> Row:
    """Return the row of a largest difference between two distribution functions: 0 is expected, one-sided."""
    model, statistic, at = what
    return {
        "model": model, "statistic": statistic, "at": at, "measured": round(float(found.statistic), 6),
        "expected": 0.0, "low": 0.0, "high": round(float(stats.kstwo.ppf(LEVEL, round(count))), 6),
        "p": round(float(found.pvalue), 6),
    }  # fmt: skip


def mean_and_error(values: Values) -> tuple[Values, Values]:
    """Return means over realisations, and the standard deviations of these means."""
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


def power(made: Ensemble, start_s: float) -> list[Row]:
    """Compare the mean power of all paths with 1."""
    mean, error = mean_and_error(np.array([np.sum(np.abs(gains) ** 2) for gains in made.each_gains(start_s)]))
    return [row((made.model, "power, theory", ""), float(mean), 1.0, float(error))]


def stock_profile(model: str) -> tuple[Values, Values, Values]:
    """Return delays, mean powers and their standard errors of stock Sionna's paths; for TDL those of its table."""
    from sionna.phy.channel import tr38901

    kind, _, name = model.partition("-")
    if kind == "tdl":
        tdl = tr38901.TDL(name.upper(), 100e-9 if len(name) == 1 else None, CARRIER)
        powers = tdl.mean_powers.numpy()
        return tdl.delays.numpy(), powers, np.zeros(len(powers))
    one = tr38901.AntennaArray(1, 1, "single", "V", "omni", CARRIER)
    cdl = tr38901.CDL(name.upper(), 100e-9, CARRIER, one, one, "downlink")
    gains, delays = cdl(1000, 1, 1e3)
    return delays.numpy()[0, 0, 0], *mean_and_error(np.abs(gains.numpy()[:, 0, 0, 0, 0, :, 0]) ** 2)


def delay_profile(made: Ensemble, start_s: float) -> list[Row]:
    """Compare the mean power of each path with that of stock Sionna at the same delay."""
    delays, powers, errors = stock_profile(made.model)
    near = np.abs(made.delays[:, None] - delays).argmin(axis=0)
    apart = np.abs(made.delays[near] - delays).max()
    if apart > 1e-12 or len(np.unique(near)) < len(made.delays):
        raise ValueError(f"{made.model}: delays are not those of Sionna, up to {apart:.3g} s apart")
    expected, variance = np.zeros((2, len(made.delays)))
    np.add.at(expected, near, powers)
    np.add.at(variance, near, errors**2)
    mean, error = mean_and_error(np.abs(made.gains(start_s)[:, 0]) ** 2)
    return [
        row((made.model, "power of a path, Sionna", f"{1e9 * at:.1f} ns"), *values)
        for at, *values in zip(made.delays, mean, expected, np.hypot(error, np.sqrt(variance)), strict=True)
    ]


def autocorrelation(made: Ensemble, start_s: float) -> list[Row]:
    """Compare the autocorrelation of the first path over 1 to 19 ms with Clarke's Bessel function (real part)."""
    gains = made.gains(start_s, np.r_[0.0, LAGS])[:, :, 0]
    gains /= np.sqrt(np.mean(np.abs(gains) ** 2))
    mean, error = mean_and_error((gains[:, :1].conj() * gains[:, 1:]).real)
    return [
        row((made.model, "autocorrelation, theory", f"{1e3 * lag:.0f} ms"), *values)
        for lag, *values in zip(LAGS, mean, j0(2 * np.pi * DOPPLER * LAGS), error, strict=True)
    ]


def distribution(made: Ensemble, start_s: float) -> list[Row]:
    """Compare the distribution of the only path's amplitude with Rayleigh or Rice."""
    scale, direct = np.sqrt(0.5), 0.0
    if made.model.startswith("rician"):
        ratio = 10 ** (RICE_DB / 10)
        scale, direct = np.sqrt(0.5 / (1 + ratio)), np.sqrt(ratio / (1 + ratio))
    found = stats.kstest(np.abs(made.gains(start_s)[:, 0, 0]), stats.rice(direct / scale, scale=scale).cdf)
    return [distance((made.model, "amplitude, theory", ""), found, len(made.channels))]


def tdl_distribution(made: Ensemble, start_s: float) -> list[Row]:
    """Compare the amplitudes of four paths with draws of stock Sionna."""
    from sionna.phy.channel import tr38901

    count = len(made.channels)
    name = made.model.removeprefix("tdl-").upper()
    stock = tr38901.TDL(name, 100e-9, CARRIER, min_speed=DOPPLER * LIGHT_SPEED / CARRIER)
    # In the order of their delays, which Sionna's tables are not always in.
    order = np.argsort(stock.delays.numpy(), kind="stable")
    theirs = np.abs(stock(count, 1, 1e3)[0][:, 0, 0, 0, 0, :, 0].numpy()[:, order])
    ours = np.abs(made.gains(start_s)[:, 0])
    return [
        distance(
            (made.model, "amplitude of a path, Sionna", f"{1e9 * made.delays[path]:.1f} ns"),
            stats.ks_2samp(ours[:, path], theirs[:, path]),
            count / 2,
        )
        for path in (0, 1, 2, 10)
    ]


def crossings(made: Ensemble, start_s: float) -> list[Row]:
    """Count upward crossings of rho times the RMS; sqrt(2 pi) f rho exp(-rho^2) a second are expected (Rice, 1945)."""
    seconds, found = 2.0, []
    amplitudes = np.abs(made.gains(start_s, np.arange(0, seconds, 2e-4))[:, :, 0])
    for rho in (0.5, 1.0):
        high = amplitudes > rho
        mean, error = mean_and_error(np.sum(high[:, 1:] & ~high[:, :-1], axis=1) / seconds)
        expected = np.sqrt(2 * np.pi) * DOPPLER * rho * np.exp(-(rho**2))
        found.append(row((made.model, "level crossings, theory", f"{rho:g} rms"), float(mean), expected, float(error)))
    return found


FLAT = ("rayleigh", "rician", "rayleigh-block", "rician-block")
PROFILES = tuple(name for name in MODELS if name[:4] in ("tdl-", "cdl-"))
CASES = (
    *((power, model, 400) for model in (*FLAT, *PROFILES)),
    *((power, model, 200) for model in ("umi", "uma", "rma")),
    *((delay_profile, model, 400) for model in PROFILES),
    (autocorrelation, "rayleigh", 600),
    (autocorrelation, "tdl-a", 600),
    *((distribution, model, 1500) for model in FLAT),
    (tdl_distribution, "tdl-a", 1000),
    (crossings, "rayleigh", 100),
)


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__)
    options = benchmark.parse()

    from sionna.phy import config

    config.seed = options.seed
    rows = []
    for measure, model, count in benchmark.few(CASES, 4):
        # The models that scatter most have the fewest realisations: a tenth still shows that everything works.
        made = Ensemble(model, count // 10 if options.quick else count)
        for start_s in STARTS:
            rows += [each | {"start_s": start_s, "inside": each["p"] >= 1 - LEVEL} for each in measure(made, start_s)]
    outside = [each for each in rows if not each["inside"]]
    for each in outside:
        print({name: each[name] for name in ("model", "statistic", "at", "start_s", "measured", "low", "high", "p")})
    summary = {
        "values": len(rows),
        "inside": len(rows) - len(outside),
        "expected_inside": round(LEVEL * len(rows), 1),
        "chance_of_as_many_outside": round(float(stats.binom.sf(len(outside) - 1, len(rows), 1 - LEVEL)), 3),
        "smallest_p": min(each["p"] for each in rows),
        "bonferroni_p": round((1 - LEVEL) / len(rows), 7),
    }
    print(summary)
    benchmark.write({"level": LEVEL, **summary, "rows": rows})


if __name__ == "__main__":
    main()
