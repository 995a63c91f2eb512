import numpy as np
import pytest

from crlsc_phy.quality.records import EXACT_PSNR_DB, ImageRecord, summarise
from crlsc_phy.report.gallery import (
    CARD_HEIGHT,
    CARD_WIDTH,
    GAP,
    MARGIN,
    PADDING,
    THUMB,
    TITLE_HEIGHT,
    GalleryEntry,
    draw_gallery,
    gallery_size,
)

NEIGHBOURS = [{"label": "cat", "name": "google/1f408", "score": 0.81}] * 3


def entry(index: int, **changes: object) -> GalleryEntry:
    record = ImageRecord(
        index, f"picture {index}", 48, 64, ["cat"], True, label="cat", neighbours=NEIGHBOURS, psnr_db=27.1
    )
    for name, value in changes.items():
        setattr(record, name, value)
    image = np.full((48, 64, 3), 200, np.uint8)
    return GalleryEntry(record, image, image if record.received else None)


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(0, 2, 1), (1, 2, 1), (3, 3, 1), (5, 3, 2), (16, 4, 4), (17, 4, 5)]
)
def test_size_follows_the_number_of_cards(count, columns, rows):
    picture = draw_gallery([entry(i) for i in range(count)], "A run")
    assert picture.dtype == np.uint8
    assert picture.shape[1::-1] == gallery_size(count)
    assert picture.shape[1] // CARD_WIDTH == columns
    assert picture.shape[0] // CARD_HEIGHT == rows


@pytest.mark.parametrize(
    "changes",
    [
        {"received": False, "reason": "a very long reason " * 20},
        {"label": None, "neighbours": []},
        {"label": "a label that does not fit its line " * 5},
        {"true_labels": []},
        {"detail_ok": False},
        {"true_labels": ["dog"]},
        {"name": ""},
    ],
)
def test_every_fate_has_a_card_of_the_same_size(changes):
    plain = draw_gallery([entry(0)], "A run")
    other = draw_gallery([entry(0, **changes)], "A run")
    assert other.shape == plain.shape
    assert not np.array_equal(other, plain)


def test_letters_with_accents_are_drawn_without():
    accented, plain = (draw_gallery([entry(0, label=label)], "A run") for label in ("åland, réunion", "aland, reunion"))
    assert np.array_equal(accented, plain)


def test_without_originals_the_received_image_has_the_card_for_itself():
    known = entry(0)
    alone = draw_gallery([GalleryEntry(known.record, None, known.received)], "A run")
    pair = draw_gallery([known], "A run")
    assert alone.shape == pair.shape
    middle = alone[TITLE_HEIGHT + PADDING + THUMB // 2, MARGIN + PADDING + THUMB + GAP // 2]
    assert middle.tolist() == [200] * 3
    assert pair[TITLE_HEIGHT + PADDING + THUMB // 2, MARGIN + PADDING + THUMB + GAP // 2].tolist() == [255] * 3


def test_figures_are_means_of_what_is_known():
    records = [
        ImageRecord(0, "a", 32, 32, ["cat"], True, psnr_db=20.0, label="cat", samples=3072, air_bytes=100),
        ImageRecord(
            1, "b", 64, 64, [], True, psnr_db=EXACT_PSNR_DB, label="dog", samples=6144, air_bytes=200, snr_db=9.0
        ),
        ImageRecord(2, "c", 64, 64, ["cow"], False, samples=6144, air_bytes=300),
    ]
    figures = summarise(records)
    assert (figures["images_sent"], figures["images_received"], figures["frames_lost"]) == (3, 2, 1)
    assert figures["psnr_db"] == [20, 100]
    assert figures["label_correct"] == [True, None]
    assert figures["cbr"] == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert figures["air_bytes_mean"] == 200
    assert figures["snr_db_estimated"] == 9
    assert [row["label_correct"] for row in figures["rows"]] == [True, None, None]


def test_nothing_known_is_none():
    assert summarise([])["cbr"] is None
