"""Train the analog detail coder on crops, through what the modem does to its symbols."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from crlsc_phy.semantic.analog_coder import AnalogCoder, AnalogConfig
from crlsc_phy.train.crops import CropSampler
from crlsc_phy.train.loop import StepModule

__all__ = ["AnalogTraining", "air", "send"]

SILENT_SHARE = 0.1
RATE_SHARES = {32: 0.45, 24: 0.1, 16: 0.25, 12: 0.08, 8: 0.07, 4: 0.05}
"""How often a picture is sent at a number of symbols a block, in 32nds of the highest."""
SNRS_DB = (-5.0, 22.0)
FADING_SHARE, CLIPPED_SHARE = 0.3, 0.2
SNR_ERROR_DB = 0.7
LARGE_SHARE = 0.2
BLOCKS_RATE, SPECTRUM_RATE = 0.03, 0.2
"""Parts of the learning rate at which the linear frame is trained."""
STEPS_PER_OCTAVE, MIDDLE = 16, 128


class AnalogTraining(StepModule):
    """Trains an :class:`AnalogCoder`.

    Args:
        config: Sizes of the coder.
        crops: Where batches come from, by size of the crop; larger crops come in smaller batches.
        semantic: Crops float32 [N, 3, H, W] to semantic vectors float32 [N, S]; None trains the whole coder with the
            zero vector, otherwise the receiver alone is trained: what travels stays as it is.
        batch: Crops a step of the first size.
        steps, learning_rate, seed: As for :class:`StepModule`.
    """

    def __init__(
        self,
        config: AnalogConfig,
        crops: Sequence[CropSampler],
        semantic: Callable[[Tensor], Tensor] | None = None,
        batch: int = 32,
        steps: int = 1000,
        learning_rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__(steps, learning_rate, seed)
        self.coder = AnalogCoder(config)
        self.crops, self.semantic, self.batch = crops, semantic, batch
        self.coder.sender.requires_grad_(semantic is None)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The linear frame is right from the start; a full rate would tear it before the networks know anything."""
        groups: dict[float, list[Tensor]] = {}
        for name, parameter in self.coder.named_parameters():
            if parameter.requires_grad:
                part = BLOCKS_RATE if ".blocks." in name else SPECTRUM_RATE if ".spectrum." in name else 1.0
                groups.setdefault(part, []).append(parameter)
        return [
            {"params": group, "lr": part * self.learning_rate, "weight_decay": 1e-4 if part == 1 else 0.0}
            for part, group in groups.items()
        ]

    def step_loss(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Root mean square error of one batch of crops."""
        config = self.coder.config
        large = len(self.crops) > 1 and bool(torch.rand((), generator=generator) < LARGE_SHARE)
        crops = self.crops[large]
        count = max(1, self.batch * self.crops[0].size ** 2 // crops.size**2)
        images = crops.batch(count, generator)
        if self.semantic is None:
            vectors = torch.zeros(count, config.semantic_dim)
        else:
            with torch.no_grad():
                vectors = self.semantic(images)
            # Some frames lose their semantic layer; zero is the vector that says so.
            vectors[torch.rand(count, generator=generator) < SILENT_SHARE] = 0
        rates = (torch.tensor(list(RATE_SHARES)) * config.symbols // 32).clamp(min=1)
        rate = rates[torch.multinomial(torch.tensor(list(RATE_SHARES.values())), count, True, generator=generator)]
        decoded = send(self.coder, images, vectors, rate, generator)
        mse = (decoded - images).square().mean(dim=(1, 2, 3))
        # The root weighs a smooth crop and a busy one alike, as the mean of PSNRs does.
        return {"loss": (mse + 1e-5).sqrt().mean(), "psnr_db": -10 * mse.detach().log10().mean()}


def send(
    coder: AnalogCoder,
    images: Tensor,
    vectors: Tensor,
    rate: Tensor,
    generator: torch.Generator,
    snr_db: float | None = None,
) -> Tensor:
    """Images through the coder and the air; ``snr_db`` is that of plain noise, None mixes what a modem meets."""
    components = coder.sender(images)
    count, size = len(images), components[0].numel()
    sent = (torch.arange(components.shape[1]) < 2 * rate[:, None])[:, :, None, None]
    values = components * sent
    power = 2 * values.square().sum(dim=(1, 2, 3)) / (sent.sum(dim=(1, 2, 3)) * components[0, 0].numel())
    rms = power.sqrt().clamp(min=1e-9)
    octaves = (rms.log2() * STEPS_PER_OCTAVE).detach().round().clamp(-MIDDLE, 255 - MIDDLE) / STEPS_PER_OCTAVE
    gain = 2**octaves
    symbols = torch.complex(values[:, 0::2], values[:, 1::2]).reshape(count, -1) / rms[:, None]
    estimates, noise = air(torch.fft.fft(symbols, norm="ortho"), generator, snr_db)
    estimates = torch.fft.ifft(estimates, norm="ortho")
    estimates = estimates * ((1 + noise) * gain)[:, None]
    parts = estimates.reshape(count, -1, *components.shape[2:])
    received = torch.stack((parts.real, parts.imag), dim=2).flatten(1, 2) * sent
    state = torch.stack((noise.log(), 2 * gain.log(), rate.float()), dim=1)
    return coder.receiver(received, vectors, state)


def air(symbols: Tensor, generator: torch.Generator, snr_db: float | None = None) -> tuple[Tensor, Tensor]:
    """Linear estimates of symbols complex64 [N, n] of unit power, and the noise on each as the receiver thinks, [N]."""
    count, size = symbols.shape
    white = torch.view_as_complex(torch.randn(count, size, 2, generator=generator) * math.sqrt(0.5))
    if snr_db is not None:
        noise = torch.full((count,), 10 ** (-snr_db / 10))
        return (symbols + white * noise.sqrt()[:, None]) / (1 + noise[:, None]), noise
    low, high = SNRS_DB
    noise = 10 ** (-(low + (high - low) * torch.rand(count, 1, generator=generator)) / 10)
    clipped = torch.rand(count, generator=generator) < CLIPPED_SHARE
    if clipped.any():
        symbols = symbols.clone()
        papr_db = 3 + 5 * torch.rand(int(clipped.sum()), 1, 1, generator=generator)
        symbols[clipped] = clip(symbols[clipped], papr_db, generator)
    fades = torch.rand(count, 1, generator=generator) < FADING_SHARE
    noise_each = torch.where(fades, noise / selective(count, size, generator), noise)
    estimates = (symbols + white * noise_each.sqrt()) / (1 + noise_each)
    error = (noise_each / (1 + noise_each)).mean(dim=1)
    known = error / (1 - error).clamp(min=1e-6)
    return estimates, known * 10 ** (SNR_ERROR_DB / 10 * torch.randn(count, generator=generator))


def selective(count: int, size: int, generator: torch.Generator, taps: int = 4, carriers: int = 48) -> Tensor:
    """Gains of symbols spread over the carriers of a Rayleigh channel of mean power 1: float32 [count, size]."""
    profile = torch.exp(-torch.arange(taps) / 1.5)
    shape = torch.randn(count, taps, 2, generator=generator) * (profile / profile.sum() / 2).sqrt()[:, None]
    response = torch.fft.fft(torch.view_as_complex(shape), carriers).abs().square().clamp(min=1e-3)
    where = torch.randint(carriers, (size,), generator=generator)
    return response[:, where]


def clip(symbols: Tensor, papr_db: Tensor, generator: torch.Generator, carriers: int = 48, passes: int = 2) -> Tensor:
    """OFDM symbols clipped as by :func:`crlsc_phy.phy.papr.clip_and_filter`, differentiable."""
    count, size = symbols.shape
    # The modem spreads neighbours over the block.
    order = torch.randperm(size, generator=generator)
    rows = torch.nn.functional.pad(symbols[:, order], (0, -size % carriers)).reshape(count, -1, carriers)
    level = (10 ** (papr_db / 10) / 4).sqrt()
    for _ in range(passes):
        samples = torch.fft.ifft(rows, 4 * carriers, norm="ortho")
        samples = samples * (level / samples.abs().clamp(min=1e-9)).clamp(max=1)
        rows = torch.fft.fft(samples, norm="ortho")[..., :carriers]
    rows = rows / rows.abs().square().mean(dim=(1, 2), keepdim=True).sqrt()
    back = torch.empty_like(symbols)
    back[:, order] = rows.flatten(1)[:, :size]
    return back
