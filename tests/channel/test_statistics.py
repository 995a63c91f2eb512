"""What the models are on average, against Sionna and theory, at the beginning and after 1,000 s.

The bounds are those of a test at 99 %: with fixed seeds it passes always or never.
"""

import numpy as np
import pytest
from scipy import stats
from scipy.special import j0

from crlsc_phy.channel import StreamChannel
from crlsc_phy.channel.paths import LIGHT_SPEED
from crlsc_phy.channel.settings import ChannelSettings

tr38901 = pytest.importorskip("sionna.phy.channel.tr38901")

DOPPLER = 100.0
RATE = 1e6
START = pytest.mark.parametrize("start_s", [0.0, 1000.0])


def channels(model, count, **options):
    options.setdefault("doppler_hz", DOPPLER)
    return [StreamChannel(model, seed=seed, **options) for seed in range(count)]


def gains_of(channel, start_s, offsets=(0.0,)):
    return channel.gains_at(start_s * RATE + np.asarray(offsets) * RATE)[0][:, 0, 0]


@START
@pytest.mark.parametrize("model", ["tdl-a", "tdl-d", "tdl-c300"])
def test_the_delay_profile_is_that_of_sionna(model, start_s):
    profile = model.removeprefix("tdl-").upper()
    stock = tr38901.TDL(profile, 100e-9 if len(profile) == 1 else None, 3.5e9)
    made = channels(model, 400)
    _, delays = made[0].gains_at([0])
    stock_delays = stock.delays.numpy()
    order = np.argsort(stock_delays, kind="stable")
    assert np.allclose(delays, np.unique(np.round(stock_delays[order], 15)), rtol=1e-5, atol=1e-13)
    power = np.array([np.abs(gains_of(channel, start_s)[0]) ** 2 for channel in made])
    expected = np.zeros(len(delays))
    np.add.at(expected, np.abs(delays[:, None] - stock_delays).argmin(axis=0), stock.mean_powers.numpy())
    error = (power.mean(axis=0) - expected) / (power.std(axis=0, ddof=1) / 20)
    # All paths at once: Bonferroni.
    assert np.abs(error).max() < stats.norm.isf(0.005 / len(delays))


@START
def test_the_autocorrelation_is_clarkes(start_s):
    lags = np.arange(0, 20e-3, 1e-3)
    made = channels("rayleigh", 600)
    products = np.array([gains[:1].conj() * gains for gains in (gains_of(c, start_s, lags)[:, 0] for c in made)])
    error = (products.mean(axis=0).real - j0(2 * np.pi * DOPPLER * lags)) / (products.real.std(axis=0) / np.sqrt(600))
    assert np.abs(error).max() < stats.norm.isf(0.005 / len(lags))


@START
@pytest.mark.parametrize("model", ["rayleigh", "rician", "rayleigh-block", "rician-block"])
def test_amplitudes_are_rayleigh_or_rice(model, start_s):
    ratio = 10 ** (5 / 10)
    made = channels(model, 1500, rice_k_db=5.0)
    amplitudes = np.abs([gains_of(channel, start_s)[0, 0] for channel in made])
    law = stats.rayleigh(scale=np.sqrt(0.5))
    if model.startswith("rician"):
        scale = np.sqrt(0.5 / (1 + ratio))
        law = stats.rice(np.sqrt(ratio / (1 + ratio)) / scale, scale=scale)
    assert stats.kstest(amplitudes, law.cdf).pvalue > 0.01


@START
def test_levels_are_crossed_as_often_as_theory_says(start_s):
    """Upward crossings of half the root mean square: sqrt(2 pi) f rho exp(-rho^2) a second."""
    seconds, rho = 2.0, 0.5
    times = np.arange(0, seconds, 2e-4)
    counts = []
    for channel in channels("rayleigh", 100):
        high = np.abs(gains_of(channel, start_s, times)[:, 0]) > rho
        counts.append(np.sum(high[1:] & ~high[:-1]) / seconds)
    expected = np.sqrt(2 * np.pi) * DOPPLER * rho * np.exp(-(rho**2))
    assert abs(np.mean(counts) - expected) < stats.norm.isf(0.005) * np.std(counts, ddof=1) / 10


@START
def test_tdl_gains_are_distributed_as_those_of_sionna(start_s):
    stock = tr38901.TDL("A", 100e-9, 3.5e9, min_speed=DOPPLER * LIGHT_SPEED / 3.5e9)
    theirs = stock(1000, 1, 1e3)[0][:, 0, 0, 0, 0, :, 0].numpy()
    ours = np.array([gains_of(channel, start_s)[0] for channel in channels("tdl-a", 1000)])
    # In the order of their delays, which Sionna's table is not in.
    theirs = theirs[:, np.argsort(stock.delays.numpy(), kind="stable")]
    for path in (0, 1, 2, 10):
        assert stats.ks_2samp(np.abs(ours[:, path]), np.abs(theirs[:, path])).pvalue > 0.01


@pytest.mark.parametrize("model", ["cdl-a", "cdl-e", "umi", "uma", "rma"])
@pytest.mark.parametrize("sight", ["los", "nlos"])
def test_a_drop_is_sionnas_own_at_every_time(model, sight, monkeypatch):
    """The rays that are kept add up to what Sionna's generator makes of the same drop over time."""
    from crlsc_phy.channel import geometry

    kept = []
    original = geometry._paths
    monkeypatch.setattr(
        geometry, "_paths", lambda keeper, *rest, **more: kept.append(keeper) or original(keeper, *rest, **more)
    )
    settings = ChannelSettings(model=model, sight=sight, rx=2, tx=2, speed=1.0, delay_spread=1.0)
    paths = geometry.drop(model, settings, np.random.default_rng(7))
    keeper, times = kept[0], np.linspace(0, 3.0, 50)
    phi, topology, k_factor, rays, c_ds = keeper.kept
    torch = pytest.importorskip("torch")
    theirs, delays = keeper._step_11(phi, topology, k_factor, rays, torch.from_numpy(times), c_ds)
    theirs, delays = theirs[0, 0, 0].numpy(), delays[0, 0, 0].numpy()
    waves = np.exp(1j * np.outer(times, paths.rates))
    for place in range(len(delays)):
        if not np.abs(theirs[place]).max() > 1e-6:
            continue
        mine = np.abs(paths.delays - delays[place]) < 1e-13
        same = np.abs(delays - delays[place]) < 1e-13
        ours = np.einsum("tk,rxk->rxt", waves[:, mine], paths.amplitudes[..., mine])
        assert np.allclose(ours, theirs[same].sum(axis=0), atol=1e-9)
