"""The server's part: the shared space, its air code and the shared knowledge base.

A linear head maps the frozen tower's features into the space. It is trained with open_clip's contrastive loss on
pairs of public images that show the same thing: the same pictogram drawn by two vendors. The shared knowledge base
holds one named vector an image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from open_clip.loss import ClipLoss
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from crlsc_phy.semantic.teacher import load_tower

__all__ = ["SpaceHead", "tower_features", "train_head"]

TEMPERATURE = 0.07
DROPOUT = 0.2


class SpaceHead(nn.Module):
    """Features float32 [N, F] to shared-space vectors float32 [N, D] of unit norm.

    Starts as the principal components of ``features``, which already keep near things near.
    """

    mean: Tensor

    def __init__(self, features: Tensor, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", features.mean(dim=0))
        self.linear = nn.Linear(features.shape[1], dim, bias=False)
        _, _, components = torch.linalg.svd(features - self.mean, full_matrices=False)
        self.linear.weight.data.copy_(components[:dim])

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.linear(F.dropout(features - self.mean, DROPOUT, self.training)), dim=1)


def tower_features(images: npt.NDArray[np.uint8], tower: str, pixels: int, cache: Path, batch: int = 64) -> Tensor:
    """Features of ``images`` uint8 [N, H, W, 3] as float32 [N, F], kept in the file ``cache``."""
    if cache.exists():
        return torch.from_numpy(np.load(cache, allow_pickle=False))
    network = load_tower(tower, pixels)
    stack = torch.from_numpy(images).permute(0, 3, 1, 2)
    parts = [network(part.float() / 255) for part in track(torch.split(stack, batch), f"{tower} at {pixels} px")]
    features = torch.cat(parts).clone()
    cache.parent.mkdir(parents=True, exist_ok=True)
    aside = cache.with_suffix(".part")
    with aside.open("wb") as file:
        np.save(file, features.numpy())
    aside.replace(cache)
    return features


def train_head(views: list[tuple[Tensor, Tensor]], dim: int, steps: int, seed: int) -> SpaceHead:
    """Train the head on pairs of images of the same thing.

    Args:
        views: For each image size the features of the two vendors, float32 [N, F] each, row by row the same thing.
            The sizes serve as augmentation.
        dim: Size of the space.
        steps: Full-batch steps.
        seed: Of the order and of dropout.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    head = SpaceHead(torch.cat([side for pair in views for side in pair]), dim).train()
    loss = ClipLoss()
    optimiser = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.05)
    for _ in range(steps):
        first, second = (views[i] for i in generator.integers(len(views), size=2))
        value = loss(head(first[0]), head(second[1]), torch.tensor(1 / TEMPERATURE))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    return head.eval()
