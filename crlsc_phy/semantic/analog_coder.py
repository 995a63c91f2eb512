"""Networks of learned analog detail: one coder of images as complex symbols for all SNRs and rates.

    image -> blocks' components + what a network adds -> DCT over positions -> emphasis -> scaled symbols
                                                                                              | air
    image <- blocks + what a network adds <- DCT back <- weighed by what noise leaves <- received symbols
                               semantic vector, noise, scale, rate -> FiLM --^

The frame is the best linear code for a stationary source (K.-H. Lee and D. P. Petersen, "Optimal linear coding for
vector channels", IEEE Trans. Communications 1976). It has the components of 8 x 8 blocks (Karhunen-Loeve) and the
spectrum of each over the positions, amplitudes by variance^(-1/4) at the sender, and the least-squares weight at the
receiver. The DCT over the whole picture removes what neighbouring blocks have in common; that gains 2 dB over blocks
alone.

The networks start at zero and learn what a linear code cannot do, as in DeepJSCC (E. Bourtsoulatze et al., "Deep joint
source-channel coding for wireless image transmission", IEEE Trans. Cognitive Communications and Networking 2019).
Components are sent strongest first, so that the first of them are a coarser picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crlsc_phy.semantic.detail import STRIDE, ResidualBlock, to_stride_8, zero

__all__ = ["AnalogCoder", "AnalogConfig", "AnalogReceiver", "AnalogSender"]

_PIXELS = 3 * STRIDE**2


@dataclass(frozen=True)
class AnalogConfig:
    """Sizes of the analog coder.

    Attributes:
        semantic_dim: Size of the semantic vector that conditions the receiver.
        symbols: Complex symbols for 8 x 8 pixels at the highest rate, M.
        narrow, wide: Channels at stride 4 and at stride 8.
        sender_blocks, receiver_blocks: Number of residual blocks at stride 8.
    """

    semantic_dim: int = 64
    symbols: int = 32
    narrow: int = 64
    wide: int = 128
    sender_blocks: int = 1
    receiver_blocks: int = 3


class Spectrum(nn.Module):
    """Variances of the components' DCT: ``e^a (1 + e^p f_v^2 + e^q f_h^2)^-c`` at frequency f; means have their own."""

    def __init__(self, components: int) -> None:
        super().__init__()
        self.shape = nn.Parameter(torch.zeros(4, components))
        # The mean brightness has other statistics than the rest, and takes power from it.
        self.mean = nn.Parameter(torch.zeros(components))

    def forward(self, height: int, width: int) -> Tensor:
        """Return the natural logarithm of the variances at ``height`` x ``width`` positions, float32 [K, h, w]."""
        vertical = torch.arange(height, dtype=torch.float32, device=self.shape.device) / height
        horizontal = torch.arange(width, dtype=torch.float32, device=self.shape.device) / width
        level, down, across, slope = self.shape[:, :, None, None]
        falls = 1 + down.exp() * vertical[:, None] ** 2 + across.exp() * horizontal**2
        constant = ((vertical == 0)[:, None] & (horizontal == 0)).float()
        logarithm: Tensor = level - slope * falls.log() + self.mean[:, None, None] * constant
        return logarithm

    def follow(self, variances: Tensor, rounds: int = 400) -> None:
        """Fit the shape to measured variances, float32 [K, h, w], in ``rounds`` steps of Adam."""
        target = variances.clamp(min=1e-9).log()
        found = Spectrum(len(target))
        found.shape.data = torch.tensor([0.0, 4.0, 4.0, 1.0])[:, None].repeat(1, len(target))
        found.shape.data[0] = target.flatten(1).amax(dim=1)
        optimiser = torch.optim.Adam([found.shape], lr=0.05)
        for _ in range(rounds):
            optimiser.zero_grad()
            (found(*target.shape[1:]) - target).square().mean().backward()
            optimiser.step()
        self.load_state_dict(found.state_dict())


def cosines(count: int, device: torch.device | None = None) -> Tensor:
    """Return the matrix of the orthonormal DCT-II on ``device``: float32 [count, count], one row for each frequency."""
    place = torch.arange(count, dtype=torch.float32, device=device)
    frequency = place[:, None]
    # Whole turns are removed while numbers are whole: single precision loses the fraction of large angles.
    angle = torch.remainder((2 * place + 1) * frequency, 4 * count) * (torch.pi / (2 * count))
    return angle.cos() * (torch.where(frequency == 0, 1.0, 2.0) / count).sqrt()


