"""A small sweep by real chains, cut off before its last SNR."""

from __future__ import annotations

from pathlib import Path

import yaml

from crlsc_phy.sweep.config import load_config
from crlsc_phy.sweep.engine import run_sweep
from crlsc_phy.sweep.plan import make_plan
from crlsc_phy.sweep.store import open_store

# A name with all that HTML and terminals stumble over.
OURS, WEBP, BITS = 'analog <1/12> & "co"', "webp [genie]", "ldpc qpsk"
SNRS = (0.0, 8.0)
IMAGES = 7
KEPT = 2


def run_small_sweep(folder: Path, bundle_folder: Path, image_folder: Path) -> None:
    """Seven pictures by two chains, and a link of bits, over AWGN at two SNRs; a third SNR is planned but not run."""
    config = {
        "name": "small sweep",
        "bundle": str(bundle_folder),
        "images": {"source": str(image_folder), "longest": 64, "count": IMAGES},
        "snr_db": list(SNRS),
        "curves": {
            OURS: {"chain": "analog", "symbols": 8},
            WEBP: {"chain": "separate", "cbr": 0.9},
            BITS: {"chain": "coded", "k": 128, "blocks": 20},
        },
        "stop": {"replicas": IMAGES},
        "keep": {"snr_db": list(SNRS), "replicas": KEPT},
    }
    path = folder.parent / f"{folder.name}.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    run_sweep(make_plan(load_config(path)), folder, jobs=0)
    with open_store(folder, make_plan(load_config(path, [f"snr_db={[*SNRS, 12.0]}"]))):
        # As if killed before the first job of the third.
        pass
