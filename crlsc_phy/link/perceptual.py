"""LPIPS, where its package and its weights are."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from crlsc_phy.images import UInt8Image

__all__ = ["lpips"]

_BACKBONE = "alexnet-owt-7be5be79.pth"


def lpips(a: UInt8Image, b: UInt8Image) -> float | None:
    """Learned perceptual distance of two uint8 images [H, W, 3] of one size, by AlexNet; 0 for equal ones.

    R. Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018. It needs the
    package ``lpips``, and AlexNet's weights as torchvision has them in the cache of ``torch.hub``; nothing is fetched.

    Returns:
        None where package or weights are missing.
    """
    network = _network()
    if network is None:
        return None
    import torch

    x, y = (torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None] / 127.5 - 1 for image in (a, b))
    with torch.inference_mode():
        return float(network(x, y))


@lru_cache(maxsize=1)
def _network() -> Any:
    try:
        import lpips as package
        import torch
    except ImportError:
        return None
    if not (Path(torch.hub.get_dir()) / "checkpoints" / _BACKBONE).is_file():
        return None
    return package.LPIPS(net="alex", verbose=False).eval()
