from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gnuradio", reason="GNU Radio is not importable here; `make setup` installs it")

from gr_helpers import Flowgraph, finish, picture

from crlsc_phy.frame import FrameHeader, SemanticFrame
from crlsc_phy.images import save_png
from crlsc_phy.phy import BurstModem


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    """The modem's functions, compiled: on a fresh machine that takes longer than some flowgraphs wait for a burst."""
    header = FrameHeader(bytes(4), 64, 64, 16, 96)
    modem = BurstModem()
    modem.receive(np.pad(modem.modulate(SemanticFrame(header, bytes(16), bytes(96))), 500))


@pytest.fixture
def top() -> Iterator[Flowgraph]:
    flowgraph = Flowgraph()
    yield flowgraph
    flowgraph.stop()
    finish(flowgraph)


@pytest.fixture(scope="session", autouse=True)
def build(tmp_path_factory) -> Iterator[Path]:
    """The folder for compiled flowgraphs: one for each test process, and never that of the checkout."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("build")
        patch.setenv("CRLSC_BUILD", str(folder))
        yield folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three pictures, one of them labelled, and one file that is no picture."""
    images = tmp_path / "images"
    images.mkdir()
    for index, name in enumerate(("a.png", "b.png", "d.png")):
        save_png(images / name, picture(index))
    (images / "c.png").write_bytes(b"this is not a PNG")
    (images / "index.json").write_text('[{"file": "b.png", "label": "wave", "also": ["sea"]}]')
    return images
