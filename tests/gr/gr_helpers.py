"""What the tests of the blocks share."""

from __future__ import annotations

import threading

import numpy as np
import pmt
from gnuradio import gr

from gr_blocks.block import Block


class Collector(Block):
    """Keeps what arrives at its port."""

    def __init__(self) -> None:
        super().__init__("collector", {"in": "on_message"})
        self.collected: list[object] = []
        self.arrived = threading.Condition()

    def on_message(self, message: object) -> None:
        with self.arrived:
            self.collected.append(message)
            self.arrived.notify_all()

    def wait_for(self, count: int, seconds: float = 60) -> list[object]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.collected) >= count, seconds), self.collected
            return list(self.collected)


class Flowgraph(gr.top_block):
    """A flowgraph that holds on to its Python blocks: GNU Radio does not, and crashes when one is collected."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[object] = []

    def connect(self, *blocks: object) -> None:
        self.kept.extend(blocks)
        super().connect(*blocks)

    def msg_connect(self, source: tuple[object, str], target: tuple[object, str]) -> None:
        self.kept.extend((source, target))
        super().msg_connect(source, target)


def finish(top: gr.top_block, seconds: float = 20) -> None:
    """Wait for the flowgraph to end by itself."""
    waiting = threading.Thread(target=top.wait, daemon=True)
    waiting.start()
    waiting.join(seconds)
    assert not waiting.is_alive(), f"flowgraph still runs after {seconds} s"


def post(block: Block, port: str, message: object) -> None:
    block.to_basic_block()._post(pmt.intern(port), message)


def picture(seed: int, height: int = 32, width: int = 40) -> np.ndarray:
    """A smooth random picture, uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 8
    waves = [np.sin(rng.normal() * y + rng.normal() * x + rng.uniform(0, 6)) for _ in range(3)]
    return (127 + 100 * np.stack(waves, axis=2)).astype(np.uint8)
