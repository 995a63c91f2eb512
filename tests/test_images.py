"""Images at the doors."""

import numpy as np
import pytest
from PIL import Image

from crlsc_phy.errors import ImageError
from crlsc_phy.images import (
    check_image,
    decode_image,
    find_images,
    fit_within,
    load_image,
    pad_to_stride,
    resize,
    save_png,
)


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (37, 50, 3), np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK", "1"])
def test_every_mode_loads_as_rgb(tmp_path, picture, mode):
    suffix = "tif" if mode == "CMYK" else "png"
    Image.fromarray(picture).convert("RGB").convert(mode).save(tmp_path / f"a.{suffix}")
    loaded = load_image(tmp_path / f"a.{suffix}")
    assert loaded.dtype == np.uint8
    assert loaded.shape == picture.shape


def test_png_round_trip(tmp_path, picture):
    save_png(tmp_path / "a.png", picture)
    assert np.array_equal(load_image(tmp_path / "a.png"), picture)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_transparency_is_laid_on_white(tmp_path):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert (load_image(tmp_path / "a.png") == 255).all()


def test_16_bit_is_scaled_not_clipped(tmp_path):
    Image.fromarray(np.full((8, 8), 32768, np.uint16)).save(tmp_path / "a.png")
    assert (load_image(tmp_path / "a.png") == 128).all()


@pytest.mark.parametrize("content", [None, b"", b"no image", b"\x89PNG\r\n\x1a\n cut"])
def test_an_unreadable_file_is_named(tmp_path, content):
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=r"broken\.png"):
        load_image(path)


def test_a_cut_off_file_is_named(tmp_path, picture):
    save_png(tmp_path / "a.png", picture)
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-2000])
    with pytest.raises(ImageError, match=r"a\.png"):
        load_image(tmp_path / "a.png")


def test_find_images(tmp_path, picture):
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "sub/a.png"):
        save_png(tmp_path / name, picture)
    (tmp_path / "notes.txt").write_text("no image")
    assert [path.name for path in find_images(tmp_path)] == ["b.png", "a.png"]


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(ImageError, match="holds no image"):
        find_images(tmp_path)
    with pytest.raises(ImageError, match="no such folder"):
        find_images(tmp_path / "absent")


@pytest.mark.parametrize("stride", [1, 8, 16])
def test_padding_keeps_the_image_and_reaches_the_stride(picture, stride):
    padded = pad_to_stride(picture, stride)
    assert all(side % stride == 0 for side in padded.shape[:2])
    assert np.array_equal(padded[:37, :50], picture)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3)), np.zeros((8, 0, 3), np.uint8)],
)
def test_wrong_arrays_are_refused(wrong):
    with pytest.raises(ImageError, match="image is"):
        check_image(wrong)


def test_resize_keeps_the_mean(picture):
    assert resize(picture, 19, 25).shape == (19, 25, 3)
    assert abs(float(resize(picture, 19, 25).mean()) - float(picture.mean())) < 2


@pytest.mark.parametrize(("longest", "shape"), [(100, (37, 50, 3)), (50, (37, 50, 3)), (25, (18, 25, 3))])
def test_fit_within_only_reduces(picture, longest, shape):
    assert fit_within(picture, longest).shape == shape


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
def test_damage_anywhere_is_an_image_error_or_nothing(tmp_path, picture, suffix):
    Image.fromarray(picture).save(tmp_path / f"a.{suffix}")
    whole = np.frombuffer((tmp_path / f"a.{suffix}").read_bytes(), np.uint8)
    generator = np.random.default_rng(0)
    outcomes = set()
    for _ in range(150):
        damaged = whole.copy()
        damaged[generator.integers(min(len(whole), 300), size=4)] = generator.integers(256, size=4)
        try:
            outcomes.add(decode_image(damaged.tobytes(), "a").ndim)
        except ImageError as error:
            assert "\n" not in str(error)
            outcomes.add("refused")
    assert "refused" in outcomes


def test_a_program_that_calls_itself_an_image_is_not_run(tmp_path):
    """Pillow would hand this to Ghostscript."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n%%EOF\n")
    with pytest.raises(ImageError, match="in no known format"):
        load_image(tmp_path / "a.png")
