"""Features in shards: the same from one process, from two and from a Ray cluster, and none made twice."""

import os
import time

import numpy as np
import pytest
import torch

from crlsc_phy.errors import TrainingError
from crlsc_phy.semantic.teacher import load_tower
from crlsc_phy.train import embed as module
from crlsc_phy.train.embed import embed

PIXELS = 32


@pytest.fixture
def pictures(monkeypatch):
    """Ten, in shards of four."""
    monkeypatch.setattr(module, "SHARD", 4)
    return np.random.default_rng(0).integers(0, 256, (10, 40, 40, 3), np.uint8)


def test_shards_are_put_together_in_their_order(pictures, tmp_path):
    features = embed(pictures, "lite0", PIXELS, tmp_path)
    whole = load_tower("lite0", PIXELS)(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255)
    assert torch.allclose(features, whole, atol=1e-5)
    assert sorted(len(np.load(path)) for path in tmp_path.iterdir()) == [2, 4, 4]


def test_what_is_there_is_not_embedded_again(pictures, tmp_path):
    whole = embed(pictures, "lite0", PIXELS, tmp_path)
    newest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path != newest}
    newest.unlink()
    assert torch.allclose(embed(pictures, "lite0", PIXELS, tmp_path), whole, atol=1e-5)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    # All of it is there, so that not even the tower is loaded.
    assert torch.allclose(embed(pictures, "lite0", PIXELS, tmp_path, ray="nowhere:1"), whole, atol=1e-5)


def test_other_pictures_sizes_and_towers_have_shards_of_their_own(pictures, tmp_path):
    small = embed(pictures[:4], "lite0", PIXELS, tmp_path)
    large = embed(pictures[:4], "lite0", 2 * PIXELS, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert not torch.allclose(small, large, atol=1e-3)
    with pytest.raises(TrainingError, match="teacher 'lite1'"):
        embed(pictures[:4], "lite1", PIXELS, tmp_path)


@pytest.mark.slow
def test_two_processes_give_the_same(pictures, tmp_path):
    both = embed(pictures, "lite0", PIXELS, tmp_path / "two", jobs=2)
    assert torch.allclose(both, embed(pictures, "lite0", PIXELS, tmp_path / "one"), atol=1e-5)


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_and_is_gone_afterwards(pictures, tmp_path, capfd):
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'crlsc-phy[ray]'")
    there = embed(pictures, "lite0", PIXELS, tmp_path / "ray", jobs=2, ray="local")
    assert capfd.readouterr() == ("", "")
    assert torch.allclose(there, embed(pictures, "lite0", PIXELS, tmp_path / "one"), atol=1e-5)
    assert not ray.is_initialized()
    deadline = time.monotonic() + 20
    while _children() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert _children() == []


def test_a_cluster_that_is_not_there_is_named(pictures, tmp_path):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'crlsc-phy[ray]'")
    with pytest.raises(TrainingError, match=r"--ray 127\.0\.0\.1:1: no cluster answers there"):
        embed(pictures, "lite0", PIXELS, tmp_path, ray="127.0.0.1:1")


def _children() -> list[str]:
    """Names of this process's children that are ray's."""
    from pathlib import Path

    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parts = (folder / "stat").read_text().rpartition(")")
        except OSError:
            continue
        state, parent = parts[2].split()[:2]
        name = parts[0].partition("(")[2]
        if int(parent) == os.getpid() and state != "Z" and ("ray" in name or "gcs" in name):
            found.append(name)
    return found
