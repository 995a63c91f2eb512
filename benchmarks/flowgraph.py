"""Throughput of flowgraphs/loopback_sim.grc, end to end: codec, modem, channel, modem, codec, PNG files.

    python benchmarks/flowgraph.py --images 200

writes benchmarks/results/flowgraph.json with the machine and the date. Two sets are sent: 64x64 crops of the demo's
images, and these images as they are.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import bench
from gnuradio import gr

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.images import find_images, load_image, save_png
from gr_blocks.flowgraph import load_flowgraph

ROOT = Path(__file__).parents[1]
SIDE = 64


def crops(source: Path, folder: Path, count: int) -> None:
    """Write ``count`` crops of 64x64 pixels, the images in turn, each time from another place."""
    images = [load_image(path) for path in find_images(source)]
    for index in range(count):
        image, turn = images[index % len(images)], index // len(images)
        y, x = (17 * turn) % (image.shape[0] - SIDE + 1), (29 * turn) % (image.shape[1] - SIDE + 1)
        save_png(folder / f"{index:05}.png", image[y : y + SIDE, x : x + SIDE])


def run(flowgraph_class: Any, images: Path, bundle: Path, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as out:
        # What comes before the first image, loading models and compiled code, is not the rate.
        warm_up = flowgraph_class(images=str(find_images(images)[0]), bundle=str(bundle), out=out, seed=seed)
        warm_up.run()
        flowgraph = flowgraph_class(images=str(images), bundle=str(bundle), out=out, seed=seed)
        sink = flowgraph.image_sink_0
        began, cpu = time.monotonic(), time.process_time()
        flowgraph.start()
        while not (sink.images or sink.lost):
            time.sleep(0.005)
        first = time.monotonic()
        flowgraph.wait()
        ended = time.monotonic()
    received = sink.images
    return {
        "images": len(sink.records),
        "received": received,
        "images_per_s": round((received - 1) / (ended - first), 2),
        "first_image_s": round(first - began, 3),
        "cpu_s_per_image": round((time.process_time() - cpu) / received, 4),
        "samples_per_image": round(sum(record.samples or 0 for record in sink.records) / len(sink.records)),
    }


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__)
    benchmark.add("--images", 200, "64x64 crops to send", quick=3)
    benchmark.add("--source", ROOT / "flowgraphs" / "images", "folder of the images, from which the crops are cut")
    benchmark.add("--bundle", ROOT / "models" / "default", "bundle to send with")
    options = benchmark.parse()
    # A bundle that does not load is told before anything runs.
    SemanticCodec.load(options.bundle)
    with tempfile.TemporaryDirectory() as scratch:
        flowgraph_class = load_flowgraph(ROOT / "flowgraphs" / "loopback_sim.grc", Path(scratch))
        small = Path(scratch) / "crops"
        small.mkdir()
        crops(options.source, small, options.images)
        sets = {"crops 64x64": small, "demo images": options.source}
        results = {name: run(flowgraph_class, images, options.bundle, options.seed) for name, images in sets.items()}
    report = {
        "machine": bench.machine() | {"load_average": os.getloadavg()[0], "gnuradio": gr.version()},
        "seed": options.seed,
        "results": results,
    }
    benchmark.write(report)
    for name, result in results.items():
        print(f"{name}: {result['images_per_s']} images/s, {result['cpu_s_per_image']} CPU-s an image, {result}")


if __name__ == "__main__":
    main()
