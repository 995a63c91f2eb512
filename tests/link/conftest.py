from __future__ import annotations

import shutil
from pathlib import Path

import pytest


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
