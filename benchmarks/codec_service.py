"""What the codec service adds to a direct call, and how many images a second it takes by workers.

Latency: one client, one request after another; direct calls and requests alternate, so that both see the same machine.
Throughput: a client a worker and one more, encode and decode in turn. The service is a process of its own.

python benchmarks/codec_service.py [--calls 500] [--seconds 5] [--out benchmarks/results/codec_service.json]
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from report import machine, write_json
from rich.console import Console
from rich.table import Table

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.images import load_image, resize
from crlsc_phy.net.codec.client import CodecClient

SIDE = 64


@contextmanager
def service(bundle: str, workers: int) -> Iterator[str]:
    """A service in a process of its own; its address."""
    command = [sys.executable, "-m", "crlsc_phy.cli.codec", "serve", bundle, "--address", "tcp://127.0.0.1:*", "--json"]
    with subprocess.Popen([*command, "--workers", str(workers)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield json.loads(process.stdout.readline())["serving"]["requests"]
        finally:
            process.terminate()


def latency(direct: Callable[[], object], asked: Callable[[], object], calls: int) -> dict[str, float]:
    """Milliseconds of both, and of what the second takes more than the first."""
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
    """Images a second that are encoded and decoded again."""
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="models/default")
    parser.add_argument("--image", default="flowgraphs/images/astronaut.jpg")
    parser.add_argument("--calls", type=int, default=500, help="calls a latency (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="time a throughput (%(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/codec_service.json"))
    options = parser.parse_args()

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
        table = Table(title=f"{title}, {SIDE}x{SIDE}")
        for name in rows[0]:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*(str(value) for value in row.values()))
        Console().print(table)
    content = {"machine": machine(), "load_before": round(load, 2), "side": SIDE, "calls": options.calls}
    write_json(options.out, content | {"seconds": options.seconds, "latency": latencies, "throughput": rates})


if __name__ == "__main__":
    main()
