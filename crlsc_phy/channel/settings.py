"""What a channel is asked to be."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from crlsc_phy.channel.paths import LIGHT_SPEED
from crlsc_phy.errors import ChannelError

__all__ = ["FIXED", "ChannelSettings"]

FIXED = ("sample_rate", "rx", "tx", "seed")
"""Settings that cannot change while a channel runs."""

_POSITIVE = ("sample_rate", "carrier_hz", "occupied", "distance_m")
_NOT_NEGATIVE = ("delay_spread", "speed", "phase_noise_hz", "noise_power", "doppler_hz")
_WHOLE = {"rx": (1, 8), "tx": (1, 8), "block": (1, 1 << 30), "adc_bits": (0, 24), "seed": (0, 2**63 - 1)}
_ENDS = ("loop", "mirror", "hold")
_SIGHT = ("", "los", "nlos")


@dataclass(frozen=True)
class ChannelSettings:
    """Settings of a :class:`crlsc_phy.channel.StreamChannel`.

    Attributes:
        model: A name of :data:`crlsc_phy.channel.MODELS`.
        snr_db: Es/N0 for a signal of unit mean power in the occupied band, or None for no noise.
        noise_power: Variance of the noise on a complex sample, in place of ``snr_db``.
        occupied: Part of the band that the signal fills, 0 to 1: the ratio of occupied carriers to all.
        sample_rate: In samples/s.
        carrier_hz: Carrier frequency.
        delay_spread: Root mean square, in seconds, of models whose delays scale.
        speed: Of the terminal, in m/s.
        doppler_hz: Largest Doppler shift, in place of ``speed``.
        rice_k_db: Power of the direct path over that of the others, of the Rician models.
        block: Samples for which a block-fading model stands.
        rx, tx: Antennas.
        distance_m: From base to terminal, of UMi, UMa and RMa.
        sight: ``los`` or ``nlos`` for these; empty to draw it as they do.
        taps: Of the model ``static``: gains a sample apart.
        cir: File of the model ``replay``, see :mod:`crlsc_phy.channel.cir`.
        cir_end: What follows the end of the file: ``loop``, ``mirror`` or ``hold``.
        cfo_hz: Carrier frequency offset.
        drift_hz_s: Its change, in Hz/s.
        sro_ppm: By how much the receiver's sampling clock is fast; None leaves the resampler out altogether.
        phase_noise_hz: Linewidth of a free-running oscillator: its phase is a Wiener process.
        iq_gain_db: Gain of I over that of Q.
        iq_phase_deg: By how much the two are not at right angles.
        dc: Complex offset.
        clip_db: Peak that the sender's amplifier passes, over unit power; None for all.
        adc_bits: Of the receiver's converter; 0 for none.
        adc_full_scale_db: Its largest I or Q, over unit power of a complex sample.
        seed: Of all that is drawn.

    Raises:
        ChannelError: If a value is out of range.
    """

    model: str = "awgn"
    snr_db: float | None = None
    noise_power: float | None = None
    occupied: float = 1.0
    sample_rate: float = 1e6
    carrier_hz: float = 3.5e9
    delay_spread: float = 100e-9
    speed: float = 3.0
    doppler_hz: float | None = None
    rice_k_db: float = 10.0
    block: int = 10_000
    rx: int = 1
    tx: int = 1
    distance_m: float = 100.0
    sight: str = ""
    taps: tuple[complex, ...] = (1.0,)
    cir: str = ""
    cir_end: str = "loop"
    cfo_hz: float = 0.0
    drift_hz_s: float = 0.0
    sro_ppm: float | None = None
    phase_noise_hz: float = 0.0
    iq_gain_db: float = 0.0
    iq_phase_deg: float = 0.0
    dc: complex = 0.0
    clip_db: float | None = None
    adc_bits: int = 0
    adc_full_scale_db: float = 12.0
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            self._check(field.name, getattr(self, field.name))
        if self.snr_db is not None and self.noise_power is not None:
            raise ChannelError("snr_db and noise_power say the same thing; give one of them")
        if self.occupied > 1:
            raise ChannelError(f"occupied is {self.occupied:g}; it is a part of the band, up to 1")
        if not self.taps:
            raise ChannelError("taps are empty; give one at least")
        if self.sro_ppm is not None and abs(self.sro_ppm) > 1000:
            raise ChannelError(f"sro_ppm is {self.sro_ppm:g}; clocks are within 1000 ppm")

    @staticmethod
    def _check(name: str, value: Any) -> None:
        if name in _WHOLE:
            low, high = _WHOLE[name]
            if not isinstance(value, int) or not low <= value <= high:
                raise ChannelError(f"{name} is {value!r}; it must be a whole number of {low} to {high}")
        elif name in ("model", "cir"):
            if not isinstance(value, str):
                raise ChannelError(f"{name} is {value!r}; it must be a text")
        elif name in ("cir_end", "sight"):
            choices = _ENDS if name == "cir_end" else _SIGHT
            if value not in choices:
                raise ChannelError(f"{name} is {value!r}; choose one of {', '.join(map(repr, choices))}")
        elif value is not None:
            for number in value if name == "taps" else (value,):
                _check_number(name, number)

    @property
    def metres_per_second(self) -> float:
        """Speed, by whichever of ``speed`` and ``doppler_hz`` is given."""
        return self.speed if self.doppler_hz is None else self.doppler_hz * LIGHT_SPEED / self.carrier_hz

    @property
    def rice_ratio(self) -> float:
        """Power of the direct path over that of the others, 0 for models that are not Rician."""
        return 10 ** (self.rice_k_db / 10) if self.model.startswith("rician") else 0.0

    @property
    def noise_variance(self) -> float:
        """Of the noise on a complex sample."""
        if self.noise_power is not None:
            return self.noise_power
        return 0.0 if self.snr_db is None else 10 ** (-self.snr_db / 10) / self.occupied

    def changed(self, **changes: Any) -> ChannelSettings:
        """A copy with other values.

        Raises:
            ChannelError: If there is no such setting, or a value is out of range.
        """
        unknown = changes.keys() - {field.name for field in fields(self)}
        if unknown:
            raise ChannelError(f"no setting {min(unknown)!r}; there are {', '.join(f.name for f in fields(self))}")
        # Of two that say the same the one that is given counts.
        for one, other in (("snr_db", "noise_power"), ("speed", "doppler_hz")):
            if one in changes and other not in changes:
                changes[other] = None
            elif other in changes and one not in changes and one == "snr_db" and changes[other] is not None:
                changes[one] = None
        return replace(self, **changes)


def _check_number(name: str, value: Any) -> None:
    if name in ("dc", "taps"):
        if not isinstance(value, (int, float, complex)) or not math.isfinite(abs(value)):
            raise ChannelError(f"{name} holds {value!r}; it must be a finite complex number")
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ChannelError(f"{name} is {value!r}; it must be a finite number")
    if name in _POSITIVE and value <= 0:
        raise ChannelError(f"{name} is {value:g}; it must be above 0")
    if name in _NOT_NEGATIVE and value < 0:
        raise ChannelError(f"{name} is {value:g}; it must not be negative")
