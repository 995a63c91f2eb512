"""Settings of a channel, with their units and ranges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from crlsc_phy.channel.paths import LIGHT_SPEED
from crlsc_phy.errors import ChannelError
from crlsc_phy.options import Number, checked

__all__ = ["FIXED", "ChannelSettings"]

FIXED = ("sample_rate", "rx", "tx", "seed")
"""Settings that cannot change while a channel runs."""

# Bounds far beyond any radio, within which all that is computed of the settings is finite in single precision.
_LARGEST = 1e15


def _gain(value: complex) -> complex:
    if not max(abs(value.real), abs(value.imag)) <= _LARGEST:
        raise ValueError(f"it must be finite, its real and imaginary part up to {_LARGEST:g}")
    return value


def _listed(value: Any) -> tuple[Any, ...]:
    """Several taps, of which a single number is one."""
    taps = tuple(value) if isinstance(value, tuple | list) else (value,)
    if not taps:
        raise ValueError("give at least one gain")
    return taps


_Decibels = Annotated[float, Field(ge=-300, le=300)]
_Frequency = Annotated[float, Field(ge=0, le=1e12)]
_Offset = Annotated[float, Field(ge=-1e12, le=1e12)]
_Antennas = Annotated[int, Field(ge=1, le=8)]
_Gain = Annotated[Number, AfterValidator(_gain)]


@checked(ChannelError)
@dataclass(frozen=True)
class ChannelSettings:
    """Settings of a :class:`crlsc_phy.channel.StreamChannel`.

    Numbers may be numpy scalars, and ``taps`` any array; complex numbers may be text such as ``0.5-0.2j``.

    Attributes:
        model: Name of a channel model, a key of :data:`crlsc_phy.channel.MODELS`.
        snr_db: Es/N0 for a signal of unit mean power in the occupied band; None for no noise.
        noise_power: Variance of the noise on a complex sample, in place of ``snr_db``.
        occupied: Fraction of the band that the signal fills: the ratio of occupied carriers to all.
        sample_rate: Sample rate in samples/s.
        carrier_hz: Carrier frequency in Hz.
        delay_spread: Root mean square delay spread in seconds, for models whose delays scale.
        speed: Speed of the terminal in m/s.
        doppler_hz: Largest Doppler shift in Hz, in place of ``speed``.
        rice_k_db: Power of the direct path over that of the others, for the Rician models.
        block: Length of a block in samples, for the block-fading models.
        rx, tx: Number of antennas, up to 8.
        distance_m: Distance from base to terminal in metres, for UMi, UMa and RMa.
        sight: ``los`` or ``nlos`` for these; empty to draw it as they do.
        taps: Gains of the model ``static``, one sample apart.
        cir: File of the model ``replay``, see :mod:`crlsc_phy.channel.cir`.
        cir_end: What follows the end of the file: ``loop``, ``mirror`` or ``hold``.
        cfo_hz: Carrier frequency offset in Hz.
        drift_hz_s: Drift of the carrier frequency offset in Hz/s.
        sro_ppm: Sampling rate offset of the receiver, positive if its clock is fast; None for no resampler at all.
        phase_noise_hz: Linewidth in Hz of a free-running oscillator, whose phase is a Wiener process.
        iq_gain_db: Gain of I over that of Q.
        iq_phase_deg: Deviation of I and Q from a right angle, in degrees.
        dc: Complex DC offset.
        clip_db: Peak power that the sender's amplifier passes, over unit power; None for no limit.
        adc_bits: Resolution of the receiver's converter; 0 for no converter.
        adc_full_scale_db: Largest I or Q of the converter, over unit power of a complex sample.
        seed: Seed of everything that is drawn.

    Raises:
        ChannelError: If a setting is unknown, of another type or out of range; a line for each.
    """

    model: str = "awgn"
    snr_db: _Decibels | None = None
    noise_power: Annotated[float, Field(ge=0, le=1e30)] | None = None
    occupied: Annotated[float, Field(ge=1e-6, le=1)] = 1.0
    sample_rate: Annotated[float, Field(ge=1e-3, le=1e12)] = 1e6
    carrier_hz: Annotated[float, Field(ge=1, le=1e15)] = 3.5e9
    delay_spread: Annotated[float, Field(ge=0, le=1e3)] = 100e-9
    speed: Annotated[float, Field(ge=0, le=LIGHT_SPEED)] = 3.0
    doppler_hz: _Frequency | None = None
    rice_k_db: _Decibels = 10.0
    block: Annotated[int, Field(ge=1, le=1 << 30)] = 10_000
    rx: _Antennas = 1
    tx: _Antennas = 1
    distance_m: Annotated[float, Field(gt=0, le=1e6)] = 100.0
    sight: Literal["", "los", "nlos"] = ""
    taps: Annotated[tuple[_Gain, ...], BeforeValidator(_listed)] = (1.0,)
    cir: str = ""
    cir_end: Literal["loop", "mirror", "hold"] = "loop"
    cfo_hz: _Offset = 0.0
    drift_hz_s: _Offset = 0.0
    sro_ppm: Annotated[float, Field(ge=-1000, le=1000)] | None = None
    phase_noise_hz: _Frequency = 0.0
    iq_gain_db: _Decibels = 0.0
    iq_phase_deg: Annotated[float, Field(ge=-360, le=360)] = 0.0
    dc: _Gain = 0.0
    clip_db: _Decibels | None = None
    adc_bits: Annotated[int, Field(ge=0, le=24)] = 0
    adc_full_scale_db: _Decibels = 12.0
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0

    def __post_init__(self) -> None:
        if self.snr_db is not None and self.noise_power is not None:
            raise ChannelError("snr_db and noise_power both give the noise; give one of them")

    @property
    def metres_per_second(self) -> float:
        """Speed in m/s, from ``speed`` or ``doppler_hz``, whichever is given."""
        return self.speed if self.doppler_hz is None else self.doppler_hz * LIGHT_SPEED / self.carrier_hz

    @property
    def rice_ratio(self) -> float:
        """Power of the direct path over that of the others; 0 for models that are not Rician."""
        return 10 ** (self.rice_k_db / 10) if self.model.startswith("rician") else 0.0

    @property
    def noise_variance(self) -> float:
        """Variance of the noise on a complex sample."""
        if self.noise_power is not None:
            return self.noise_power
        return 0.0 if self.snr_db is None else 10 ** (-self.snr_db / 10) / self.occupied

    def changed(self, /, **changes: Any) -> ChannelSettings:
        """Return a copy with other values.

        Of ``snr_db`` and ``noise_power``, and of ``speed`` and ``doppler_hz``, the one that is given counts.

        Raises:
            ChannelError: If a setting is unknown, of another type or out of range; a line for each.
        """
        for one, other in (("snr_db", "noise_power"), ("speed", "doppler_hz")):
            if one in changes and other not in changes:
                changes[other] = None
            elif other in changes and one not in changes and one == "snr_db" and changes[other] is not None:
                changes[one] = None
        return replace(self, **changes)
