"""Pictures by digital and by analog detail, through the modem over AWGN.

    python benchmarks/analog.py [--seed 1] [--out benchmarks/results/analog.json]

The eight photographs of the demo that the bundle was not trained on go through it, the modem and noise, with a CFO
within 2 % of the sample rate and unknown timing. CBR counts the whole burst: preamble, prefix, pilots, signalling and
padding. A burst that is lost counts with the PSNR of a grey picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import bench
import lab
import numpy as np

from crlsc_phy.codec import SemanticCodec
from crlsc_phy.images import load_image, read_heldout
from crlsc_phy.quality.metrics import psnr_db

SNRS_DB = (-6, -4, -2, 0, 2, 4, 6, 8, 10, 12, 15, 20)
SCHEMES: tuple[tuple[Literal["digital", "analog"], str, int], ...] = (
    ("digital", "qpsk-1/5", 4),
    ("digital", "qpsk-1/2", 4),
    ("digital", "16qam-1/2", 4),
    ("analog", "analog-1/1", 8),
    ("analog", "analog-1/1", 16),
    ("analog", "analog-1/1", 32),
    ("analog", "analog-1/2", 32),
)
IMAGES = Path("flowgraphs/images")


def photographs() -> list[Path]:
    """Return the demo's pictures that are held out of training (crlsc_phy/data/sets/photos.csv)."""
    return sorted(IMAGES / name for name in read_heldout(IMAGES))


def job(task: tuple[int, str, str, int, float, list[Path]]) -> dict[str, Any]:
    """Send photographs by one scheme at one SNR; return the PSNR of each, and the channel uses."""
    seed, mode, mcs, levels, snr_db, paths = task
    codec = SemanticCodec.load("models/default")
    quality, cbr = [], []
    for index, path in enumerate(paths):
        rng = np.random.default_rng([seed, index])
        image = load_image(path)
        frame = codec.encode(image, levels=levels, mode=mode)  # type: ignore[arg-type]
        passage = lab.send(rng, frame, snr_db, mcs)
        shown = np.full_like(image, 128)
        if burst := passage.burst:
            shown = codec.decode(burst.frame, burst.detail_snr_db).image
        quality.append(psnr_db(image, shown))
        cbr.append(passage.channel_uses / image.size)
    return {
        "mode": mode,
        "mcs": mcs,
        "levels": levels,
        "snr_db": snr_db,
        "cbr": float(np.mean(cbr)),
        "psnr_db": float(np.mean(quality)),
        "psnr_db_each": [round(value, 2) for value in quality],
    }


def name(row: dict[str, Any]) -> str:
    what = "levels" if row["mode"] == "digital" else "symbols a block"
    return f"{row['mcs']}, {row['levels']} {what}, CBR {row['cbr']:.3f}"


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__, jobs=2)
    options = benchmark.parse()

    paths = benchmark.few(photographs(), 1)
    tasks = [(options.seed, *scheme, snr, paths) for scheme in SCHEMES for snr in benchmark.few(SNRS_DB)]
    rows = benchmark.run(job, tasks, "pictures")
    bench.show("Digital and analog detail", rows, ["psnr_db_each"])
    benchmark.write({"images": [path.name for path in paths], "rows": rows})
    with benchmark.figure(1000, 620) as figure:
        axes = figure.subplots()
        for scheme in dict.fromkeys(name(row) for row in rows):
            here = [row for row in rows if name(row) == scheme]
            style = "o-" if here[0]["mode"] == "analog" else "s--"
            axes.plot([r["snr_db"] for r in here], [r["psnr_db"] for r in here], style, markersize=4, label=scheme)
        axes.set(xlabel="Es/N0 on an occupied carrier [dB]", ylabel="PSNR [dB]")
        axes.set_title("Eight held-out photographs through the default bundle and the modem, AWGN")
        axes.legend()


if __name__ == "__main__":
    main()
