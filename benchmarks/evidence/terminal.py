"""A terminal of the unseen vendor: its pictures, its labels, and networks that it trains without the knowledge base."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from common import UNSEEN, Lab, planes
from lightly.loss import NTXentLoss
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from crlsc_phy.data import open_images
from crlsc_phy.data.pictograms import NAMES
from crlsc_phy.semantic.encoder import EncoderConfig, LocalEncoder
from crlsc_phy.train.encoder import alter
from crlsc_phy.train.pictures import SIDE

FEWEST = 20
"""Pictures of a kind, below which it is no class."""
BATCH = 64


@dataclass(frozen=True)
class Terminal:
    """Pictures of things by their Unicode subcategory, half of each class to label and half to test with.

    Attributes:
        images: uint8 [N, 3, S, S].
        targets: int64 [N], the class of each.
        classes: Names of the classes.
        test: Rows of the test half, the same with every seed.
        others: uint8 [M, 3, S, S], all pictures of the terminal but the test half; no labels are known of them.
    """

    images: Tensor
    targets: Tensor
    classes: tuple[str, ...]
    test: NDArray[np.int64]
    others: Tensor

    def labelled(self, count: int, seed: int) -> NDArray[np.int64]:
        """Draw rows of ``count`` labelled pictures a class, all if 0; more labels contain those of fewer."""
        rows = np.setdiff1d(np.arange(len(self.targets)), self.test)
        rows = np.random.default_rng(seed).permutation(rows)
        parts = [rows[self.targets.numpy()[rows] == target] for target in range(len(self.classes))]
        return np.concatenate([part[:count] if count else part for part in parts])


def subcategories(data: Path) -> dict[str, str]:
    """Return the Unicode subcategory of each code point, such as ``animal-mammal``."""
    path = data / "cache" / NAMES / "package/emoji.json"
    return {each["unified"].lower(): each["subcategory"] for each in json.loads(path.read_text(encoding="utf-8"))}


def open_terminal(lab: Lab) -> Terminal:
    """Open the terminal of the unseen vendor."""
    things, kinds = open_images(UNSEEN, lab.data), subcategories(lab.data)
    of_picture = np.array([kinds[key] for key in things.keys])
    names, counts = np.unique(of_picture, return_counts=True)
    classes = names[counts >= FEWEST]
    rows = np.flatnonzero(np.isin(of_picture, classes))
    targets = np.searchsorted(classes, of_picture[rows])
    rng = np.random.default_rng(0)
    halves = [rng.permutation(np.flatnonzero(targets == target)) for target in range(len(classes))]
    test = np.sort(np.concatenate([half[: len(half) // 2] for half in halves]))
    everything = open_images(UNSEEN.replace("things", "pictograms"), lab.data)
    tested = {things.keys[row] for row in rows[test]}
    others = [row for row, key in enumerate(everything.keys) if key not in tested]
    return Terminal(
        planes(things.squares(SIDE)[rows]),
        torch.from_numpy(targets),
        tuple(classes.tolist()),
        test,
        planes(everything.squares(SIDE)[others]),
    )


def new_encoder(config: EncoderConfig, pretrained: bool) -> LocalEncoder:
    """Make a network of an encoder's sizes, its trunk random or with ImageNet's weights."""
    encoder = LocalEncoder(config)
    if pretrained:
        encoder.start_from_wheel()
    encoder.to(memory_format=torch.channels_last)
    return encoder


class Pooled(nn.Module):
    """The features before an encoder's last layer: images float32 [N, 3, P, P] in 0..1 to float32 [N, channels].

    Args:
        encoder: The encoder.
        with_head: Whether its head comes after the trunk; ImageNet's weights have none.
    """

    def __init__(self, encoder: LocalEncoder, with_head: bool = True) -> None:
        super().__init__()
        self.trunk = encoder.trunk
        self.head = encoder.head if with_head else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.head(self.trunk(image * 2 - 1)).mean(dim=(2, 3))
        return features


def train_for(
    network: nn.Module, loss_of: Callable[[torch.Generator], Tensor], cpu_seconds: float, seed: int, rate: float = 1e-3
) -> int:
    """Train until a CPU time is spent: AdamW, warm-up, half a cosine down over that time.

    Args:
        network: The network, trained in place.
        loss_of: The loss of a batch that it draws with the generator.
        cpu_seconds: CPU time of this process to spend; one step is taken in any case.
        seed: Seed of the batches.
        rate: Highest learning rate.

    Returns:
        The number of steps.
    """
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=1e-4)
    network.train()
    started, steps, spent = time.process_time(), 0, 0.0
    while steps == 0 or spent < cpu_seconds:
        part = spent / max(cpu_seconds, 1e-9)
        for group in optimiser.param_groups:
            group["lr"] = rate * min((steps + 1) / 5, 0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * min(part, 1.0))))
        loss = loss_of(generator)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        steps, spent = steps + 1, time.process_time() - started
    network.eval()
    return steps


def train_classifier(
    features: nn.Module,
    config: EncoderConfig,
    images: Tensor,
    targets: Tensor,
    classes: int,
    cpu_seconds: float,
    seed: int,
) -> tuple[nn.Module, int]:
    """Train ``features`` and a linear head on altered views of labelled pictures.

    Returns:
        Images float32 [N, 3, P, P] to logits float32 [N, C], and the number of steps.
    """
    network = nn.Sequential(features, nn.Linear(config.width, classes))

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(images), (BATCH,), generator=generator)
        views = alter(images[rows].float() / 255, config.pixels, generator)
        return F.cross_entropy(network(views), targets[rows])

    return network, train_for(network, loss_of, cpu_seconds, seed)


def train_simclr(network: nn.Module, pixels: int, images: Tensor, cpu_seconds: float, seed: int) -> int:
    """Train a network on two altered views of unlabelled pictures (SimCLR, Chen et al. 2020); returns the steps."""
    # SimCLR's own choice for few negatives, table 5.
    contrast = NTXentLoss(temperature=0.1)

    def loss_of(generator: torch.Generator) -> Tensor:
        picked = images[torch.randint(len(images), (BATCH,), generator=generator)].float() / 255
        pairs = torch.cat([alter(picked, pixels, generator) for _ in range(2)])
        loss: Tensor = contrast(*network(pairs).chunk(2))
        return loss

    return train_for(network, loss_of, cpu_seconds, seed)


@torch.inference_mode()
def outputs(network: nn.Module, images: Tensor, pixels: int) -> Tensor:
    """Return a network's outputs for pictures uint8 [N, 3, S, S], resized to a side of ``pixels``."""
    return torch.cat(
        [
            network(F.interpolate(part.float() / 255, (pixels, pixels), mode="bilinear", antialias=True))
            for part in torch.split(images, BATCH)
        ]
    )


@torch.inference_mode()
def views(network: nn.Module, images: Tensor, pixels: int, count: int, seed: int) -> Tensor:
    """Return a network's outputs for pictures as they are and for ``count - 1`` altered views, one after another."""
    generator = torch.Generator().manual_seed(seed)
    found = [outputs(network, images, pixels)]
    for _ in range(count - 1):
        parts = [alter(part.float() / 255, pixels, generator) for part in torch.split(images, BATCH)]
        found.append(torch.cat([network(part) for part in parts]))
    return torch.cat(found)
