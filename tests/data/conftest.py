"""A folder of a user."""

from __future__ import annotations

from pathlib import Path

import pytest
from pictures import encoded, picture


@pytest.fixture
def classes(tmp_path) -> Path:
    """A folder of 60 pictures in three classes."""
    for seed in range(60):
        path = tmp_path / "own" / f"class-{seed % 3}" / f"{seed:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(seed)))
    return tmp_path / "own"
