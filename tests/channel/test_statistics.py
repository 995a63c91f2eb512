"""What the models are on average, against Sionna and theory, at the beginning and after 1,000 s.

The values are those of benchmarks/channel_statistics.py. All of a case are tested at once (Bonferroni) at 99 %: with
fixed seeds a case passes always or never.
"""

import copy

import numpy as np
import pytest

from crlsc_phy.channel.settings import ChannelSettings

pytest.importorskip("sionna.phy.channel.tr38901")

import channel_statistics as benchmark


@pytest.fixture(scope="module")
def ensembles():
    """Realisations of a model; a smaller number of them are the first ones of a larger number."""
    largest = {}

    def first(model, count):
        if model not in largest or len(largest[model].channels) < count:
            largest[model] = benchmark.Ensemble(model, count)
        made = copy.copy(largest[model])
        made.channels = made.channels[:count]
        return made

    return first


# The largest number of a model comes first.
@pytest.mark.parametrize(
    ("measure", "model", "count"),
    [
        *((benchmark.distribution, model, 1500) for model in benchmark.FLAT),
        (benchmark.tdl_distribution, "tdl-a", 1000),
        *((benchmark.power, model, 200) for model in ("rician", "tdl-e", "cdl-d", "umi")),
        *((benchmark.delay_profile, model, 400) for model in ("tdl-a", "tdl-d", "tdl-c300", "cdl-a")),
        (benchmark.autocorrelation, "rayleigh", 600),
        (benchmark.crossings, "rayleigh", 100),
    ],
)
def test_the_mean_channel_is_that_of_sionna_and_theory(ensembles, measure, model, count):
    made = ensembles(model, count)
    for start_s in benchmark.STARTS:
        values = measure(made, start_s)
        assert min(value["p"] for value in values) > (1 - benchmark.LEVEL) / len(values)


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
