"""Paths of the models with directions: one drop of Sionna's CDL, UMi, UMa or RMa, ray by ray.

Sionna evaluates a drop over some time and forgets it. Here its coefficient generator is called once, at time 0, and the
rays that it was called with are kept. Their Doppler shifts follow from their directions and the velocity.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sionna.phy import config
from sionna.phy.channel.tr38901 import CDL, AntennaArray, RMa, UMa, UMi
from sionna.phy.channel.tr38901.channel_coefficients import ChannelCoefficientsGenerator

from crlsc_phy.channel.paths import LIGHT_SPEED, Paths
from crlsc_phy.channel.settings import ChannelSettings
from crlsc_phy.errors import ChannelError

__all__ = ["drop"]

# Heights above ground in metres, TR 38.901 tables 7.2-1 and 7.2-3.
_BASE_HEIGHT = {"umi": 10.0, "uma": 25.0, "rma": 35.0}
_TERMINAL_HEIGHT = 1.5
_FAINTEST = 1e-12
"""Power below which a ray is left out."""
_NEAREST = {"umi": 10.0, "uma": 35.0, "rma": 35.0}


class _Keeper(ChannelCoefficientsGenerator):  # type: ignore[misc]
    """Coefficient generator that keeps the arguments of its last call."""

    kept: tuple[Any, ...] = ()

    @classmethod
    def over(cls, generator: Any) -> _Keeper:
        """Turn the generator of a model into one that keeps its arguments."""
        generator.__class__ = cls
        keeper: _Keeper = generator
        return keeper

    def _step_11(self, phi: Any, topology: Any, k_factor: Any, rays: Any, t: Any, c_ds: Any) -> Any:
        self.kept = phi, topology, k_factor, rays, c_ds
        return super()._step_11(phi, topology, k_factor, rays, t, c_ds)


def drop(name: str, settings: ChannelSettings, rng: np.random.Generator) -> Paths:
    """Draw one realisation of a model, with the terminal receiving.

    Args:
        name: ``cdl-a`` to ``cdl-e``, ``umi``, ``uma`` or ``rma``.
        settings: Give carrier frequency, antennas, distance and sight.
        rng: Generator that everything is drawn from.

    Raises:
        ChannelError: If the terminal is nearer to the base than the model allows.
    """
    # Sionna draws from generators of its own, seeded when a model is made.
    config.seed = int(rng.integers(2**31))
    base, terminal = (
        # A row of vertically polarised antennas half a wavelength apart.
        AntennaArray(1, count, "single", "V", "omni", settings.carrier_hz, precision="double")
        for count in (settings.tx, settings.rx)
    )
    angle = rng.uniform(0, 2 * np.pi)
    velocity = torch.tensor([np.cos(angle), np.sin(angle), 0.0], dtype=torch.float64)
    if name.startswith("cdl-"):
        profile, carrier_hz = name[-1].upper(), settings.carrier_hz
        model = CDL(profile, 1.0, carrier_hz, terminal, base, ut_velocity=velocity, precision="double")
        keeper = _Keeper.over(model._cir_gen)
        model(1, 1, 1.0)
    else:
        model = _system(name, settings, base, terminal, velocity, rng)
        keeper = _Keeper.over(model._cir_sampler)
        model(1, 1.0)
    paths = _paths(keeper, settings, scalable=name.startswith("cdl-"))
    # Rays without power belong to clusters that a scenario lacks; Sionna gives them a delay of a second.
    heard = (np.abs(paths.amplitudes) ** 2).sum(axis=(0, 1)) > _FAINTEST
    return replace(paths, amplitudes=paths.amplitudes[..., heard], rates=paths.rates[heard], delays=paths.delays[heard])


def _system(
    name: str,
    settings: ChannelSettings,
    base: AntennaArray,
    terminal: AntennaArray,
    velocity: torch.Tensor,
    rng: np.random.Generator,
) -> Any:
    if settings.distance_m < _NEAREST[name]:
        raise ChannelError(
            f"distance_m is {settings.distance_m:g}; channel model {name!r} takes {_NEAREST[name]:g} m or more"
        )
    options: dict[str, Any] = {
        "carrier_frequency": settings.carrier_hz,
        "ut_array": terminal,
        "bs_array": base,
        "direction": "downlink",
        # The stream keeps unit mean power; the user gives the loss, as an SNR.
        "enable_pathloss": False,
        "enable_shadow_fading": False,
        "precision": "double",
    }
    model = RMa(**options) if name == "rma" else {"umi": UMi, "uma": UMa}[name](o2i_model="low", **options)

    bearing = rng.uniform(-np.pi, np.pi)
    place = settings.distance_m * np.cos(bearing), settings.distance_m * np.sin(bearing), _TERMINAL_HEIGHT

    def placed(*values: float) -> torch.Tensor:
        return torch.tensor([[values]], dtype=torch.float64)

    model.set_topology(
        ut_loc=placed(*place),
        bs_loc=placed(0.0, 0.0, _BASE_HEIGHT[name]),
        ut_orientations=placed(0.0, 0.0, 0.0),
        bs_orientations=placed(bearing, 0.0, 0.0),
        ut_velocities=velocity[None, None],
        in_state=torch.tensor([[False]]),
        los={"": None, "los": True, "nlos": False}[settings.sight],
    )
    return model


def _paths(keeper: _Keeper, settings: ChannelSettings, scalable: bool) -> Paths:
    """All rays, with the direct path if there is one."""
    phi, topology, k_factor, rays, c_ds = keeper.kept
    zero = torch.zeros(1, dtype=torch.float64)
    full = keeper._step_11_nlos(phi, topology, rays, zero)[0, 0, 0, ..., 0]
    amplitudes = full.permute(2, 3, 0, 1).numpy().astype(np.complex128)
    rates = _rates(topology, rays.zoa[0, 0, 0], rays.aoa[0, 0, 0], settings)
    delays = np.repeat(rays.delays[0, 0, 0].numpy()[:, None], amplitudes.shape[3], axis=1).astype(np.float64)
    if keeper._subclustering:
        _spread_strongest(keeper, delays, rays.powers[0, 0, 0].numpy(), float(c_ds[0, 0, 0]))
    shape = (settings.rx, settings.tx, -1)
    if not bool(topology.los[0, 0, 0]):
        return Paths(amplitudes.reshape(shape), rates.ravel(), delays.ravel(), scalable)
    ratio = float(k_factor[0, 0, 0])
    direct = keeper._step_11_los(topology, zero)[0, 0, 0, 0, ..., 0].numpy()[:, :, None]
    direct_rate = _rates(topology, topology.los_zoa[0, 0, 0], topology.los_aoa[0, 0, 0], settings)
    parts = np.sqrt(ratio / (1 + ratio)) * direct, np.sqrt(1 / (1 + ratio)) * amplitudes.reshape(shape)
    rates, delays = np.r_[direct_rate.ravel(), rates.ravel()], np.r_[delays.min(), delays.ravel()]
    return Paths(np.concatenate(parts, axis=2), rates, delays, scalable)


def _rates(
    topology: Any, zenith: torch.Tensor, azimuth: torch.Tensor, settings: ChannelSettings
) -> NDArray[np.float64]:
    """Doppler shifts at 1 m/s in rad/s of rays from these directions, 3GPP TR 38.901, equation 7.5-22."""
    towards = torch.stack(
        (torch.sin(zenith) * torch.cos(azimuth), torch.sin(zenith) * torch.sin(azimuth), torch.cos(zenith)), dim=-1
    )
    along = (towards @ topology.velocities.reshape(-1, 3)[0]).numpy()
    return np.asarray(2 * np.pi * settings.carrier_hz / LIGHT_SPEED * along, np.float64)


def _spread_strongest(
    keeper: _Keeper, delays: NDArray[np.float64], powers: NDArray[np.float64], cluster_spread: float
) -> None:
    """Delay the rays of the two strongest clusters, in place: 3GPP TR 38.901, 7.5, step 11, table 7.5-5."""
    offsets = keeper._sub_cl_delay_offsets.numpy() * cluster_spread
    groups = (keeper._sub_cl_1_ind, keeper._sub_cl_2_ind, keeper._sub_cl_3_ind)
    for cluster in np.argsort(powers)[::-1][:2]:
        for offset, rays in zip(offsets, groups, strict=True):
            delays[cluster, np.asarray(rays)] += offset
