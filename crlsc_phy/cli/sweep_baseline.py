"""The verb ``train-baseline`` of ``crlsc-sweep``: train the weights of the DeepJSCC baseline."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crlsc_phy.errors import TrainingError

if TYPE_CHECKING:
    from crlsc_phy.cli.verbs import Subparsers

__all__ = ["add_verbs"]

_SNRS_DB = (0, 5, 10, 15, 20)


def add_verbs(subparsers: Subparsers) -> None:
    """Add the verb ``train-baseline``."""
    verb = subparsers.add_parser("train-baseline", help="train the DeepJSCC baseline")
    verb.description = (
        "Train DeepJSCC (Bourtsoulatze et al. 2019, in the architecture of Kaira) on the pictures that this project's "
        "networks learn from, at SNRs of 0 to 20 dB. The same options give the same weights. A training that was "
        "stopped resumes with the same command."
    )
    verb.add_argument("out", type=Path, metavar="FILE", help="file of the weights, .safetensors")
    verb.add_argument(
        "--data", type=Path, default=Path("data"), help="folder of crlsc-train data (default: %(default)s)"
    )
    verb.add_argument(
        "--cbr", default="1/12", help="channel uses per source value, such as 1/12 or 1/6 (default: %(default)s)"
    )
    verb.add_argument(
        "--steps", type=int, default=10_000, help="training steps of 32 crops each (default: %(default)s)"
    )
    verb.add_argument("--seed", type=int, default=1, help="seed of weights and crops (default: %(default)s)")
    verb.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    verb.add_argument("--json", action="store_true", help="print the result as JSON")
    verb.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    try:
        from crlsc_phy.train.deepjscc import BaselineRecipe, heldout_psnr_db, train_baseline
        from crlsc_phy.train.heldout import CROPS_EACH, heldout_crops
        from crlsc_phy.train.recipe import LoopRecipe, Recipe
    except ImportError as error:
        raise TrainingError(f"training needs more packages: {error}; pip install 'crlsc-phy[train]'") from None
    from crlsc_phy.quality.intervals import mean_interval

    if options.steps < 1 or options.threads < 1:
        raise TrainingError(f"--steps is {options.steps} and --threads {options.threads}; both must be 1 or more")
    recipe = BaselineRecipe(
        options.cbr, loop=LoopRecipe(options.steps, batch=32), seed=options.seed, threads=options.threads
    )
    held_out = heldout_crops(Recipe(), options.data)
    training = train_baseline(recipe, options.data, options.out)
    network = training.network.eval()
    result: dict[str, Any] = {"out": str(options.out), "cpu_minutes": round(training.cpu_seconds / 60, 1)}
    result["psnr_db"] = {
        side: {str(snr): mean_interval(heldout_psnr_db(network, crops, snr), groups=CROPS_EACH) for snr in _SNRS_DB}
        for side, crops in held_out.items()
    }
    if options.json:
        print(json.dumps(result))
        return 0
    print(f"{options.out}: trained in {result['cpu_minutes']} CPU minutes; PSNR of held-out crops in dB")
    for side, row in result["psnr_db"].items():
        print(f"  photographs of {side} px: " + ", ".join(f"{v[0]:.2f} at {snr} dB" for snr, v in row.items()))
    return 0
