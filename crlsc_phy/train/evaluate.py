"""The ``evaluate`` stage: a draft of the bundle, measured on data that no stage has seen.

The networks are measured as users load them, so the draft is made first. Both runtimes must agree, and the repair of
the knowledge base is calibrated. ``crlsc-train bundle`` then puts the draft in its place.

Results: ``draft/``, a bundle without its card; ``metrics.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from crlsc_phy import __version__
from crlsc_phy.bundle import BUNDLE_FORMAT, ENCODER, KNOWLEDGE, TEXT_HEAD, encoder_file
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import TrainingError
from crlsc_phy.files import write_text
from crlsc_phy.manifest import write_manifest
from crlsc_phy.semantic.runtime import Runtime, load_runtime
from crlsc_phy.train import analog, pkb, text
from crlsc_phy.train.calibrate import calibrate_bundle
from crlsc_phy.train.networks import BATCH_DIM, export_onnx, save_halved
from crlsc_phy.train.pipeline import CPU_SECONDS, WORK, Run, Step
from crlsc_phy.train.recipe import Recipe
from crlsc_phy.train.tasks import tasks

__all__ = ["DRAFT", "METRICS", "steps", "write_draft_manifest"]

DRAFT, METRICS = "draft", "metrics.json"
PARITY = 1e-4
"""Largest difference of the outputs of the two runtimes."""


def steps(recipe: Recipe) -> list[Step]:
    """Return the step of the stage."""
    trained = [step.name for step in (*pkb.steps(recipe), *analog.steps(recipe))]
    trained += [step.name for task in tasks(recipe.decoder.tasks).values() for step in task.steps(recipe)]
    taught = () if recipe.teacher.text is None else (text.TEXT,)
    needs = ("skb", *taught, *(f"encoder/{name}" for name in recipe.encoder.sizes), *trained)
    sets = (*recipe.data.public, *recipe.data.photos, *recipe.data.asked, *recipe.data.heldout)
    # Name and notes change nothing that is measured.
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
    private = [run.folder / step.name / "pkb" for step in pkb.steps(run.recipe)]
    codec = SemanticCodec.load(draft, private=private)
    # A knowledge base that was taken from a bundle is calibrated, and those who share it must agree on that.
    repair = run.origin["repair"] if run.origin else asdict(calibrate_bundle(codec, run.recipe.data, run.data))
    metrics: dict[str, Any] = {"parity": _parity(codec), "repair": repair}
    metrics |= {name: task.measure(codec, run) for name, task in chosen.items()}
    metrics["analog"] = analog.measure(codec, run)
    if (draft / TEXT_HEAD).exists():
        metrics["words"] = text.measure(codec, run)
    metrics["encoders"] = _compare_encoders(run, codec, metrics.get("retrieval"))
    metrics["cpu_seconds"] = _cpu_seconds(run)
    write_text(folder / METRICS, json.dumps(metrics, indent=2) + "\n")


def write_draft_manifest(run: Run, folder: Path) -> None:
    """Write the manifest of a bundle in ``folder``: its recipe, and the names and hashes of its files."""
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
    image, made = {"image": torch.zeros(2, 3, pixels, pixels)}, run.folder / "encoder" / name / "encoder.onnx"
    export_onnx(encoder, image, ({0: BATCH_DIM},), folder / f"{stem}.onnx", made)


def _compare_encoders(run: Run, codec: SemanticCodec, first: dict[str, Any] | None) -> dict[str, Any]:
    """Return the parameters and the retrieval of each encoder; ``first`` is the retrieval of the codec's own."""
    retrieval, bundle = tasks(run.recipe.decoder.tasks).get("retrieval"), codec.bundle
    result: dict[str, Any] = {}
    for name in run.recipe.encoder.sizes:
        parameters = sum(parameter.numel() for parameter in run.load_encoder(name).parameters())
        measured = first
        if retrieval and name != run.recipe.encoder_name:
            file, sizes = bundle.encoder(name)
            runtime = load_runtime("onnx", bundle.folder, file, {**bundle.config, "encoder": sizes})
            measured = retrieval.measure(SemanticCodec(bundle, runtime, codec.bases[1:], sizes["pixels"]), run)
        result[name] = {"parameters": parameters, **(measured or {})}
    return result


def _cpu_seconds(run: Run) -> dict[str, int]:
    files = sorted(run.folder.rglob(f"{WORK}/{CPU_SECONDS}"))
    return {
        file.parent.parent.relative_to(run.folder).as_posix(): json.loads(file.read_text(encoding="utf-8"))
        for file in files
    }


def _parity(codec: SemanticCodec) -> dict[str, float]:
    """Return the largest difference of the two runtimes on random input, by network.

    Raises:
        TrainingError: If it is above 1e-4.
    """
    generator, config = np.random.default_rng(0), codec.bundle.config
    onnx, torch_ = codec.runtime, load_runtime("torch", codec.bundle.folder, ENCODER, config)
    pixels = config["encoder"]["pixels"]
    square = generator.random((3, 3, pixels, pixels), np.float32)
    image = generator.random((2, 3, 72, 40), np.float32)
    latent, vectors = onnx.analyse(image), onnx.semantic(square)[:2]

    def apart(network: Callable[[Runtime], npt.NDArray[np.float32]]) -> float:
        return float(np.abs(network(onnx) - network(torch_)).max())

    differences = {
        "encoder": apart(lambda runtime: runtime.semantic(square)),
        "analysis": apart(lambda runtime: runtime.analyse(image)),
        "synthesis": apart(lambda runtime: runtime.synthesise(latent, vectors)),
    }
    if "analog" in config:
        components = onnx.analog_send(image)
        state = np.array([[-2, 0, codec.analog.most], [1, 1, 1]], np.float32)
        differences["analog_sender"] = apart(lambda runtime: runtime.analog_send(image))
        differences["analog_receiver"] = apart(lambda runtime: runtime.analog_receive(components, vectors, state))
    for name, difference in differences.items():
        if not difference <= PARITY:
            raise TrainingError(f"{name}: onnx and torch differ by {difference:.1e}, more than {PARITY:.0e}")
    return differences
