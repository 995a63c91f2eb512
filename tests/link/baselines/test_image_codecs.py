import io

import numpy as np
import pytest
from PIL import Image

from crlsc_phy.errors import SweepError
from crlsc_phy.images import fit_within
from crlsc_phy.link.baselines.fitting import Fitting
from crlsc_phy.link.baselines.image_codecs import CODECS, image_codec
from crlsc_phy.quality.metrics import psnr_db


@pytest.fixture(scope="module")
def picture(photo):
    return fit_within(photo, 96)


def codec_or_skip(name):
    try:
        return image_codec(name)
    except SweepError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", CODECS)
def test_a_file_comes_back_whole_from_what_is_sent_of_it(name, picture):
    codec = codec_or_skip(name)
    whole, stripped = (codec.encode(picture, 60, stripped) for stripped in (False, True))
    assert whole.sent == whole.file
    assert stripped.size == len(stripped.sent) < len(stripped.file)
    # What both ends know is not what was sent: the receiver's file comes from the bytes that it got.
    blank = type(stripped)(stripped.file.replace(stripped.sent[-40:], bytes(40)), stripped.spans)
    assert blank.file != stripped.file
    assert blank.restored(stripped.sent) == stripped.file
    assert psnr_db(picture, codec.decode(stripped.file)) > 28


@pytest.mark.parametrize("name", CODECS)
def test_no_byte_that_is_left_out_depends_on_what_a_picture_of_a_size_shows(name, picture):
    """Else stripping would give the receiver a part of the picture for nothing."""
    codec = codec_or_skip(name)
    other = np.ascontiguousarray(picture[::-1, ::-1] // 2)
    # JPEG's quantisation tables follow from the quality, which both ends know.
    first, second = codec.encode(picture, 60, True), codec.encode(other, 60 if name == "jpeg" else 30, True)
    assert first.sent != second.sent
    assert without_lengths(name, first) == without_lengths(name, second)


def without_lengths(name, coded):
    """The container, but for the fields that hold the length of what is sent."""
    kept = bytearray(coded.file)
    for start, stop in reversed(coded.spans):
        del kept[start:stop]
    if name == "jpeg":
        return bytes(kept)
    if name == "webp":
        return bytes(kept[:4] + kept[8:16])
    iloc = kept.index(b"iloc")
    size = int.from_bytes(kept[iloc - 4 : iloc], "big")
    mdat = kept.index(b"mdat")
    return bytes(kept[:iloc] + kept[iloc - 4 + size : mdat - 4])


def test_jpeg_counts_huffman_tables_that_are_not_the_standards(picture):
    codec = image_codec("jpeg")
    own, standard = codec.files(picture, 60)
    (*tables, _), (scan,) = codec.payload(own), codec.payload(standard)
    assert sum(stop - start for start, stop in tables) > 80
    assert all(own[start : start + 2] == b"\xff\xc4" for start, _ in tables)
    # The scan reaches from the header of SOS to EOI.
    assert standard[scan[0] - 14 : scan[0] - 12] == b"\xff\xda" and standard[scan[1] :] == b"\xff\xd9"


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_fitting_takes_the_highest_quality_within_the_bytes(name, picture):
    codec = image_codec(name)
    fitting = Fitting(codec, False, [picture])
    fitted = fitting.fit(0, 2500)
    sizes = {quality: codec.encode(picture, quality, False).size for quality in range(codec.lowest, 101)}
    best = max(quality for quality, size in sizes.items() if size <= 2500)
    assert fitted.coded.file == codec.encode(picture, best, False).file
    assert fitted.psnr_db == pytest.approx(psnr_db(picture, fitting.shown(0, fitted.coded.file)))


def test_fitting_halves_the_picture_where_that_is_better_and_gives_up_where_nothing_fits(picture):
    fitting = Fitting(image_codec("webp"), False, [picture])
    small = fitting.fit(0, 150)
    assert small.coded.size <= 150
    assert max(Image.open(io.BytesIO(small.coded.file)).size) < max(picture.shape)
    assert fitting.shown(0, small.coded.file).shape == picture.shape
    rising = [fitting.fit(0, size).psnr_db for size in (100, 150, 300, 600, 1200)]
    assert rising == sorted(rising)
    assert fitting.fit(0, 20) is None


def test_a_codec_that_is_not_there_is_named_and_not_replaced(monkeypatch):
    with pytest.raises(SweepError, match=r"image codec 'bpg' is unknown; choose one of jpeg, webp, avif, heic"):
        image_codec("bpg")
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    image_codec.cache_clear()
    with pytest.raises(SweepError, match=r"heic needs pillow-heif; pip install 'crlsc-phy\[baselines\]'"):
        image_codec("heic")
