"""What all tests share: the shipped bundle and the shipped pictures."""

from __future__ import annotations

import os
from pathlib import Path

# Two cores are shared by many small tests; one thread a library avoids fighting over them.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def bundle_folder() -> Path:
    return ROOT / "models/default"


@pytest.fixture(scope="session")
def image_folder() -> Path:
    return ROOT / "flowgraphs/images"


@pytest.fixture(scope="session")
def codec(bundle_folder):
    from crlsc_phy.codec import SemanticCodec

    return SemanticCodec.load(bundle_folder)


@pytest.fixture(scope="session")
def photo(image_folder) -> np.ndarray:
    """uint8 [255, 384, 3]."""
    from crlsc_phy.images import load_image

    return load_image(image_folder / "cat-face.jpg")
