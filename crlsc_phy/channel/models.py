"""Catalogue of channel models.

    awgn                          no paths
    rayleigh, rician              one path that fades: sums of waves (Clarke's spectrum)
    rayleigh-block, rician-block  one path that stands still for ``block`` samples, then is drawn anew
    tdl-a ... tdl-e               3GPP TR 38.901, 7.7.2, and the fixed profiles of TS 38.101-4, such as tdl-a30
    cdl-a ... cdl-e               TR 38.901, 7.7.1, with antenna arrays
    umi, uma, rma                 TR 38.901, 7.5: one drop of a terminal around a base
    static                        given taps
    replay                        a file of channel impulse responses

Profiles, angles and antennas are those of Sionna; the course of time is that of :mod:`crlsc_phy.channel.paths`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crlsc_phy.channel.paths import LIGHT_SPEED, Paths
from crlsc_phy.channel.settings import ChannelSettings
from crlsc_phy.errors import ChannelError

__all__ = ["MODELS", "Model", "find_model", "paths_of"]

_WAVES = 32
"""Waves of a path. With more, the distribution of its gain comes nearer to Rayleigh's."""
_FLAT_WAVES = 128
# Angle of arrival of the direct path: Sionna's default for the TDL models.
_DIRECT_ANGLE = np.arccos(0.7)


@dataclass(frozen=True)
class Model:
    """Model of the catalogue.

    Attributes:
        build: Function that draws the paths; None if the model is not a sum of waves.
        source: Specification of the model.
        uses: Settings that the model depends on, beside those of noise and radios.
    """

    build: Callable[[str, ChannelSettings, np.random.Generator], Paths] | None
    source: str
    uses: tuple[str, ...] = ()


def find_model(name: str) -> Model:
    """Return the model called ``name``.

    Raises:
        ChannelError: If there is no such model.
    """
    if name not in MODELS:
        raise ChannelError(f"channel model {name!r} is unknown; choose one of {', '.join(MODELS)}")
    return MODELS[name]


def paths_of(settings: ChannelSettings) -> Paths:
    """Draw the paths of the model that the settings name.

    Raises:
        ChannelError: If the model is unknown or not a sum of waves, Sionna is missing, or a setting does not fit.
    """
    model = find_model(settings.model)
    if model.build is None:
        raise ChannelError(f"channel model {settings.model!r} has no paths to draw")
    return model.build(settings.model, settings, np.random.default_rng([settings.seed, 0]))


def _awgn(_: str, settings: ChannelSettings, __: np.random.Generator) -> Paths:
    return _standing(np.ones(1), settings)


def _static(_: str, settings: ChannelSettings, __: np.random.Generator) -> Paths:
    return _standing(np.array(settings.taps), settings)


def _standing(taps: NDArray[Any], settings: ChannelSettings) -> Paths:
    """Taps a sample apart, from each antenna to its own, or from the only one to all."""
    if settings.tx > 1 and settings.tx != settings.rx:
        raise ChannelError(
            f"channel model {settings.model!r} takes as many antennas at both ends, or tx=1; "
            f"not rx={settings.rx} and tx={settings.tx}"
        )
    pairs = np.ones((settings.rx, 1)) if settings.tx == 1 else np.eye(settings.rx)
    amplitudes = np.asarray(pairs[:, :, None] * taps, np.complex128)
    return Paths(amplitudes, np.zeros(len(taps)), np.arange(len(taps)) / settings.sample_rate)


def _flat(_: str, settings: ChannelSettings, rng: np.random.Generator) -> Paths:
    return _sum_of_waves(np.ones(1), np.zeros(1), settings.rice_ratio, _FLAT_WAVES, False, settings, rng)


def _tdl(name: str, settings: ChannelSettings, rng: np.random.Generator) -> Paths:
    profile = name.removeprefix("tdl-").upper()
    scalable = len(profile) == 1
    # Sionna multiplies by the delay spread; with 1 s the delays are in units of it.
    tdl = _sionna("TDL")(profile, 1.0 if scalable else None, settings.carrier_hz, precision="double")
    powers = tdl.mean_powers.cpu().numpy().astype(np.float64)
    delays = tdl.delays.cpu().numpy().astype(np.float64)
    ratio = 0.0
    if tdl.los:
        ratio = float(tdl.mean_power_los) / (float(powers[0]) - float(tdl.mean_power_los))
    return _sum_of_waves(powers, delays, ratio, _WAVES, scalable, settings, rng)


