"""A bundle as the start of a run: what it holds is taken from there, and not made again.

A terminal begins so. The shared space with its knowledge base, the encoders and the coders are there; what is left to
make are a private knowledge base and heads for labels of its own. The steps whose results a bundle carries are replaced
by steps that put them where the training would have left them; CPU times come along.

Result beside them: ``skb/origin.json``, the name and the id of the bundle, and how its repair is calibrated.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from crlsc_phy.bundle import ANALOG, CODEBOOKS, KNOWLEDGE, TEXT_HEAD, Bundle
from crlsc_phy.errors import BundleError, TrainingError
from crlsc_phy.files import write_text
from crlsc_phy.knowledge import KnowledgeBase
from crlsc_phy.semantic.detail import DetailCoder, DetailConfig
from crlsc_phy.semantic.text import TEXT_TOWER, VOCABULARY
from crlsc_phy.train.evaluate import METRICS
from crlsc_phy.train.networks import save_tensors
from crlsc_phy.train.pipeline import ORIGIN, WORK, Run, Step, different_options
from crlsc_phy.train.recipe import as_recipe
from crlsc_phy.train.stages import all_steps

__all__ = ["start_from"]

DETAIL = "detail.safetensors"


def start_from(path: Path, steps: Sequence[Step]) -> list[Step]:
    """The steps of a recipe, those whose results a bundle holds replaced by taking them from it.

    Args:
        path: Of the bundle.
        steps: Of the recipe.

    Raises:
        BundleError: If there is no bundle, or it is damaged.
        TrainingError: If the recipe asks for what the bundle does not hold, or holds with other options.
    """
    bundle = Bundle.load(path)
    try:
        recipe = as_recipe(bundle.manifest["recipe"], str(path))
        measured = json.loads((path / METRICS).read_text(encoding="utf-8"))
        origin = {"name": bundle.manifest["name"], "id": bundle.id, "repair": measured["repair"]}
        seconds = measured["cpu_seconds"]
    except (KeyError, OSError, ValueError):
        raise BundleError(f"bundle {path}: lacks its recipe or its metrics; a bundle of crlsc-train has both") from None
    there = {step.name: step for step in all_steps(recipe, sorted({step.stage for step in steps}))}
    taken = []
    for step in steps:
        take = _how(step)
        if take is None:
            taken.append(step)
            continue
        if step.name not in there:
            raise TrainingError(
                f"{step.name}: {path} does not hold it, and cannot be added to; leave it out, or --from"
            )
        if different := different_options(there[step.name].options, step.options):
            raise TrainingError(f"{step.name}: {path} was made with {'; '.join(different[:3])}; leave that as it is")
        work = partial(_take, take=partial(take, bundle), seconds=seconds.get(step.name), origin=origin)
        taken.append(Step(step.name, work, options={"from": f"{origin['name']} {bundle.id[:16]}"}))
    return taken


def _how(step: Step) -> Callable[[Bundle, Path], None] | None:
    """How the results of a step are had from a bundle; None if they are made anew."""
    if step.stage == "encoder":
        return partial(_take_encoder, name=step.name.partition("/")[2])
    return _TAKE.get(step.name)


def _take(run: Run, folder: Path, take: Callable[[Path], None], seconds: int | None, origin: dict[str, Any]) -> None:
    take(folder)
    if folder == (run.folder / ORIGIN).parent:
        write_text(run.folder / ORIGIN, json.dumps(origin))
    if seconds is not None:
        (folder / WORK).mkdir(exist_ok=True)
        write_text(folder / WORK / "cpu_seconds.json", json.dumps(seconds))


def _take_nothing(_bundle: Bundle, _folder: Path) -> None:
    """Only what is taken too has need of its results."""


def _take_text(bundle: Bundle, folder: Path) -> None:
    for name in (TEXT_TOWER, VOCABULARY):
        shutil.copyfile(bundle.folder / name, folder / name)


def _take_knowledge(bundle: Bundle, folder: Path) -> None:
    shutil.rmtree(folder / "skb", ignore_errors=True)
    KnowledgeBase.open(bundle.folder / KNOWLEDGE).snapshot(folder / "skb")
    if (bundle.folder / TEXT_HEAD).exists():
        save_tensors({"linear.weight": load_file(bundle.folder / TEXT_HEAD)["weight"]}, folder / "head.safetensors")


def _take_encoder(bundle: Bundle, folder: Path, name: str) -> None:
    stem, _ = bundle.encoder(name)
    for kind in ("safetensors", "onnx"):
        shutil.copyfile(bundle.folder / f"{stem}.{kind}", folder / f"encoder.{kind}")


def _take_detail(bundle: Bundle, folder: Path) -> None:
    coder = DetailCoder(DetailConfig(**bundle.config["detail"]))
    # Of the quantiser a bundle has the codebooks alone, without what their training counted.
    coder.load_state_dict(load_file(bundle.folder / DETAIL), strict=False)
    coder.quantiser.codebooks.copy_(load_file(bundle.folder / CODEBOOKS)["codebooks"])
    save_tensors(coder.state_dict(), folder / DETAIL)
    for name in ("analysis.onnx", "synthesis.onnx"):
        shutil.copyfile(bundle.folder / name, folder / name)


def _take_analog(bundle: Bundle, folder: Path) -> None:
    for name in (ANALOG, "analog_sender.onnx", "analog_receiver.onnx"):
        shutil.copyfile(bundle.folder / name, folder / name)


_TAKE: dict[str, Callable[[Bundle, Path], None]] = {
    "teacher": _take_nothing,
    "teacher/text": _take_text,
    "skb": _take_knowledge,
    "decoder/alone": _take_nothing,
    "decoder/reconstruction": _take_detail,
    "analog/alone": _take_nothing,
    "analog/conditioned": _take_analog,
}
