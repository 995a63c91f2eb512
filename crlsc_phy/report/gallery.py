"""Gallery of a run: a card for each image, with the sent and the received picture and the meaning."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crlsc_phy.images import UInt8Image
from crlsc_phy.quality.records import ImageRecord, mean_of_known

__all__ = ["GalleryEntry", "draw_gallery", "gallery_size"]

THUMB = 184
GAP = 8
PADDING = 14
TEXT_LINE = 21
CARD_WIDTH = 2 * THUMB + GAP + 2 * PADDING
CARD_HEIGHT = 2 * PADDING + THUMB + 44 + 4 * TEXT_LINE
MARGIN = 36
SPACING = 20
TITLE_HEIGHT = 104

INK, SOFT, FAINT = "#1a1f26", "#5b6570", "#8a949e"
LINE, MAT = "#dfe4e8", "#f4f6f8"
GOOD, BAD = "#1a7f37", "#b42318"


@dataclass(frozen=True)
class GalleryEntry:
    """A card of the gallery.

    Attributes:
        record: Record of the image.
        sent: Sent picture, uint8 [H, W, 3]; None if it is not known. If no sent picture is known, the received ones
            are drawn larger.
        received: Received picture, uint8 [H, W, 3]; None if the frame was lost.
    """

    record: ImageRecord
    sent: UInt8Image | None
    received: UInt8Image | None


def gallery_size(count: int) -> tuple[int, int]:
    """Return the width and the height in pixels of a gallery of ``count`` cards."""
    columns, rows = _grid(count)
    width = 2 * MARGIN + columns * CARD_WIDTH + (columns - 1) * SPACING
    return width, TITLE_HEIGHT + rows * (CARD_HEIGHT + SPACING) - SPACING + MARGIN


def draw_gallery(entries: Sequence[GalleryEntry], title: str) -> UInt8Image:
    """Return a gallery of the size of :func:`gallery_size`, uint8 [height, width, 3].

    ``title`` is its first line; a second one has the figures of the run.
    """
    canvas = Image.new("RGB", gallery_size(len(entries)), "white")
    draw = ImageDraw.Draw(canvas)
    inside = canvas.width - 2 * MARGIN
    draw.text((MARGIN, 44), _fit(title, _font(30), inside), INK, _font(30), anchor="ls")
    draw.text((MARGIN, 76), _fit(_figures(entries), _font(18), inside), SOFT, _font(18), anchor="ls")
    columns, _ = _grid(len(entries))
    pairs = _any_sent(entries)
    for index, entry in enumerate(entries):
        row, column = divmod(index, columns)
        x = MARGIN + column * (CARD_WIDTH + SPACING)
        _draw_card(canvas, draw, entry, x, TITLE_HEIGHT + row * (CARD_HEIGHT + SPACING), pairs)
    return np.asarray(canvas)


def _grid(count: int) -> tuple[int, int]:
    # Two at least, so that the title has room.
    columns = 4 if count > 6 else max(2, min(3, count))
    return columns, max(1, -(-count // columns))


def _figures(entries: Sequence[GalleryEntry]) -> str:
    records = [entry.record for entry in entries]
    parts = [f"{sum(record.received for record in records)} of {len(records)} images received"]
    psnr, ms_ssim = (mean_of_known(getattr(record, name) for record in records) for name in ("psnr_db", "ms_ssim"))
    if psnr is not None and ms_ssim is not None:
        parts.append(f"mean PSNR {psnr:.1f} dB, MS-SSIM {ms_ssim:.3f}")
    judged = [record.label_correct for record in records if record.label_correct is not None]
    if judged:
        parts.append(f"{sum(judged)} of {len(judged)} labels right")
    bandwidth = mean_of_known(record.cbr for record in records)
    if bandwidth is not None:
        parts.append(f"CBR {bandwidth:.2f}")
    if _any_sent(entries):
        parts.append("left sent, right received")
    return "  ·  ".join(parts)


def _any_sent(entries: Sequence[GalleryEntry]) -> bool:
    return any(entry.sent is not None for entry in entries)


def _draw_card(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, entry: GalleryEntry, x: int, y: int, pairs: bool
) -> None:
    record = entry.record
    draw.rounded_rectangle((x, y, x + CARD_WIDTH - 1, y + CARD_HEIGHT - 1), 10, "white", LINE, 1)
    left, top = x + PADDING, y + PADDING
    end, width = x + CARD_WIDTH - PADDING, CARD_WIDTH - 2 * PADDING
    if pairs:
        _draw_thumb(canvas, draw, entry.sent, (left, top, THUMB), "not known here")
        _draw_thumb(canvas, draw, entry.received, (left + THUMB + GAP, top, THUMB), "frame lost")
    else:
        _draw_thumb(canvas, draw, entry.received, (left, top, width), "frame lost")
    baseline = top + THUMB + 24
    quality = [] if record.psnr_db is None else [f"{record.psnr_db:.1f} dB"]
    if record.received and record.detail_ok is False:
        quality.insert(0, "detail damaged")
    name = f"{record.name or f'image {record.sequence}'}  {record.width}x{record.height}"
    draw.text((end, baseline), ", ".join(quality), INK, _font(17), anchor="rs")
    room = width - 12 - _font(17).getlength(", ".join(quality))
    draw.text((left, baseline), _fit(name, _font(15), room), SOFT, _font(15), anchor="ls")
    baseline += 8 + TEXT_LINE
    verdict, colour = _verdict(record)
    draw.text((left, baseline), _fit(verdict, _font(17), width), colour, _font(17), anchor="ls")
    baseline += 4
    for near in record.neighbours[:3]:
        baseline += TEXT_LINE
        draw.text((end, baseline), f"{near['score']:.2f}", SOFT, _font(14), anchor="rs")
        # An entry is named vendor/code; the code says nothing to a reader.
        text = f"{near['label']}  ({near['name'].rsplit('/', 1)[0]})" if "/" in near["name"] else near["label"]
        draw.text((left + 12, baseline), _fit(text, _font(14), width - 64), SOFT, _font(14), anchor="ls")


def _verdict(record: ImageRecord) -> tuple[str, str]:
    if not record.received:
        return f"lost: {record.reason}" if record.reason else "lost", BAD
    if not record.label:
        return "semantic layer lost", BAD
    if not record.true_labels:
        return record.label, INK
    if record.label_correct:
        return record.label, GOOD
    return f"{record.label}, truly {record.true_labels[0]}", BAD


def _draw_thumb(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, image: UInt8Image | None, place: tuple[int, int, int], missing: str
) -> None:
    """Draw an image, or the text ``missing``, in the middle of a place: left, top and width."""
    x, y, room = place
    draw.rectangle((x, y, x + room - 1, y + THUMB - 1), MAT)
    if image is None:
        draw.text((x + room // 2, y + THUMB // 2), missing, FAINT, _font(15), anchor="mm")
        return
    height, width = image.shape[:2]
    scale = min(THUMB / height, room / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    thumb = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
    canvas.paste(thumb, (x + (room - size[0]) // 2, y + (THUMB - size[1]) // 2))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """Return ``text`` without accents, cut to ``width`` pixels with an ellipsis."""
    # Pillow's own font draws a box for a letter with an accent.
    text = "".join(char for char in unicodedata.normalize("NFD", text) if not unicodedata.combining(char))
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"