def _sum_of_waves(
    powers: NDArray[np.float64],
    delays: NDArray[np.float64],
    rice: float,
    waves: int,
    scalable: bool,
    settings: ChannelSettings,
    rng: np.random.Generator,
) -> Paths:
    """Return paths that fade independently; ``rice`` is the ratio of direct to scattered power of the first.

    Source: C. Xiao, Y. Zheng, N. Beaulieu, "Novel sum-of-sinusoids simulation models for Rayleigh and Rician fading
    channels", IEEE Trans. Wireless Commun. 5(12), 2006, equations 6 and 11, as in Sionna's TDL.
    """
    count = len(powers)
    direct = powers[0] * rice / (1 + rice)
    scattered = powers.astype(np.float64).copy()
    scattered[0] -= direct
    steps = 2 * np.pi / waves
    angles = steps * np.arange(1, waves + 1) + rng.uniform(-steps / 2, steps / 2, (count, waves))
    phases = rng.uniform(-np.pi, np.pi, (settings.rx, settings.tx, count, waves))
    amplitudes = np.sqrt(scattered / waves)[:, None] * np.exp(1j * phases)
    rates = 2 * np.pi * settings.carrier_hz / LIGHT_SPEED * np.cos(angles)
    every = amplitudes.reshape(settings.rx, settings.tx, -1), rates.ravel(), np.repeat(delays, waves)
    if not rice:
        return Paths(*every, scalable)
    first = np.sqrt(direct) * np.exp(1j * rng.uniform(-np.pi, np.pi)) * np.ones((settings.rx, settings.tx, 1))
    rate = 2 * np.pi * settings.carrier_hz / LIGHT_SPEED * np.cos(_DIRECT_ANGLE)
    return Paths(np.concatenate((first, every[0]), axis=2), np.r_[rate, every[1]], np.r_[delays[0], every[2]], scalable)


def _geometric(name: str, settings: ChannelSettings, rng: np.random.Generator) -> Paths:
    _sionna("CDL")
    from crlsc_phy.channel.geometry import drop

    return drop(name, settings, rng)


def _sionna(name: str) -> Any:
    """Return a class of Sionna's 3GPP models.

    Raises:
        ChannelError: If Sionna is not installed.
    """
    try:
        from sionna.phy.channel import tr38901
    except ImportError as error:
        raise ChannelError(f"3GPP models need Sionna: {error}; pip install 'crlsc-phy[sionna]'") from None
    return getattr(tr38901, name)


_TDL = ("a", "b", "c", "d", "e", "a10", "a30", "b100", "c60", "c300", "d10", "d30")
_FADES = ("speed", "doppler_hz", "carrier_hz", "rx", "tx")
MODELS: dict[str, Model] = {
    "awgn": Model(_awgn, "white Gaussian noise alone", ("rx", "tx")),
    "rayleigh": Model(_flat, "R. H. Clarke, Bell Syst. Tech. J. 47(6), 1968", _FADES),
    "rician": Model(_flat, "the same with a direct path", (*_FADES, "rice_k_db")),
    "rayleigh-block": Model(None, "the same, drawn anew for each block", ("block", "rx", "tx")),
    "rician-block": Model(None, "the same, drawn anew for each block", ("block", "rice_k_db", "rx", "tx")),
    **{
        f"tdl-{profile}": Model(
            _tdl,
            "3GPP TR 38.901 V19.2, table 7.7.2-" + str(1 + "abcde".index(profile))
            if len(profile) == 1
            else "3GPP TS 38.101-4 V19.2.2, B.2.1",
            (*_FADES, "delay_spread") if len(profile) == 1 else _FADES,
        )
        for profile in _TDL
    },
    **{
        f"cdl-{profile}": Model(
            _geometric,
            "3GPP TR 38.901 V19.2, table 7.7.1-" + str(1 + "abcde".index(profile)),
            (*_FADES, "delay_spread"),
        )
        for profile in "abcde"
    },
    **{
        name: Model(_geometric, f"3GPP TR 38.901 V19.2, 7.5, {text}", (*_FADES, "distance_m", "sight"))
        for name, text in (("umi", "street canyon"), ("uma", "urban macro cell"), ("rma", "rural macro cell"))
    },
    "static": Model(_static, "given taps", ("taps", "rx", "tx")),
    "replay": Model(None, "a file of channel impulse responses", ("cir", "cir_end", "rx", "tx")),
}
