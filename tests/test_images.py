"""Images at the doors."""

import io
import json
import struct

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
    read_heldout,
    read_labels,
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


RAMP = np.linspace(0, 255, 256).reshape(16, 16).round()


def tiff_of(pixels, sample_format):
    """A plain TIFF of one channel, for the types that Pillow reads and does not write."""
    height, width = pixels.shape
    tags = {256: width, 257: height, 258: 8 * pixels.itemsize, 259: 1, 262: 1, 277: 1, 278: height, 339: sample_format}
    tags |= {273: 8 + 2 + 12 * 10 + 4, 279: pixels.nbytes}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items())]
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4) + pixels.tobytes()


UNSIGNED, SIGNED, FLOAT = 1, 2, 3


@pytest.mark.parametrize(
    ("pixels", "sample_format"),
    [
        (RAMP.astype("<f4"), FLOAT),
        ((RAMP / 255).astype("<f4"), FLOAT),
        ((RAMP * 257).astype("<f4"), FLOAT),
        ((RAMP * 1e6).astype("<f4"), FLOAT),
        (RAMP.astype("<i4"), SIGNED),
        (RAMP.astype("<u4"), UNSIGNED),
        ((RAMP * 257).astype("<i4"), SIGNED),
        ((RAMP * 257).astype("<u4"), UNSIGNED),
        ((RAMP * (2**31 // 256)).astype("<i4"), SIGNED),
        ((RAMP * (2**32 // 256)).astype("<u4"), UNSIGNED),
        ((RAMP * 257).astype("<u2"), UNSIGNED),
        (RAMP.astype("u1"), UNSIGNED),
    ],
    ids=lambda value: f"{value.dtype} to {value.max():g}" if isinstance(value, np.ndarray) else "",
)
def test_grey_levels_of_any_type_and_range_are_scaled_to_8_bits(pixels, sample_format):
    loaded = decode_image(tiff_of(pixels, sample_format), "ramp")
    assert np.abs(loaded[..., 0].astype(int) - RAMP).max() <= 1


def test_a_range_is_not_stretched(tmp_path):
    """Dark pictures stay dark, and what a filter has left above white is white."""
    for value, dtype, expected in ((100, "<u2", 0), (0.1, "<f4", 26), (30, "<f4", 30), (30, "<i4", 30)):
        pixels = np.full((8, 8), value, dtype)
        Image.fromarray(pixels).save(tmp_path / "a.tif")
        assert (load_image(tmp_path / "a.tif") == expected).all()
    pixels = np.array([[-0.1, 0.5], [1.2, np.nan]], np.float32)
    assert decode_image(tiff_of(pixels, FLOAT), "a")[..., 0].tolist() == [[0, 128], [255, 0]]


def test_16_bit_greys_of_other_formats(tmp_path):
    for suffix in ("png", "ppm", "jp2"):
        Image.fromarray(np.full((8, 8), 100 * 257, np.uint16)).save(tmp_path / f"a.{suffix}")
        assert (load_image(tmp_path / f"a.{suffix}") == 100).all()


def jpeg_with(entries, tail=b"", size=(96, 64)):
    """A JPEG whose left half is dark, with EXIF tags (tag, type, count, 4 bytes)."""
    pixels = np.full((size[1], size[0], 3), 200, np.uint8)
    pixels[:, : size[0] // 2] = 50
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHI", *each[:3]) + each[3] for each in entries)
    out = io.BytesIO()
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + ifd + bytes(4) + tail
    Image.fromarray(pixels).save(out, "JPEG", exif=exif)
    return out.getvalue()


def turned(orientation):
    return 0x112, 3, 1, struct.pack("<HH", orientation, 0)


@pytest.mark.parametrize("orientation", range(10))
def test_orientation_is_that_of_pillow(orientation):
    from PIL import ImageOps

    content = jpeg_with([turned(orientation)])
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert np.array_equal(decode_image(content, "a"), expected)


@pytest.mark.parametrize(
    ("entries", "tail"),
    [
        ([(0x10F, 5, 1, struct.pack("<I", 38)), turned(6)], struct.pack("<II", 1, 2)),
        ([turned(6), (282, 2, 4, b"72 \0")], b""),
        ([turned(6), (282, 10, 1, struct.pack("<I", 38))], struct.pack("<ii", -5, 1)),
        ([turned(6), (0x100, 11, 1, struct.pack("<f", 96.0))], b""),
        ([turned(6), (0x100, 9, 1, struct.pack("<i", -7))], b""),
        ([turned(6), (0x8769, 4, 1, struct.pack("<I", 99999))], b""),
    ],
)
def test_odd_tags_beside_the_orientation_do_no_harm(entries, tail):
    image = decode_image(jpeg_with(entries, tail), "a")
    assert image.shape == (96, 64, 3)
    assert image[:40].max() < 100 < image[-40:].min()


@pytest.mark.parametrize("value", [b"six\0", struct.pack("<f", 6.0), struct.pack("<i", -6)])
def test_an_orientation_of_another_type_is_read_or_ignored(value):
    kind = {b"six\0": 2}.get(value, 11 if value == struct.pack("<f", 6.0) else 9)
    count = 4 if kind == 2 else 1
    assert decode_image(jpeg_with([(0x112, kind, count, value)]), "a").size == 96 * 64 * 3


def test_index_json_as_editors_and_people_write_it(tmp_path):
    entries = [
        {"file": "a.png", "label": "owl", "also": "bird"},
        {"file": "b.png", "label": "", "also": ["sea", 7, None, ["x"]]},
        {"file": "c.png", "also": {"not": "a list"}, "heldout": True},
        {"file": "d.png", "label": 5},
        "not an entry",
    ]
    for mark in (b"", b"\xef\xbb\xbf"):
        (tmp_path / "index.json").write_bytes(mark + json.dumps(entries).encode())
        labels = {"a.png": ["owl", "bird"], "b.png": ["sea", "7"], "c.png": [], "d.png": ["5"]}
        assert read_labels(tmp_path) == read_labels(tmp_path / "a.png") == labels
        assert read_heldout(tmp_path) == {"c.png"}


@pytest.mark.parametrize("content", [b"", b"\xff", b"{}", b"[" * 100_000, b"5", None])
def test_an_index_json_that_is_none_has_no_labels(tmp_path, content):
    if content is not None:
        (tmp_path / "index.json").write_bytes(content)
    assert read_labels(tmp_path) == {}


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
