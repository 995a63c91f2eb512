"""Networks of the detail layer: a residual VQ-VAE whose decoder is conditioned on the semantic vector.

    image -> analysis -> latent [D, H/8, W/8] -> L residual codebooks -> tokens -> latent -> synthesis -> image
                                                              semantic vector -> FiLM --^

With residual quantisation (N. Zeghidour et al., "SoundStream: an end-to-end neural audio codec", IEEE/ACM Trans. Audio,
Speech and Language Processing 2021, section III-C) any prefix of the levels is a coarser picture. The default 36 bits
for 8 x 8 pixels go where the block needs them, which one codebook at stride 4 cannot do. Codebooks follow their data by
exponential moving averages (A. van den Oord et al., "Neural discrete representation learning", NeurIPS 2017, appendix
A.1). There is no normalisation layer, which would remove the absolute brightness that PSNR measures. Residual branches
start at zero instead (H. Zhang et al., "Fixup initialization", ICLR 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

__all__ = ["DetailCoder", "DetailConfig", "ResidualCodebooks"]

STRIDE = 8


@dataclass(frozen=True)
class DetailConfig:
    """Sizes of the detail coder.

    Attributes:
        semantic_dim: Size of the semantic vector that conditions the decoder.
        latent_dim: Channels of the quantised latent.
        levels: Number of residual codebooks.
        codebook_bits: Bits of a token; a codebook has 2 to this power entries.
        narrow, wide: Channels at stride 4 and at stride 8.
    """

    semantic_dim: int = 64
    latent_dim: int = 32
    levels: int = 4
    codebook_bits: int = 9
    narrow: int = 64
    wide: int = 128


class ResidualBlock(nn.Module):
    """Residual block ``x + conv(silu(film(conv(x))))`` whose last convolution starts at zero."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, hidden, 3, padding=1)
        self.second = zero(nn.Conv2d(hidden, channels, 3, padding=1))

    def forward(self, x: Tensor, film: Tensor | None = None) -> Tensor:
        h = self.first(x)
        if film is not None:
            scale, shift = film[:, :, None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        out: Tensor = x + self.second(F.silu(h))
        return out


def zero(layer: nn.Module) -> nn.Module:
    """Set the parameters of a layer to zero, so that its contribution grows from nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def to_stride_8(narrow: int, wide: int) -> nn.Sequential:
    """Return layers from an image [N, 3, H, W] to ``wide`` channels [N, wide, H/8, W/8], by ``narrow`` at stride 4."""
    return nn.Sequential(
        nn.PixelUnshuffle(4),
        nn.Conv2d(48, narrow, 3, padding=1),
        ResidualBlock(narrow, narrow),
        nn.Conv2d(narrow, wide, 3, stride=2, padding=1),
    )


class Analysis(nn.Module):
    """Network from images float32 [N, 3, H, W] in 0..1 to latents float32 [N, D, H/8, W/8]."""

    def __init__(self, config: DetailConfig) -> None:
        super().__init__()
        self.narrow = to_stride_8(config.narrow, config.wide)
        self.wide = nn.Sequential(
            ResidualBlock(config.wide, config.wide // 2),
            ResidualBlock(config.wide, config.wide // 2),
            nn.SiLU(),
            nn.Conv2d(config.wide, config.latent_dim, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        latent: Tensor = self.wide(self.narrow(image - 0.5))
        return latent


class Synthesis(nn.Module):
    """Network from latents float32 [N, D, h, w] and vectors float32 [N, S] to images float32 [N, 3, 8h, 8w] in 0..1."""

    def __init__(self, config: DetailConfig) -> None:
        super().__init__()
        hidden = config.wide // 2
        self.film = nn.Sequential(nn.Linear(config.semantic_dim, 128), nn.SiLU(), zero(nn.Linear(128, 3 * 2 * hidden)))
        self.enter = nn.Conv2d(config.latent_dim, config.wide, 3, padding=1)
        self.wide = nn.ModuleList(ResidualBlock(config.wide, hidden) for _ in range(3))
        self.widen = nn.Sequential(nn.Conv2d(config.wide, 4 * config.narrow, 1), nn.PixelShuffle(2))
        self.narrow = nn.Sequential(
            ResidualBlock(config.narrow, config.narrow),
            ResidualBlock(config.narrow, config.narrow),
            nn.Conv2d(config.narrow, config.narrow, 3, padding=1),
            nn.PixelShuffle(2),
        )
        fine = config.narrow // 4
        self.leave = nn.Sequential(
            ResidualBlock(fine, 2 * fine), nn.SiLU(), nn.Conv2d(fine, 12, 3, padding=1), nn.PixelShuffle(2)
        )

    def forward(self, latent: Tensor, semantic: Tensor) -> Tensor:
        x = self.enter(latent)
        for block, film in zip(self.wide, self.film(semantic).chunk(3, dim=1), strict=True):
            x = block(x, film)
        image: Tensor = self.leave(self.narrow(self.widen(x))) + 0.5
        return image


class ResidualCodebooks(nn.Module):
    """Stack of codebooks, each of which quantises the residual of those before it.

    Args:
        config: Sizes.
        decay: Factor of the moving averages for each step.

    Attributes:
        codebooks: float32 [L, K, D].
    """

    codebooks: Tensor
    usage: Tensor
    sums: Tensor
    ready: Tensor

    def __init__(self, config: DetailConfig, decay: float = 0.99) -> None:
        super().__init__()
        shape = (config.levels, 1 << config.codebook_bits, config.latent_dim)
        self.decay = decay
        self.register_buffer("codebooks", torch.zeros(shape))
        self.register_buffer("usage", torch.ones(shape[:2]))
        self.register_buffer("sums", torch.zeros(shape))
        self.register_buffer("ready", torch.tensor(False))

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Quantise vectors [N, D] into indices int64 [N, L] and the chosen entries float32 [N, L, D].

        In training mode the codebooks move toward the data, and idle entries are moved onto it.
        """
        # Under autocast the vectors come in half precision; codebooks and their averages are single.
        residual, indices, chosen = vectors.float(), [], []
        for level, codebook in enumerate(self.codebooks):
            if self.training and not self.ready:
                self._place(level, residual)
            index = torch.cdist(residual, codebook).argmin(dim=1)
            entry = codebook[index].clone()
            if self.training:
                self._follow(level, residual, index)
            residual = residual - entry
            indices.append(index)
            chosen.append(entry)
        if self.training:
            self.ready.fill_(True)
        return torch.stack(indices, dim=1), torch.stack(chosen, dim=1)

    @torch.no_grad()
    def _place(self, level: int, vectors: Tensor) -> None:
        """Initialise a codebook by k-means on the first batch (Lloyd's algorithm, 10 rounds)."""
        size = self.codebooks.shape[1]
        centroids = vectors[torch.randint(len(vectors), (size,))].clone()
        for _ in range(10):
            index = torch.cdist(vectors, centroids).argmin(dim=1)
            counts = torch.bincount(index, minlength=size).clamp(min=1)
            sums = torch.zeros_like(centroids).index_add_(0, index, vectors)
            centroids = torch.where(sums.abs().sum(1, keepdim=True) > 0, sums / counts[:, None], centroids)
        self.codebooks[level] = centroids
        self.sums[level] = centroids

    @torch.no_grad()
    def _follow(self, level: int, vectors: Tensor, index: Tensor) -> None:
        size = self.codebooks.shape[1]
        counts = torch.bincount(index, minlength=size).to(vectors.dtype)
        sums = torch.zeros_like(self.sums[level]).index_add_(0, index, vectors)
        if distributed.is_initialized():
            distributed.all_reduce(counts)
            distributed.all_reduce(sums)
        everyone = float(counts.sum())
        self.usage[level].mul_(self.decay).add_(counts, alpha=1 - self.decay)
        self.sums[level].mul_(self.decay).add_(sums, alpha=1 - self.decay)
        idle = self.usage[level] < 0.02 * everyone / size
        if idle.any():
            fresh = vectors[torch.randint(len(vectors), (int(idle.sum()),))]
            self.usage[level][idle] = everyone / size * 0.1
            self.sums[level][idle] = fresh * self.usage[level][idle][:, None]
        self.codebooks[level] = self.sums[level] / self.usage[level][:, None]


class DetailCoder(nn.Module):
    """Analysis, codebooks and synthesis together, for training."""

    def __init__(self, config: DetailConfig) -> None:
        super().__init__()
        self.config = config
        self.analysis = Analysis(config)
        self.quantiser = ResidualCodebooks(config)
        self.synthesis = Synthesis(config)

    def forward(
        self, image: Tensor, semantic: Tensor, keep: Tensor | None = None, flips: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Code and decode a batch.

        Args:
            image: float32 [N, 3, H, W] in 0..1, sides multiples of 8.
            semantic: Semantic vectors, float32 [N, S].
            keep: bool [N, L, H/8, W/8], False where a token is lost; None keeps all.
            flips: int64 [N, L, H/8, W/8], mask of the bits of each token that are flipped; None for none.

        Returns:
            The decoded images, float32 [N, 3, H, W], and the commitment loss, a scalar.
        """
        latent = self.analysis(image).float()
        n, d, h, w = latent.shape
        flat = latent.permute(0, 2, 3, 1).reshape(-1, d)
        indices, entries = self.quantiser(flat.detach())
        commitment = F.mse_loss(flat, entries.sum(dim=1))
        if flips is not None:
            wrong = indices ^ flips.permute(0, 2, 3, 1).reshape(indices.shape)
            entries = torch.stack([book[wrong[:, level]] for level, book in enumerate(self.quantiser.codebooks)], dim=1)
        full = entries.sum(dim=1)
        # Straight-through: the gradient passes the quantiser as if it were not there.
        error = (full - flat).detach()
        if keep is None:
            received = flat + error
        else:
            kept = keep.permute(0, 2, 3, 1).reshape(-1, entries.shape[1], 1).to(entries.dtype)
            part = (entries * kept).sum(dim=1)
            # Where every token is lost nothing of the latent may leak through.
            received = flat * kept[:, 0] + (part - flat * kept[:, 0]).detach()
        received = received.reshape(n, h, w, d).permute(0, 3, 1, 2)
        return self.synthesis(received, semantic), commitment
