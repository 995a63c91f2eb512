"""LPIPS, where its weights are installed."""

from __future__ import annotations

import os
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from crlsc_phy.images import UInt8Image

__all__ = ["lpips"]

_BACKBONE = "alexnet-owt-7be5be79.pth"


def lpips(a: UInt8Image, b: UInt8Image) -> float | None:
    """Return the learned perceptual distance of two images of one size, uint8 [H, W, 3], by AlexNet.

    R. Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018, version 0.1 of
    torchmetrics. AlexNet's weights must be in the folder where ``torch.hub`` keeps those of torchvision; they are not
    fetched.

    Returns:
        0 for equal images, more for different ones; None without the weights or without torchmetrics.
    """
    metric = _metric()
    if metric is None:
        return None
    import torch

    x, y = (torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None] / 127.5 - 1 for image in (a, b))
    with torch.inference_mode():
        return float(metric(x, y))


@lru_cache(maxsize=1)
def _metric() -> Any:
    if not (_hub() / "checkpoints" / _BACKBONE).is_file():
        return None
    try:
        from torchmetrics.image import LearnedPerceptualImagePatchSimilarity
    except ImportError:
        return None
    with warnings.catch_warnings():
        # torchmetrics calls torchvision in a deprecated way.
        warnings.simplefilter("ignore", UserWarning)
        return LearnedPerceptualImagePatchSimilarity(net_type="alex").eval()


def _hub() -> Path:
    """Return ``torch.hub.get_dir()`` without the seconds that it takes to import torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub"
