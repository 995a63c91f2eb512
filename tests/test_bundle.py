"""A damaged bundle is refused with one clear line."""

import json
import shutil

import pytest

from crlsc_phy.bundle import BUNDLE_FORMAT, OTHER_FILES, SHARED_FILES, Bundle
from crlsc_phy.errors import BundleError


@pytest.fixture
def copy(tmp_path, bundle_folder):
    return shutil.copytree(bundle_folder, tmp_path / "bundle")


def test_the_shipped_bundle_is_whole(bundle_folder):
    bundle = Bundle.load(bundle_folder)
    assert len(bundle.id) == 64
    assert len(bundle.shared_id) == 32
    assert len(bundle.knowledge) >= 2000
    assert bundle.knowledge.air_code.size == 16


@pytest.mark.parametrize("name", [*SHARED_FILES, *OTHER_FILES, "MODEL_CARD.md"])
def test_one_flipped_byte_is_noticed(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 3] ^= 4
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name}.* is damaged"):
        Bundle.load(copy)


@pytest.mark.parametrize("name", [*SHARED_FILES, *OTHER_FILES, "manifest.json"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing|holds no {name}"):
        Bundle.load(copy)


def test_a_newer_bundle_is_named(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"format": BUNDLE_FORMAT + 1}))
    with pytest.raises(BundleError, match=r"has format 2, this program reads up to 1; update"):
        Bundle.load(copy)


def test_a_manifest_that_leaves_a_file_out_is_refused(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["files"]["encoder.onnx"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"lacks encoder\.onnx"):
        Bundle.load(copy)


def test_no_folder_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match=r"holds no manifest\.json"):
        Bundle.load(tmp_path / "absent")
