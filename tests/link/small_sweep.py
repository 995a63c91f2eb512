"""A small sweep by real chains, in a folder as a run leaves it."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import yaml

from crlsc_phy.images import find_images, fit_within, load_image, save_png
from crlsc_phy.link.chain import Scene, TestImage, Trial
from crlsc_phy.link.coded import CodedChain, CodedOptions
from crlsc_phy.link.semantic import AnalogChain, AnalogOptions
from crlsc_phy.link.separate import SeparateChain, SeparateOptions

# A name with all that HTML and file names stumble over.
OURS, WEBP, BITS = 'analog <1/12> & "co"', "webp genie", "ldpc qpsk"
SNRS = (0.0, 8.0)
IMAGES = 7
KEPT = 2


def run_small_sweep(folder: Path, bundle_folder: Path, image_folder: Path) -> None:
    """Seven pictures by two chains, and a link of bits, over AWGN at two SNRs; a third SNR is planned but not run."""
    paths = find_images(image_folder)[:IMAGES]
    images = tuple(TestImage(path.stem, fit_within(load_image(path), 64), (path.stem,)) for path in paths)
    for name in ("originals", "pictures"):
        (folder / name).mkdir()
    for sent in images:
        save_png(folder / "originals" / f"{sent.name}.png", sent.image)
    scene = Scene(images=images, bundle=bundle_folder)
    curves = {
        OURS: ("analog", AnalogChain(AnalogOptions(symbols=8), scene)),
        WEBP: ("separate", SeparateChain(SeparateOptions(cbr=0.9), scene)),
        BITS: ("coded", CodedChain(CodedOptions(k=128, blocks=20), Scene())),
    }
    config = {
        "name": "small sweep",
        "seed": 1,
        "bundle": str(bundle_folder),
        "channels": {"awgn": {"model": "awgn"}},
        "curves": {name: {"chain": kind, "snr_db": [*SNRS, 12.0]} for name, (kind, _) in curves.items()},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    with (folder / "results.jsonl").open("w", encoding="utf-8") as file:
        for name, (_, chain) in curves.items():
            line = hashlib.sha256(name.encode()).hexdigest()[:16]
            for snr_db in SNRS:
                for replica in range(IMAGES):
                    job = hashlib.sha256(f"{line} {snr_db} {replica}".encode()).hexdigest()[:20]
                    start = time.process_time()
                    outcome = chain.run(Trial(snr_db, replica, (int(job, 16),)))
                    image = outcome.image
                    row = {
                        "job": job,
                        "line": line,
                        "curve": name,
                        "channel": "awgn",
                        "snr_db": snr_db,
                        "replica": replica,
                        "counts": outcome.counts,
                        "image": image.name if image else None,
                        "metrics": image.metrics if image else {},
                        "cpu_s": time.process_time() - start,
                        "wall_s": 0.0,
                    }
                    file.write(json.dumps(row, allow_nan=False) + "\n")
                    if image and replica < KEPT:
                        save_png(folder / "pictures" / f"{job}.png", image.picture)
