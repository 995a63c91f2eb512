"""Symbols on Sionna's resource grid against closed forms."""

import numpy as np
import pytest
from coded_links import exact_ber

pytest.importorskip("sionna")

from crlsc_phy.channel import ChannelSettings
from crlsc_phy.errors import ChannelError, SweepError
from crlsc_phy.link.baselines.coded import CodedChain, CodedOptions
from crlsc_phy.link.chain import Scene, Trial
from crlsc_phy.link.grid import Grid
from crlsc_phy.phy.qam import map_bits


def send(model, csi="perfect", snr_db=10.0, bursts=200, count=260, seed=1, **settings):
    """Symbols sent, received and their noise."""
    rng = np.random.default_rng(seed)
    symbols = map_bits(rng.integers(0, 2, 2 * bursts * count, np.uint8), 2).reshape(bursts, count)
    grid = Grid(ChannelSettings(model=model, **settings), csi)
    return symbols, *grid.send(symbols, snr_db, np.random.default_rng(seed))


@pytest.mark.parametrize(("model", "snr_db"), [("awgn", 5), ("rayleigh-block", 8)])
def test_uncoded_ber_is_that_of_the_closed_form(model, snr_db):
    chain = CodedChain(CodedOptions(rate=1, k=104, blocks=400), Scene(ChannelSettings(model=model), air="grid"))
    counts = [chain.run(Trial(snr_db, i, (7, i))).counts for i in range(20)]
    rates = np.array([count["bit_errors"] / count["bits"] for count in counts])
    error = rates.std(ddof=1) / np.sqrt(len(rates))
    expected = exact_ber("qpsk", model.removesuffix("-block"), snr_db)
    assert abs(rates.mean() - expected) < 4 * error
    assert 4 * error < expected / 4


@pytest.mark.parametrize("model", ["awgn", "rayleigh", "rician", "tdl-a", "tdl-d", "cdl-b", "static"])
def test_noise_is_what_it_is_said_to_be(model):
    symbols, received, noise = send(model, bursts=200, speed=10.0)
    assert received.dtype == np.complex64
    assert noise.dtype == np.float32
    assert received.shape == noise.shape == symbols.shape
    assert np.mean(np.abs(received - symbols) ** 2 / noise) == pytest.approx(1, abs=0.03)
    # The mean gain is 1; the gains of 200 bursts scatter by a fourteenth each.
    assert np.mean(0.1 / noise) == pytest.approx(1, abs=1e-3 if model in ("awgn", "static") else 0.3)


@pytest.mark.parametrize("model", ["awgn", "tdl-a"])
def test_least_squares_costs_as_much_as_it_says(model):
    symbols, received, noise = send(model, "ls")
    error = np.mean(np.abs(received - symbols) ** 2 / noise)
    assert error == pytest.approx(1, abs=0.1)
    assert np.median(noise) > 1.3 * np.median(send(model)[2])


def test_a_burst_stands_still_at_rest_and_bursts_differ():
    _, _, noise = send("tdl-a", bursts=2, count=104, speed=0.0)
    first, second = noise.reshape(2, 2, 52)
    np.testing.assert_allclose(first[0], first[1], rtol=1e-3)
    assert np.abs(np.log(first[0] / second[0])).mean() > 0.1
    _, _, moving = send("tdl-a", bursts=1, count=52 * 60, speed=100.0)
    assert np.abs(np.log(moving[0, :52] / moving[0, -52:])).mean() > 0.1


def test_a_longer_delay_spread_makes_the_band_less_even():
    flat, uneven = (
        np.log(send("tdl-a", bursts=60, count=52, delay_spread=spread)[2]).std(axis=1).mean() for spread in (1e-9, 1e-6)
    )
    assert flat < uneven / 5


def test_everything_follows_from_the_seed():
    one, again, other = (send("cdl-a", "ls", bursts=3, seed=seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)


@pytest.mark.parametrize(("symbols", "ofdm"), [(1, 2), (52, 2), (53, 3), (312, 7), (313, 9), (1024, 24)])
def test_pilots_and_padding_are_counted(symbols, ofdm):
    assert Grid(ChannelSettings()).uses(symbols) == 52 * ofdm


def test_several_antennas_and_unknown_models_are_refused():
    with pytest.raises(ChannelError, match="channel model 'tdl-x' is unknown"):
        Grid(ChannelSettings(model="tdl-x"))
    with pytest.raises(SweepError, match="1 x 2 antennas"):
        Grid(ChannelSettings(model="tdl-a", rx=2))
