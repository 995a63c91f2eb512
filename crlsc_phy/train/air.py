"""A differentiable model of what a modem and a channel do to analog symbols.

The modem itself is not differentiable and sends about ten pictures a second. This model has its impairments as the
receiver leaves them: noise, faded carriers after the equaliser, clipped peaks, and an estimated SNR.

Random numbers are drawn on the CPU whatever the device of the symbols, so that a seed means the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from crlsc_phy.semantic.analog_coder import AnalogCoder

__all__ = ["Air", "plain_noise", "send", "what_a_modem_meets"]

Air = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps symbols complex64 [N, n] of unit mean power to their linear (MMSE) estimates complex64 [N, n], and to the noise
power that the receiver assumes, float32 [N]."""

SNRS_DB = (-5.0, 22.0)
"""Range of Es/N0 in training, in dB."""
FADING_SHARE, CLIPPED_SHARE = 0.3, 0.2
"""Fractions of a batch with fading and with clipped peaks."""
PAPRS_DB = (3.0, 8.0)
"""Range of the PAPR that peaks are clipped to, in dB."""
SNR_ERROR_DB = 0.7
"""Standard deviation of the estimated SNR, in dB."""
STEPS_PER_OCTAVE, MIDDLE = 16, 128
"""Resolution and middle of the scale's byte, as in :mod:`crlsc_phy.semantic.analog`."""
TAPS, TAP_DECAY = 4, 1.5
"""Number of channel taps, and the number of taps over which their power falls by a factor of e."""
CARRIERS = 48
"""Data symbols of an OFDM symbol in the default numerology."""


def send(coder: AnalogCoder, images: Tensor, vectors: Tensor, rate: Tensor, air: Air) -> Tensor:
    """Send images through a coder and the air, as :class:`crlsc_phy.semantic.analog.LearnedAnalog` does.

    Args:
        coder: Sender and receiver.
        images: float32 [N, 3, H, W] in 0..1, on the coder's device.
        vectors: Semantic vectors, float32 [N, S].
        rate: Complex symbols for 8 x 8 pixels, int64 [N].
        air: Channel between sender and receiver.

    Returns:
        Decoded images, float32 [N, 3, H, W].
    """
    components = coder.sender(images)
    count, most, height, width = components.shape
    sent = (torch.arange(most, device=rate.device) < 2 * rate[:, None])[:, :, None, None]
    values = components * sent
    power = values.square().sum(dim=(1, 2, 3)) / (rate * height * width)
    rms = power.sqrt().clamp(min=1e-9)
    steps = (STEPS_PER_OCTAVE * rms.detach().log2()).round().clamp(-MIDDLE, 255 - MIDDLE)
    gain = 2 ** (steps / STEPS_PER_OCTAVE)
    symbols = torch.complex(values[:, 0::2], values[:, 1::2]).flatten(1) / rms[:, None]
    # Spread over all that could be sent rather than over what is: the same for noise, and one shape for all rates.
    estimates, noise = air(torch.fft.fft(symbols, norm="ortho"))
    received = torch.fft.ifft(estimates, norm="ortho") * ((1 + noise) * gain)[:, None]
    pairs = received.reshape(count, most // 2, height, width)
    parts = torch.stack((pairs.real, pairs.imag), dim=2).flatten(1, 2) * sent
    state = torch.stack((noise.log(), 2 * gain.log(), rate.float()), dim=1)
    image: Tensor = coder.receiver(parts, vectors, state)
    return image


def plain_noise(symbols: Tensor, snr_db: float | Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Add white noise of a known Es/N0.

    Args:
        symbols: complex64 [N, n] of unit mean power.
        snr_db: Es/N0 in dB, for all rows or float32 [N].
        generator: Source of the noise, on the CPU.

    Returns:
        Linear estimates complex64 [N, n], and the noise power, float32 [N].
    """
    noise = (10 ** (-torch.as_tensor(snr_db).expand(len(symbols)) / 10)).to(symbols.device)
    return (symbols + _white(symbols, generator) * noise.sqrt()[:, None]) / (1 + noise[:, None]), noise


def what_a_modem_meets(symbols: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Send each row through a random channel, sometimes with fading or clipping, and estimate its SNR with an error.

    Args:
        symbols: complex64 [N, n] of unit mean power.
        generator: Source of all choices and of the noise, on the CPU.

    Returns:
        Linear estimates complex64 [N, n], and the noise power that the receiver assumes, float32 [N].
    """
    (count, size), device = symbols.shape, symbols.device
    low, high = SNRS_DB
    noise = 10 ** (-(low + (high - low) * torch.rand(count, 1, generator=generator)) / 10)
    clipped = (torch.rand(count, generator=generator) < CLIPPED_SHARE).nonzero()[:, 0]
    if len(clipped):
        low, high = PAPRS_DB
        papr_db = (low + (high - low) * torch.rand(len(clipped), 1, 1, generator=generator)).to(device)
        clipped = clipped.to(device)
        symbols = symbols.index_put((clipped,), _clip(symbols[clipped], papr_db, generator))
    fades = torch.rand(count, 1, generator=generator) < FADING_SHARE
    each = torch.where(fades, noise / _selective(count, size, generator), noise).to(device)
    estimates = (symbols + _white(symbols, generator) * each.sqrt()) / (1 + each)
    # As in Burst.detail_snr_db: of the channel without fading that leaves the same mean error.
    error = (each / (1 + each)).mean(dim=1)
    known = error / (1 - error).clamp(min=1e-6)
    wrong = 10 ** (SNR_ERROR_DB / 10 * torch.randn(count, generator=generator))
    return estimates, known * wrong.to(device)


def _white(like: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.view_as_complex(torch.randn(*like.shape, 2, generator=generator) * math.sqrt(0.5))
    return noise.to(like.device)


def _selective(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw power gains of symbols spread over the carriers of Rayleigh channels of mean gain 1: float32 [N, n]."""
    profile = torch.exp(-torch.arange(TAPS) / TAP_DECAY)
    spread = (profile / profile.sum() / 2).sqrt()[:, None]
    taps = torch.view_as_complex(torch.randn(count, TAPS, 2, generator=generator) * spread)
    gains = torch.fft.fft(taps, CARRIERS).abs().square().clamp(min=1e-3)
    each: Tensor = gains[:, torch.randint(CARRIERS, (size,), generator=generator)]
    return each


def _clip(symbols: Tensor, papr_db: Tensor, generator: torch.Generator, passes: int = 2) -> Tensor:
    """Clip peaks of symbols complex64 [N, n] as :func:`crlsc_phy.phy.papr.clip_and_filter` does."""
    count, size = symbols.shape
    # The modem spreads neighbours over the block.
    order = torch.randperm(size, generator=generator).to(symbols.device)
    rows = F.pad(symbols[:, order], (0, -size % CARRIERS)).reshape(count, -1, CARRIERS)
    power = rows.abs().square().mean(dim=(1, 2), keepdim=True)
    level = (10 ** (papr_db / 10) * power / 4).sqrt()
    for _ in range(passes):
        samples = torch.fft.ifft(rows, 4 * CARRIERS, norm="ortho")
        samples = samples * (level / samples.abs().clamp(min=1e-9)).clamp(max=1)
        rows = torch.fft.fft(samples, norm="ortho")[..., :CARRIERS]
    rows = rows * (power / rows.abs().square().mean(dim=(1, 2), keepdim=True)).sqrt()
    clipped: Tensor = rows.flatten(1)[:, :size][:, order.argsort()]
    return clipped
