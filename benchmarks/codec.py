"""Encode and decode images a second: batch 1, one thread, both runtimes.

python benchmarks/codec.py [--seconds 5] [--out benchmarks/results/codec.json]
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from report import machine, write_json
from rich.console import Console
from rich.table import Table

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.images import load_image, resize

SIDES = (64, 256, 512)


def rate(call: Callable[[], object], seconds: float) -> float:
    """Calls a second: the median over calls, after two that are not counted."""
    times: list[float] = []
    call(), call()
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times) < 5:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1 / statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="models/default")
    parser.add_argument("--image", default="flowgraphs/images/astronaut.jpg")
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each figure (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/codec.json"))
    options = parser.parse_args()

    picture = load_image(options.image)
    rows = []
    for runtime in ("onnx", "torch"):
        codec = SemanticCodec.load(options.bundle, runtime)
        if runtime == "torch":
            import torch

            torch.set_num_threads(1)
        for side in SIDES:
            image = resize(picture, side, side)
            frame = codec.encode(image)
            encode, decode = partial(codec.encode, image), partial(codec.decode, frame)
            rows.append(
                {
                    "runtime": runtime,
                    "side": side,
                    "encode_images_per_s": round(rate(encode, options.seconds), 1),
                    "decode_images_per_s": round(rate(decode, options.seconds), 1),
                }
            )
    table = Table(title="Codec, batch 1, one thread")
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
    write_json(options.out, {"machine": machine(), "seconds": options.seconds, "rows": rows})


if __name__ == "__main__":
    main()
