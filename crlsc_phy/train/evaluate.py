"""The ``evaluate`` stage: the networks as a bundle's files, and what they achieve on data that no stage has seen.

They are measured as a user would load them, so the draft of a bundle is made first: both runtimes must agree, and the
repair of its knowledge base is calibrated. ``crlsc-train bundle`` then puts it in its place.

Results: ``draft/``, a bundle but for its card; ``metrics.json``.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from crlsc_phy import __version__
from crlsc_phy.bundle import BUNDLE_FORMAT, ENCODER, KNOWLEDGE, TEXT_HEAD, encoder_file
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import TrainingError
from crlsc_phy.files import write_manifest, write_text
from crlsc_phy.semantic.teacher import has_text
from crlsc_phy.semantic.text import TEXT_TOWER, TextTower
from crlsc_phy.train.calibrate import calibrate_bundle
from crlsc_phy.train.data import open_images
from crlsc_phy.train.networks import BATCH_DIM, export_onnx, save_halved, save_tensors
from crlsc_phy.train.pictures import SIDE
from crlsc_phy.train.pipeline import WORK, Run, Step
from crlsc_phy.train.recipe import Recipe
from crlsc_phy.train.tasks import tasks
from crlsc_phy.train.teacher import TEXT
from crlsc_phy.train.text import zero_shot

__all__ = ["DRAFT", "METRICS", "steps", "write_draft_manifest"]

DRAFT, METRICS = "draft", "metrics.json"
PARITY = 1e-4


def steps(recipe: Recipe) -> list[Step]:
    """What the stage consists of."""
    trained = [step.name for task in tasks(recipe.decoder.tasks).values() for step in task.steps(recipe)]
    taught = () if recipe.teacher.text is None else (TEXT,)
    needs = ("skb", *taught, *(f"encoder/{name}" for name in recipe.encoder.sizes), *trained)
    sets = (*recipe.data.public, *recipe.data.photos, *recipe.data.asked, *recipe.data.heldout)
    return [Step("evaluate", _evaluate, options={"recipe": recipe}, needs=needs, sets=sets)]


def _evaluate(run: Run, folder: Path) -> None:
    draft = folder / DRAFT
    draft.mkdir(exist_ok=True)
    chosen = tasks(run.recipe.decoder.tasks)
    for name in run.recipe.encoder.sizes:
        _export_encoder(run, name, draft)
    for task in chosen.values():
        task.export(run, draft)
    _export_text(run, draft)
    if not (draft / KNOWLEDGE / "current").exists():
        run.knowledge.snapshot(draft / KNOWLEDGE)
    write_draft_manifest(run, draft)
    calibration = calibrate_bundle(draft, run.recipe.data, run.data)
    codecs = {runtime: SemanticCodec.load(draft, runtime) for runtime in ("onnx", "torch")}
    metrics: dict[str, Any] = {"parity": _parity(codecs), "repair": asdict(calibration)}
    metrics |= {name: task.measure(codecs["onnx"], run) for name, task in chosen.items()}
    if (draft / TEXT_HEAD).exists():
        metrics["words"] = _words(codecs["onnx"], run)
    metrics["encoders"] = _compare_encoders(run, draft)
    metrics["cpu_seconds"] = _cpu_seconds(run)
    write_text(folder / METRICS, json.dumps(metrics, indent=2) + "\n")


def write_draft_manifest(run: Run, folder: Path) -> None:
    """Name and hash the files of a bundle in ``folder``, and keep the recipe with them."""
    recipe = run.recipe
    encoders = {name: asdict(config) for name, config in recipe.encoder.sizes.items()}
    content: dict[str, Any] = {
        "name": recipe.name,
        "crlsc_phy": __version__,
        "air_code": run.air_code.id,
        "config": {
            "encoder": encoders[recipe.encoder_name],
            "encoders": encoders,
            "detail": asdict(recipe.decoder.detail),
        },
        "recipe": asdict(recipe),
    }
    write_manifest(folder, BUNDLE_FORMAT, content, apart=KNOWLEDGE)


def _export_encoder(run: Run, name: str, folder: Path) -> None:
    encoder = run.load_encoder(name).to(memory_format=torch.contiguous_format)
    stem = ENCODER if name == run.recipe.encoder_name else encoder_file(name)
    save_halved(encoder, folder / f"{stem}.safetensors")
    pixels = encoder.config.pixels
    export_onnx(encoder, {"image": torch.zeros(2, 3, pixels, pixels)}, ({0: BATCH_DIM},), folder / f"{stem}.onnx")


def _export_text(run: Run, folder: Path) -> None:
    """Write what it takes to search with words, if the teacher has text."""
    teacher = run.recipe.teacher
    if teacher.text is not None:
        tower = TextTower.load(run.folder / TEXT)
        save_halved(tower, folder / TEXT_TOWER)
        tower.save_config(folder)
    elif not has_text(teacher.tower):
        return
    head = load_file(run.folder / "skb/head.safetensors")
    save_tensors({"weight": head["linear.weight"]}, folder / TEXT_HEAD)


def _words(codec: SemanticCodec, run: Run) -> dict[str, Any]:
    """Whether a held-out picture's name is the nearest among those of its set, or one of the five nearest.

    The picture goes through the terminal's encoder, the name through the teacher's text tower; nobody asks a knowledge
    base.
    """
    result: dict[str, Any] = {}
    for name in run.recipe.data.asked:
        pictures = open_images(name, run.data)
        vectors = np.stack([codec.embed(image) for image in pictures.squares(SIDE)])
        result[name] = zero_shot(vectors, codec.bundle.embed_texts, pictures.labels)
    return result


def _compare_encoders(run: Run, draft: Path) -> dict[str, Any]:
    """Parameters of each encoder, and what it recognises."""
    retrieval = tasks(run.recipe.decoder.tasks).get("retrieval")
    result: dict[str, Any] = {}
    for name in run.recipe.encoder.sizes:
        parameters = sum(parameter.numel() for parameter in run.load_encoder(name).parameters())
        result[name] = {"parameters": parameters}
        if retrieval:
            result[name] |= retrieval.measure(SemanticCodec.load(draft, encoder=name), run)
    return result


def _cpu_seconds(run: Run) -> dict[str, int]:
    files = sorted(run.folder.rglob(f"{WORK}/cpu_seconds.json"))
    return {
        file.parent.parent.relative_to(run.folder).as_posix(): json.loads(file.read_text(encoding="utf-8"))
        for file in files
    }


def _parity(codecs: dict[str, SemanticCodec]) -> dict[str, float]:
    """The largest difference of the two runtimes on random input, by network.

    Raises:
        TrainingError: If it is above 1e-4.
    """
    generator = np.random.default_rng(0)
    onnx, torch_ = codecs["onnx"], codecs["torch"]
    pixels = onnx.bundle.config["encoder"]["pixels"]
    square = generator.random((3, 3, pixels, pixels), np.float32)
    image = generator.random((2, 3, 72, 40), np.float32)
    latent = onnx.runtime.analyse(image)
    vectors = onnx.runtime.semantic(square)[:2]
    differences = {
        "encoder": np.abs(onnx.runtime.semantic(square) - torch_.runtime.semantic(square)).max(),
        "analysis": np.abs(latent - torch_.runtime.analyse(image)).max(),
        "synthesis": np.abs(
            onnx.runtime.synthesise(latent, vectors) - torch_.runtime.synthesise(latent, vectors)
        ).max(),
    }
    for name, difference in differences.items():
        if not difference <= PARITY:
            raise TrainingError(f"{name}: onnx and torch differ by {difference:.1e}, more than {PARITY:.0e}")
    return {name: float(difference) for name, difference in differences.items()}
