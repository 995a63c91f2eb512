"""What all tests share: the shipped bundle and the shipped pictures."""

from __future__ import annotations

import os
import shutil
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


@pytest.fixture(scope="session")
def learned_bundle(bundle_folder, photo, tmp_path_factory) -> Path:
    """The shipped bundle with a tiny analog coder, made for one photograph and not trained."""
    import json
    from dataclasses import asdict

    import torch

    from crlsc_phy.bundle import BUNDLE_FORMAT
    from crlsc_phy.data import CropSampler
    from crlsc_phy.manifest import write_manifest
    from crlsc_phy.semantic.analog_coder import AnalogCoder, AnalogConfig
    from crlsc_phy.train.analog import export_coder

    folder = shutil.copytree(bundle_folder, tmp_path_factory.mktemp("learned") / "bundle")
    config = AnalogConfig(narrow=4, wide=4, receiver_blocks=1)
    coder = AnalogCoder(config)
    coder.start_linear(CropSampler([photo], None).batch(300, torch.Generator().manual_seed(0)))
    export_coder(coder, folder)
    content = json.loads((folder / "manifest.json").read_text())
    content["config"]["analog"] = asdict(config)
    del content["files"], content["format"]
    write_manifest(folder, BUNDLE_FORMAT, content, apart="skb")
    return folder


@pytest.fixture(scope="session")
def finished_sweep(bundle_folder, image_folder, tmp_path_factory) -> Path:
    from small_sweep import run_small_sweep

    folder = tmp_path_factory.mktemp("sweep")
    run_small_sweep(folder, bundle_folder, image_folder)
    return folder


@pytest.fixture
def sweep_folder(finished_sweep, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(finished_sweep, tmp_path / "run"))
