"""What all tests share: the shipped bundle and the shipped pictures."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

# Two cores are shared by many small tests; one thread a library avoids fighting over them.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what needs the tiny training: one process makes it while the other has tests that do not wait."""
    items.sort(key=lambda item: "trained" not in getattr(item, "fixturenames", ()))


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
def shared(tmp_path_factory, worker_id) -> Callable[[str, Callable[[Path], None]], Path]:
    """Folders that take long to make: one for all processes of a run, made by the first that asks for it."""
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent

    def share(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = base / f"shared-{name}", base / f"shared-{name}.done"
        with (base / f"shared-{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return share


@pytest.fixture(scope="session")
def learned_bundle(bundle_folder, photo, shared) -> Path:
    """The shipped bundle with a tiny analog coder, made for one photograph and not trained."""
    import json
    from dataclasses import asdict

    import torch

    from crlsc_phy.bundle import BUNDLE_FORMAT
    from crlsc_phy.data import CropSampler
    from crlsc_phy.manifest import write_manifest
    from crlsc_phy.semantic.analog_coder import AnalogCoder, AnalogConfig
    from crlsc_phy.train.analog import export_coder

    def make(folder: Path) -> None:
        bundle = shutil.copytree(bundle_folder, folder / "bundle")
        config = AnalogConfig(narrow=4, wide=4, receiver_blocks=1)
        coder = AnalogCoder(config)
        coder.start_linear(CropSampler([photo], None).batch(300, torch.Generator().manual_seed(0)))
        export_coder(coder, bundle, made=folder)
        content = json.loads((bundle / "manifest.json").read_text())
        content["config"]["analog"] = asdict(config)
        del content["files"], content["format"]
        write_manifest(bundle, BUNDLE_FORMAT, content, apart="skb")

    return shared("learned", make) / "bundle"


@pytest.fixture(scope="session")
def finished_sweep(bundle_folder, image_folder, shared) -> Path:
    from small_sweep import run_small_sweep

    return shared("sweep", lambda folder: run_small_sweep(folder / "sweep", bundle_folder, image_folder)) / "sweep"


@pytest.fixture
def sweep_folder(finished_sweep, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(finished_sweep, tmp_path / "run"))
