"""The ``evaluate`` stage: the networks as a bundle's files, and what they achieve on data that no stage has seen.

They are measured as a user would load them, so the draft of a bundle is made first: both runtimes must agree, and the
repair of its knowledge base is calibrated. ``crlsc-train bundle`` then puts it in its place.

Results: ``draft/``, a bundle but for its card; ``metrics.json``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crlsc_phy import __version__
from crlsc_phy.bundle import BUNDLE_FORMAT, ENCODER, KNOWLEDGE, TEXT_HEAD, encoder_file
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import TrainingError
from crlsc_phy.files import write_text
from crlsc_phy.manifest import write_manifest
from crlsc_phy.train import analog, pkb, text
from crlsc_phy.train.calibrate import calibrate_bundle
from crlsc_phy.train.networks import BATCH_DIM, export_onnx, save_halved
from crlsc_phy.train.pipeline import WORK, Run, Step
from crlsc_phy.train.recipe import Recipe
from crlsc_phy.train.tasks import tasks

__all__ = ["DRAFT", "METRICS", "steps", "write_draft_manifest"]

DRAFT, METRICS = "draft", "metrics.json"
PARITY = 1e-4


def steps(recipe: Recipe) -> list[Step]:
    """What the stage consists of."""
    trained = [step.name for step in (*pkb.steps(recipe), *analog.steps(recipe))]
    trained += [step.name for task in tasks(recipe.decoder.tasks).values() for step in task.steps(recipe)]
    taught = () if recipe.teacher.text is None else (text.TEXT,)
    needs = ("skb", *taught, *(f"encoder/{name}" for name in recipe.encoder.sizes), *trained)
    sets = (*recipe.data.public, *recipe.data.photos, *recipe.data.asked, *recipe.data.heldout)
    # Its name and what its card says of it change nothing that is measured.
    options = {"recipe": replace(recipe, name="", notes="")}
    return [Step("evaluate", _evaluate, options=options, needs=needs, sets=tuple(dict.fromkeys(sets)))]


def _evaluate(run: Run, folder: Path) -> None:
    draft = folder / DRAFT
    draft.mkdir(exist_ok=True)
    chosen = tasks(run.recipe.decoder.tasks)
    for name in run.recipe.encoder.sizes:
        _export_encoder(run, name, draft)
    for task in chosen.values():
        task.export(run, draft)
    if analog.steps(run.recipe):
        analog.export(run, draft)
    text.export(run, draft)
    if not (draft / KNOWLEDGE / "current").exists():
        run.knowledge.snapshot(draft / KNOWLEDGE)
    write_draft_manifest(run, draft)
    # A knowledge base that was taken from a bundle is calibrated, and those who share it must agree on that.
    repair = run.origin["repair"] if run.origin else asdict(calibrate_bundle(draft, run.recipe.data, run.data))
    private = [run.folder / step.name / "pkb" for step in pkb.steps(run.recipe)]
    codecs = {runtime: SemanticCodec.load(draft, runtime, private=private) for runtime in ("onnx", "torch")}
    metrics: dict[str, Any] = {"parity": _parity(codecs), "repair": repair}
    metrics |= {name: task.measure(codecs["onnx"], run) for name, task in chosen.items()}
    metrics["analog"] = analog.measure(codecs["onnx"], run)
    if (draft / TEXT_HEAD).exists():
        metrics["words"] = text.measure(codecs["onnx"], run)
    metrics["encoders"] = _compare_encoders(run, draft, private)
    metrics["cpu_seconds"] = _cpu_seconds(run)
    write_text(folder / METRICS, json.dumps(metrics, indent=2) + "\n")


def write_draft_manifest(run: Run, folder: Path) -> None:
    """Name and hash the files of a bundle in ``folder``, and keep the recipe with them."""
    recipe = run.recipe
    encoders = {name: asdict(config) for name, config in recipe.encoder.sizes.items()}
    config = {"encoder": encoders[recipe.encoder_name], "encoders": encoders, "detail": asdict(recipe.decoder.detail)}
    if analog.steps(recipe):
        config["analog"] = asdict(recipe.analog.coder)
    content: dict[str, Any] = {
        "name": recipe.name,
        "crlsc_phy": __version__,
        "air_code": run.air_code.id,
        "config": config,
        "recipe": asdict(recipe),
    }
    if run.origin:
        content["origin"] = {"name": run.origin["name"], "id": run.origin["id"]}
    write_manifest(folder, BUNDLE_FORMAT, content, apart=KNOWLEDGE)


def _export_encoder(run: Run, name: str, folder: Path) -> None:
    encoder = run.load_encoder(name).to(memory_format=torch.contiguous_format)
    stem = ENCODER if name == run.recipe.encoder_name else encoder_file(name)
    save_halved(encoder, folder / f"{stem}.safetensors")
    pixels = encoder.config.pixels
    made = run.folder / "encoder" / name / "encoder.onnx"
    image = {"image": torch.zeros(2, 3, pixels, pixels)}
    export_onnx(encoder, image, ({0: BATCH_DIM},), folder / f"{stem}.onnx", made)


def _compare_encoders(run: Run, draft: Path, private: list[Path]) -> dict[str, Any]:
    """Parameters of each encoder, and what it recognises."""
    retrieval = tasks(run.recipe.decoder.tasks).get("retrieval")
    result: dict[str, Any] = {}
    for name in run.recipe.encoder.sizes:
        parameters = sum(parameter.numel() for parameter in run.load_encoder(name).parameters())
        result[name] = {"parameters": parameters}
        if retrieval:
            result[name] |= retrieval.measure(SemanticCodec.load(draft, private=private, encoder=name), run)
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
    if "analog" in onnx.bundle.config:
        components = onnx.runtime.analog_send(image)
        differences["analog_sender"] = np.abs(components - torch_.runtime.analog_send(image)).max()
        state = np.array([[-2, 0, onnx.analog.most], [1, 1, 1]], np.float32)
        received = [codec.runtime.analog_receive(components, vectors, state) for codec in (onnx, torch_)]
        differences["analog_receiver"] = np.abs(received[0] - received[1]).max()
    for name, difference in differences.items():
        if not difference <= PARITY:
            raise TrainingError(f"{name}: onnx and torch differ by {difference:.1e}, more than {PARITY:.0e}")
    return {name: float(difference) for name, difference in differences.items()}