class AnalogSender(nn.Module):
    """Network from images float32 [N, 3, H, W] in 0..1 to components float32 [N, 2 M, H/8, W/8], strongest first."""

    def __init__(self, config: AnalogConfig) -> None:
        super().__init__()
        components = 2 * config.symbols
        self.blocks = nn.Conv2d(_PIXELS, components, 1)
        self.narrow = to_stride_8(config.narrow, config.wide)
        self.wide = nn.Sequential(
            *(ResidualBlock(config.wide, config.wide // 2) for _ in range(config.sender_blocks)),
            nn.SiLU(),
            zero(nn.Conv2d(config.wide, components, 1)),
        )
        self.spectrum = Spectrum(components)

    def forward(self, image: Tensor) -> Tensor:
        centred = image - 0.5
        values = self.blocks(F.pixel_unshuffle(centred, STRIDE)) + self.wide(self.narrow(centred))
        height, width = values.shape[2:]
        waves: Tensor = cosines(height, image.device) @ values @ cosines(width, image.device).T
        sent: Tensor = waves * (-0.25 * self.spectrum(height, width)).exp()
        return sent


class AnalogReceiver(nn.Module):
    """Network from received components to images.

    The state of a frame has the natural logarithm of the noise power on a symbol of unit power, the natural logarithm
    of a symbol's power before scaling, and the rate in complex symbols for 8 x 8 pixels.
    """

    spread: Tensor

    def __init__(self, config: AnalogConfig) -> None:
        super().__init__()
        components, self.most = 2 * config.symbols, config.symbols
        self.spectrum = Spectrum(components)
        self.adaptivity = nn.Parameter(torch.tensor(0.5))
        self.blocks = nn.Conv2d(components, _PIXELS, 1)
        self.register_buffer("spread", torch.ones(components, 1, 1))
        wide, narrow = config.wide, config.narrow
        self.wide_films, self.narrow_films = [wide] * config.receiver_blocks, [2 * narrow] * 2
        films = sum(self.wide_films + self.narrow_films)
        look = nn.Linear(config.semantic_dim + 3, 128)
        # Vectors have no influence until the coder is trained with some.
        nn.init.zeros_(look.weight[:, : config.semantic_dim])
        self.film = nn.Sequential(look, nn.SiLU(), zero(nn.Linear(128, films)))
        self.enter = nn.Conv2d(2 * components, wide, 3, padding=1)
        self.wide = nn.ModuleList(ResidualBlock(wide, wide // 2) for _ in range(config.receiver_blocks))
        self.widen = nn.Sequential(nn.Conv2d(wide, 4 * narrow, 1), nn.PixelShuffle(2))
        self.look = nn.Conv2d(48, narrow, 3, padding=1)
        self.narrow = nn.ModuleList(ResidualBlock(narrow, narrow) for _ in range(2))
        self.leave = nn.Sequential(nn.SiLU(), zero(nn.Conv2d(narrow, 48, 3, padding=1)), nn.PixelShuffle(4))

    def forward(self, components: Tensor, semantic: Tensor, state: Tensor) -> Tensor:
        """Decode a batch.

        Args:
            components: Unbiased and in the sender's units, float32 [N, 2 M, h, w]; zero where they were not sent.
            semantic: Semantic vectors, float32 [N, S].
            state: float32 [N, 3].

        Returns:
            Images float32 [N, 3, 8 h, 8 w] in 0..1.
        """
        height, width = components.shape[2:]
        vertical, horizontal = cosines(height, components.device), cosines(width, components.device)
        noise, power, rate = state[:, :, None, None, None].unbind(1)
        log_variance = self.spectrum(height, width)
        order = torch.arange(2 * self.most, device=components.device)[:, None, None]
        sent = (order < 2 * rate).to(components.dtype)
        # A busier picture than usual has more of every component, but not in proportion.
        usual = 2 * (sent * (0.5 * log_variance).exp()).sum((1, 2, 3), True) / (2 * rate * height * width)
        busy = self.adaptivity * (power - usual.log())
        weight = sent * torch.sigmoid(0.5 * log_variance + busy - power - noise + math.log(2))
        waves = components * (0.25 * log_variance).exp() * weight
        values = vertical.T @ waves @ horizontal
        linear = F.pixel_shuffle(self.blocks(values), STRIDE)
        scaled = torch.cat((0.3 * noise, 0.3 * power, rate / self.most), dim=1)[:, :, 0, 0]
        films = self.film(torch.cat((semantic, scaled), dim=1)).split(self.wide_films + self.narrow_films, dim=1)
        # Beside the best estimate the networks see a sharper, noisier one, in which edges show.
        sharp = vertical.T @ (waves * weight.clamp(min=1e-6).rsqrt()) @ horizontal
        x = self.enter(torch.cat((values, sharp), dim=1) * torch.cat((self.spread, self.spread)))
        for block, film in zip(self.wide, films[: len(self.wide)], strict=True):
            x = block(x, film)
        x = self.widen(x) + self.look(F.pixel_unshuffle(linear, 4))
        for block, film in zip(self.narrow, films[len(self.wide) :], strict=True):
            x = block(x, film)
        image: Tensor = linear + self.leave(x) + 0.5
        return image


class AnalogCoder(nn.Module):
    """Sender and receiver together, for training."""

    def __init__(self, config: AnalogConfig) -> None:
        super().__init__()
        self.config = config
        self.sender = AnalogSender(config)
        self.receiver = AnalogReceiver(config)

    @torch.no_grad()
    def start_linear(self, images: Tensor) -> None:
        """Set the weights to the linear code for images float32 [N, 3, H, W] in 0..1; it takes thousands of them."""
        blocks = F.pixel_unshuffle(images - 0.5, STRIDE)
        flat = blocks.transpose(0, 1).flatten(1)
        _, vectors = torch.linalg.eigh(torch.cov(flat.double()))
        vectors = vectors.flip(1)[:, : 2 * self.config.symbols].float()
        for layer, weight in ((self.sender.blocks, vectors.T), (self.receiver.blocks, vectors)):
            layer.load_state_dict({"weight": weight[:, :, None, None], "bias": torch.zeros(len(weight))})
        values = self.sender.blocks(blocks)
        height, width = values.shape[2:]
        waves = cosines(height) @ values @ cosines(width).T
        with torch.enable_grad():
            self.sender.spectrum.follow(waves.square().mean(dim=0))
        self.receiver.spectrum.load_state_dict(self.sender.spectrum.state_dict())
        self.receiver.spread.copy_(values.square().mean(dim=(0, 2, 3)).pow(-0.25)[:, None, None])
