"""The pictures that a sweep sends, and their names."""

import os

import numpy as np
import pytest

from crlsc_phy.errors import SweepError
from crlsc_phy.images import save_png
from crlsc_phy.link.pictures import ImagesConfig, open_sent


def test_names_are_unique_and_can_be_names_of_files(tmp_path):
    long, other = "曲線" * 40, "曲線" * 39 + "x"
    names = ["a.png", "a b.png", "a-b.png", "a-b-2.png", f"{long}.png", f"{other}.png", os.fsdecode(b"caf\xe9.png")]
    image = np.zeros((32, 32, 3), np.uint8)
    for level, name in enumerate(names):
        image[:] = level
        save_png(tmp_path / "x.png", image)
        (tmp_path / "x.png").rename(tmp_path / name)
    sent = open_sent(ImagesConfig(str(tmp_path)), tmp_path)
    assert sorted({int(each.image[0, 0, 0]) for each in sent}) == list(range(len(names)))
    found = {each.name for each in sent}
    assert len(found) == len(names)
    assert {"a", "a-b", "caf"} < found
    for name in found:
        # As in the folder of a run.
        save_png(tmp_path / f"{name}.png", image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"longest": 0}, "longest is 0; it must be 1 or more"),
        ({"count": -1}, "count is -1; it must be 0 or more"),
        ({"source": "photos@heldout", "heldout": True}, "heldout is for folders; name the split of a data set"),
    ],
)
def test_what_cannot_be_sent_is_refused(tmp_path, options, message):
    with pytest.raises(SweepError, match=message):
        open_sent(ImagesConfig(**options), tmp_path)
