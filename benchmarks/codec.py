"""Throughput of the codec: batch 1, one thread, both runtimes.

python benchmarks/codec.py [--seconds 5] [--out benchmarks/results/codec.json]
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import bench

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.images import load_image, resize

SIDES = (64, 256, 512)


def rate(call: Callable[[], object], seconds: float) -> float:
    """Return calls per second by the median duration of a call, after two that are not counted."""
    times: list[float] = []
    call(), call()
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times) < 5:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1 / statistics.median(times)


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__, seed=None)
    benchmark.add("--bundle", "models/default", "bundle to measure")
    benchmark.add("--image", "flowgraphs/images/astronaut.jpg", "picture to encode, resized")
    benchmark.add("--seconds", 5.0, "time of each figure", quick=0.1)
    options = benchmark.parse()

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
    bench.show("Codec, batch 1, one thread", rows)
    benchmark.write({"seconds": options.seconds, "rows": rows})


if __name__ == "__main__":
    main()
