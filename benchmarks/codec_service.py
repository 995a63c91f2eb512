"""Latency that the codec service adds to a direct call, and its throughput by workers.

Latency: one client, one request after another; direct calls and requests alternate, so that both see the same machine.
Throughput: a client a worker and one more, encode and decode in turn. The service is a process of its own.

python benchmarks/codec_service.py [--calls 500] [--seconds 5] [--out benchmarks/results/codec_service.json]
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import bench
import numpy as np

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.images import load_image, resize
from crlsc_phy.net.codec.client import CodecClient

SIDE = 64


@contextmanager
def service(bundle: str, workers: int) -> Iterator[str]:
    """Start a service, and yield its address."""
    options = ["--address", "tcp://127.0.0.1:*", "--json", "--workers", str(workers)]
    with bench.served("crlsc_phy.cli.codec", "serve", bundle, *options) as told:
        yield told["serving"]["requests"]


def latency(direct: Callable[[], object], asked: Callable[[], object], calls: int) -> dict[str, float]:
    """Return quantiles of the milliseconds of both calls, and by how much the second is longer."""
    times = np.zeros((calls, 2))
    for _ in range(20):
        direct(), asked()
    for row in times:
        for column, call in enumerate((direct, asked)):
            start = time.perf_counter()
            call()
            row[column] = 1000 * (time.perf_counter() - start)
    figures = {}
    for name, quantile in (("p50", 50), ("p99", 99)):
        alone, through = np.percentile(times, quantile, axis=0)
        figures |= {
            f"direct_{name}_ms": round(float(alone), 2),
            f"service_{name}_ms": round(float(through), 2),
            f"added_{name}_ms": round(float(through - alone), 2),
        }
    return figures


def throughput(address: str, clients: int, image: np.ndarray, seconds: float) -> float:
    """Return the images per second that clients encode and decode again."""
    done = [0] * clients
    stop = time.perf_counter() + seconds

    def work(number: int) -> None:
        with CodecClient(address) as client:
            while time.perf_counter() < stop:
                client.decode(client.encode(image))
                done[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / seconds


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__, seed=None)
    benchmark.add("--bundle", "models/default", "bundle to serve")
    benchmark.add("--image", "flowgraphs/images/astronaut.jpg", "picture to encode, resized")
    benchmark.add("--calls", 500, "calls of each latency", quick=20)
    benchmark.add("--seconds", 5.0, "time of each throughput", quick=0.5)
    benchmark.add("--workers", [1, 2, 4], "workers of each throughput", type=int, nargs="+")
    options = benchmark.parse()

    load = os.getloadavg()[0]
    image = resize(load_image(options.image), SIDE, SIDE)
    codec = SemanticCodec.load(options.bundle)
    frame = codec.encode(image)
    latencies = []
    with service(options.bundle, workers=2) as address, CodecClient(address) as client:
        for operation, direct, asked in (
            ("encode", partial(codec.encode, image), partial(client.encode, image)),
            ("decode", partial(codec.decode, frame), partial(client.decode, frame)),
        ):
            latencies.append({"operation": operation, **latency(direct, asked, options.calls)})
    rates = []
    for workers in options.workers:
        with service(options.bundle, workers) as address:
            throughput(address, 1, image, 0.5)
            rate = throughput(address, workers + 1, image, options.seconds)
        rates.append({"workers": workers, "images_per_s": round(rate, 1)})

    for title, rows in (("Latency, ms", latencies), ("Encoded and decoded", rates)):
        bench.show(f"{title}, {SIDE}x{SIDE}", rows)
    content = {"load_before": round(load, 2), "side": SIDE, "calls": options.calls}
    benchmark.write(content | {"seconds": options.seconds, "latency": latencies, "throughput": rates})


if __name__ == "__main__":
    main()
