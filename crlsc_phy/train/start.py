"""Start of a run from a bundle: what the bundle has is taken from it and not trained again.

A terminal that joins a network starts so. Shared space, knowledge base, encoders and coders exist; a private knowledge
base and heads for labels of its own are made. Steps whose results a bundle has are replaced by steps that put these
results where training would have left them. CPU times come along.

Further result: ``skb/origin.json``, with the name and the id of the bundle and the calibration of its repair.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from crlsc_phy.bundle import ANALOG, CODEBOOKS, DETAIL, KNOWLEDGE, TEXT_HEAD, Bundle
from crlsc_phy.errors import BundleError, TrainingError
from crlsc_phy.files import write_text
from crlsc_phy.knowledge import KnowledgeBase
from crlsc_phy.semantic.detail import DetailCoder, DetailConfig
from crlsc_phy.semantic.text import TEXT_TOWER, VOCABULARY
from crlsc_phy.train.evaluate import METRICS
from crlsc_phy.train.networks import save_tensors
from crlsc_phy.train.pipeline import CPU_SECONDS, ORIGIN, WORK, Run, Step, different_options
from crlsc_phy.train.recipe import as_recipe
from crlsc_phy.train.stages import all_steps

__all__ = ["start_from"]


@dataclass(frozen=True)
class _Origin:
    """Bundle that a run starts from.

    Attributes:
        bundle: The opened bundle.
        repair: Calibration of its repair, from its metrics.
        seconds: CPU time of each of its steps, in seconds.
    """

    bundle: Bundle
    repair: dict[str, Any]
    seconds: dict[str, int]

    def copy(self, folder: Path, *names: str) -> None:
        """Copy files of the bundle into a step's folder."""
        for name in names:
            shutil.copyfile(self.bundle.folder / name, folder / name)


def start_from(path: Path, steps: Sequence[Step]) -> list[Step]:
    """Replace the steps whose results a bundle has by steps that take these results from it.

    Args:
        path: Folder of the bundle.
        steps: Steps of the recipe.

    Returns:
        Steps in the same order.

    Raises:
        BundleError: If there is no bundle, or it is damaged.
        TrainingError: If the recipe asks for something that the bundle lacks or has with other options.
    """
    bundle = Bundle.load(path)
    try:
        recipe = as_recipe(bundle.manifest["recipe"], str(path))
        measured = json.loads((path / METRICS).read_text(encoding="utf-8"))
        origin = _Origin(bundle, measured["repair"], measured["cpu_seconds"])
        label = f"{bundle.manifest['name']} {bundle.id[:16]}"
    except (KeyError, OSError, ValueError):
        raise BundleError(f"bundle {path}: lacks its recipe or its metrics; use a bundle of crlsc-train") from None
    there = {step.name: step for step in all_steps(recipe, sorted({step.stage for step in steps}))}
    result = []
    for step in steps:
        take = _TAKE.get(step.stage if step.stage == "encoder" else step.name)
        if take is None:
            result.append(step)
            continue
        if step.name not in there:
            raise TrainingError(f"{step.name}: {path} lacks it, and nothing can be added; leave it out, or --from")
        if different := different_options(there[step.name].options, step.options):
            raise TrainingError(f"{step.name}: {path} was made with {'; '.join(different[:3])}; leave that as it is")
        work = partial(_take, take=partial(take, origin), name=step.name, seconds=origin.seconds.get(step.name))
        result.append(Step(step.name, work, options={"from": label}))
    return result


def _take(_run: Run, folder: Path, take: Callable[[Path, str], None], name: str, seconds: int | None) -> None:
    take(folder, name)
    if seconds is not None:
        (folder / WORK).mkdir(exist_ok=True)
        write_text(folder / WORK / CPU_SECONDS, json.dumps(seconds))


def _take_nothing(_origin: _Origin, _folder: Path, _step: str) -> None:
    """Take nothing: only steps that are taken too need the results."""


def _take_text(origin: _Origin, folder: Path, _step: str) -> None:
    origin.copy(folder, TEXT_TOWER, VOCABULARY)


def _take_knowledge(origin: _Origin, folder: Path, _step: str) -> None:
    bundle = origin.bundle
    shutil.rmtree(folder / "skb", ignore_errors=True)
    KnowledgeBase.open(bundle.folder / KNOWLEDGE).snapshot(folder / "skb")
    if (bundle.folder / TEXT_HEAD).exists():
        save_tensors({"linear.weight": load_file(bundle.folder / TEXT_HEAD)["weight"]}, folder / "head.safetensors")
    said = {"name": bundle.manifest["name"], "id": bundle.id, "repair": origin.repair}
    write_text(folder / ORIGIN, json.dumps(said))


def _take_encoder(origin: _Origin, folder: Path, step: str) -> None:
    stem, _ = origin.bundle.encoder(step.partition("/")[2])
    for suffix in ("safetensors", "onnx"):
        shutil.copyfile(origin.bundle.folder / f"{stem}.{suffix}", folder / f"encoder.{suffix}")


def _take_detail(origin: _Origin, folder: Path, _step: str) -> None:
    bundle = origin.bundle
    coder = DetailCoder(DetailConfig(**bundle.config["detail"]))
    # Of the quantiser a bundle has the codebooks alone, without the statistics of their training.
    coder.load_state_dict(load_file(bundle.folder / DETAIL), strict=False)
    coder.quantiser.codebooks.copy_(load_file(bundle.folder / CODEBOOKS)["codebooks"])
    save_tensors(coder.state_dict(), folder / DETAIL)
    origin.copy(folder, "analysis.onnx", "synthesis.onnx")


def _take_analog(origin: _Origin, folder: Path, _step: str) -> None:
    origin.copy(folder, ANALOG, "analog_sender.onnx", "analog_receiver.onnx")


_TAKE: dict[str, Callable[[_Origin, Path, str], None]] = {
    "teacher": _take_nothing,
    "teacher/text": _take_text,
    "skb": _take_knowledge,
    "encoder": _take_encoder,
    "decoder/alone": _take_nothing,
    "decoder/reconstruction": _take_detail,
    "analog/alone": _take_nothing,
    "analog/conditioned": _take_analog,
}
