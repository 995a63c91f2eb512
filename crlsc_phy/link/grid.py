"""Symbols on Sionna's OFDM resource grid, in perfect synchrony, with the channel known or estimated.

    symbols -> grid with one pilot symbol per six of data -> frequency response + noise -> CSI -> equaliser -> symbols

A burst is one grid of whole OFDM symbols. It sees one realisation of the channel, which changes from symbol to symbol.
The delays must fit the cyclic prefix: the grid does not model interference between OFDM symbols.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sionna.phy import config
from sionna.phy.channel import ApplyOFDMChannel, ChannelModel, GenerateOFDMChannel, RayleighBlockFading
from sionna.phy.channel.tr38901 import CDL, TDL, AntennaArray
from sionna.phy.mimo import StreamManagement
from sionna.phy.ofdm import LMMSEEqualizer, LSChannelEstimator, ResourceGrid, ResourceGridMapper

from crlsc_phy.channel import ChannelSettings, StreamChannel
from crlsc_phy.channel.models import find_model
from crlsc_phy.errors import SweepError
from crlsc_phy.phy import Numerology

__all__ = ["Grid"]

DATA_SYMBOLS = 6
"""OFDM symbols with data per symbol with pilots on all carriers: 2 of 14 have pilots, as with two DM-RS symbols of a
5G slot (TS 38.211, 6.4.1.1)."""


class Grid:
    """Sionna's resource grid in the modem's numerology.

    TDL, CDL and block Rayleigh fading are Sionna's models; the others are those of :mod:`crlsc_phy.channel.models`.

    Args:
        settings: Settings of the channel: model, delay spread, speed, carrier frequency and sample rate. Impairments of
            the radios are not used.
        csi: ``perfect``, or ``ls`` for least squares at the pilots with linear interpolation over time.

    Raises:
        SweepError: If the channel has more than one antenna.
        ChannelError: If the model is unknown, or a setting does not fit it.
    """

    def __init__(self, settings: ChannelSettings, csi: Literal["perfect", "ls"] = "perfect") -> None:
        find_model(settings.model)
        if settings.rx * settings.tx > 1:
            raise SweepError(f"channel has {settings.tx} x {settings.rx} antennas; set tx: 1 and rx: 1 on a grid")
        self._numerology = Numerology(sample_rate=settings.sample_rate)
        self._csi = csi
        self._model = None if settings.model == "awgn" else _channel_model(settings)
        self._grid = lru_cache(maxsize=8)(self._make_grid)

    def uses(self, symbols: int) -> int:
        """Return the resource elements of a burst of ``symbols``, including pilots and padding."""
        return sum(self._ofdm_symbols(symbols)) * self._numerology.occupied

    def send(
        self, symbols: NDArray[np.complex64], snr_db: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Send bursts over the grid.

        Args:
            symbols: Symbols of unit mean power, complex64 [bursts, n].
            snr_db: Mean Es/N0 on a resource element in dB.
            rng: Generator of the seed for everything that is drawn.

        Returns:
            Equalised symbols, complex64 [bursts, n], and the receiver's estimate of the variance of the noise on each,
            float32 [bursts, n].
        """
        config.seed = int(rng.integers(2**63))
        bursts, count = symbols.shape
        grid = self._grid(*self._ofdm_symbols(count))
        padded = np.pad(symbols, ((0, 0), (0, grid.num_data_symbols - count)))
        noise = torch.tensor(10 ** (-snr_db / 10), dtype=torch.float32)
        with torch.inference_mode():
            x = ResourceGridMapper(grid)(torch.from_numpy(padded)[:, None, None])
            if self._model is None:
                h = torch.ones((bursts, 1, 1, 1, *x.shape[2:]), dtype=x.dtype)
            else:
                h = GenerateOFDMChannel(self._model, grid)(bursts)
            y = ApplyOFDMChannel()(x, h, noise)
            if self._csi == "ls":
                estimate, error = LSChannelEstimator(grid, interpolation_type="lin")(y, noise)
            else:
                estimate, error = h[..., grid.effective_subcarrier_ind], torch.zeros(())
            equaliser = LMMSEEqualizer(grid, StreamManagement(np.ones((1, 1), np.int64), 1))
            received, variance = equaliser(y, estimate, error, noise)
        return received[:, 0, 0, :count].numpy(), variance[:, 0, 0, :count].numpy()

    def _ofdm_symbols(self, symbols: int) -> tuple[int, int]:
        """Return the number of OFDM symbols with data, and of those with pilots."""
        data = -(-symbols // self._numerology.occupied)
        return data, -(-data // DATA_SYMBOLS)

    def _make_grid(self, data: int, pilots: int) -> Any:
        numerology = self._numerology
        empty = numerology.fft_size - numerology.occupied - 1
        return ResourceGrid(
            num_ofdm_symbols=data + pilots,
            fft_size=numerology.fft_size,
            subcarrier_spacing=numerology.sample_rate / numerology.fft_size,
            cyclic_prefix_length=numerology.cp_length,
            num_guard_carriers=(empty - empty // 2, empty // 2),
            dc_null=True,
            pilot_pattern="kronecker",
            pilot_ofdm_symbol_indices=[(2 * i + 1) * (data + pilots) // (2 * pilots) for i in range(pilots)],
        )


class _Catalogue(ChannelModel):  # type: ignore[misc]
    """A model of :mod:`crlsc_phy.channel.models` with Sionna's interface."""

    def __init__(self, settings: ChannelSettings) -> None:
        super().__init__()
        self._settings = settings
        StreamChannel(**vars(settings))

    def __call__(self, batch_size: int, num_time_steps: int, sampling_frequency: float) -> tuple[Any, Any]:
        times = np.arange(num_time_steps) * self._settings.sample_rate / sampling_frequency
        seeds = config.np_rng.integers(2**63, size=batch_size)
        drops = [StreamChannel(**vars(self._settings) | {"seed": int(seed)}).gains_at(times) for seed in seeds]
        most = max(len(delays) for _, delays in drops)
        # Drops of one model may have different numbers of paths.
        gains = np.stack([np.pad(gain[:, 0, 0], ((0, 0), (0, most - gain.shape[3]))).T for gain, _ in drops])
        delays = np.stack([np.pad(delay, (0, most - len(delay))) for _, delay in drops])
        a = torch.from_numpy(gains.astype(np.complex64))[:, None, None, None, None]
        return a, torch.from_numpy(delays.astype(np.float32))[:, None, None]


def _channel_model(settings: ChannelSettings) -> Any:
    kind, _, profile = settings.model.partition("-")
    spread_and_carrier = settings.delay_spread, settings.carrier_hz
    speeds = {"min_speed": settings.metres_per_second, "max_speed": settings.metres_per_second}
    if settings.model == "rayleigh-block":
        return RayleighBlockFading(1, 1, 1, 1)
    if kind == "tdl":
        return TDL(profile.upper(), *spread_and_carrier, **speeds)
    if kind == "cdl":
        antenna = AntennaArray(1, 1, "single", "V", "omni", settings.carrier_hz)
        return CDL(profile.upper(), *spread_and_carrier, antenna, antenna, **speeds)
    return _Catalogue(settings)
