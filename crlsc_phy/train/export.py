"""The bundle stage: export the networks, check that both runtimes agree, measure on held-out data, write the card."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from crlsc_phy import __version__
from crlsc_phy.bundle import ANALOG, BUNDLE_FORMAT, KNOWLEDGE, TEXT_HEAD
from crlsc_phy.codec import SemanticCodec
from crlsc_phy.errors import TrainingError
from crlsc_phy.files import write_manifest, write_text
from crlsc_phy.knowledge import KnowledgeBase
from crlsc_phy.semantic.analog_coder import AnalogCoder
from crlsc_phy.semantic.detail import DetailCoder
from crlsc_phy.semantic.encoder import LocalEncoder
from crlsc_phy.semantic.runtime import NETWORKS
from crlsc_phy.semantic.teacher import has_text
from crlsc_phy.train.calibrate import calibrate_bundle
from crlsc_phy.train.card import model_card
from crlsc_phy.train.evaluate import evaluate
from crlsc_phy.train.stages import Run

__all__ = ["export_analog", "export_bundle"]

OPSET = 18
PARITY = 1e-4


def export_bundle(run: Run, target: Path) -> dict[str, Any]:
    """Write the bundle of ``run`` to the folder ``target``, replacing what is there; returns its metrics.

    Raises:
        TrainingError: If the two runtimes disagree by more than 1e-4.
    """
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    detail = DetailCoder(run.recipe.detail).eval()
    detail.load_state_dict(load_file(run.folder / "detail/detail.safetensors"))
    save_file({"codebooks": detail.quantiser.codebooks.contiguous()}, aside / "codebooks.safetensors")
    encoder = run.load_encoder().to(memory_format=torch.contiguous_format)
    # Half precision costs nothing that the metrics show, and the bundle travels in every clone. Both runtimes get the
    # rounded weights, so they still agree.
    for name, network in (("encoder", encoder), ("detail", detail)):
        network.half()
        kept = {key: value for key, value in network.state_dict().items() if not key.startswith("quantiser.")}
        save_file({key: value.contiguous() for key, value in kept.items()}, aside / f"{name}.safetensors")
        network.float()
    _export_networks(encoder, detail, aside)
    config: dict[str, Any] = {"encoder": asdict(run.recipe.encoder), "detail": asdict(run.recipe.detail)}
    if (run.folder / "analog/analog.safetensors").exists():
        analog = AnalogCoder(run.recipe.analog)
        analog.load_state_dict(load_file(run.folder / "analog/analog.safetensors"))
        export_analog(analog, aside)
        config["analog"] = asdict(run.recipe.analog)
    if has_text(run.recipe.space.tower):
        head = load_file(run.folder / "space/head.safetensors")
        save_file({"weight": head["linear.weight"].contiguous()}, aside / TEXT_HEAD)
    knowledge = KnowledgeBase.open(run.folder / "space/skb").snapshot(aside / KNOWLEDGE)
    content: dict[str, Any] = {
        "name": run.recipe.name,
        "crlsc_phy": __version__,
        "air_code": knowledge.air_code.id,
        "config": config,
        "recipe": asdict(run.recipe),
    }
    # The bundle is measured as a user would load it, so the manifest must stand before the metrics that go into it.
    write_manifest(aside, BUNDLE_FORMAT, content, apart=KNOWLEDGE)
    calibration = calibrate_bundle(aside, run.data)
    codecs = {runtime: SemanticCodec.load(aside, runtime) for runtime in ("onnx", "torch")}
    metrics = {"parity": _parity(codecs), "repair": asdict(calibration), **evaluate(codecs["onnx"], run)}
    write_text(aside / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    write_text(aside / "MODEL_CARD.md", model_card(run, metrics))
    write_manifest(aside, BUNDLE_FORMAT, content, apart=KNOWLEDGE)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    aside.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return metrics


def _export_networks(encoder: LocalEncoder, detail: DetailCoder, folder: Path) -> None:
    config = detail.config
    pixels = encoder.config.pixels
    batch, height, width = (torch.export.Dim(name, min=1, max=4096) for name in ("n", "h", "w"))
    latent = torch.zeros(2, config.latent_dim, 8, 6)
    graphs: dict[str, tuple[nn.Module, dict[str, torch.Tensor], dict[str, dict[int, Any]]]] = {
        "encoder": (encoder, {"image": torch.zeros(2, 3, pixels, pixels)}, {"image": {0: batch}}),
        "analysis": (
            detail.analysis,
            {"image": torch.zeros(2, 3, 64, 48)},
            {"image": {0: batch, 2: 8 * height, 3: 8 * width}},
        ),
        "synthesis": (
            detail.synthesis,
            {"latent": latent, "semantic": torch.zeros(2, config.semantic_dim)},
            {"latent": {0: batch, 2: height, 3: width}, "semantic": {0: batch}},
        ),
    }
    for name in NETWORKS:
        export_network(*graphs[name], folder / f"{name}.onnx")


def export_network(
    network: nn.Module, inputs: dict[str, torch.Tensor], shapes: dict[str, dict[int, Any]], path: Path
) -> None:
    """Write a network as ONNX.

    Args:
        network: In evaluation mode.
        inputs: An example of each input.
        shapes: Of each input, the axes whose length may change.
        path: Where to.
    """
    torch.onnx.export(
        network,
        tuple(inputs.values()),
        path,
        input_names=list(inputs),
        output_names=["output"],
        dynamic_shapes=tuple(shapes.values()),
        opset_version=OPSET,
        external_data=False,
        dynamo=True,
    )
    _forget_origin(path)


def _forget_origin(path: Path) -> None:
    """Take out what the exporter notes of the machine: each node carries the source lines that it came from."""
    model = onnx.load(path)
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    model.ClearField("metadata_props")
    onnx.save(model, path)


def export_analog(coder: AnalogCoder, folder: Path) -> None:
    """Write the files of a bundle's analog coder; ``coder`` is rounded to half precision."""
    coder.eval().half()
    save_file(coder.state_dict(), folder / ANALOG)
    coder.float()
    batch, height, width = (torch.export.Dim(name, min=1, max=4096) for name in ("n", "h", "w"))
    export_network(
        coder.sender,
        {"image": torch.zeros(2, 3, 64, 48)},
        {"image": {0: batch, 2: 8 * height, 3: 8 * width}},
        folder / "analog_sender.onnx",
    )
    config = coder.config
    export_network(
        coder.receiver,
        {
            "components": torch.zeros(2, 2 * config.symbols, 8, 6),
            "semantic": torch.zeros(2, config.semantic_dim),
            "state": torch.zeros(2, 3),
        },
        {"components": {0: batch, 2: height, 3: width}, "semantic": {0: batch}, "state": {0: batch}},
        folder / "analog_receiver.onnx",
    )


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
        differences["analog_receiver"] = np.abs(
            onnx.runtime.analog_receive(components, vectors, state)
            - torch_.runtime.analog_receive(components, vectors, state)
        ).max()
    for name, difference in differences.items():
        if not difference <= PARITY:
            raise TrainingError(f"{name}: onnx and torch differ by {difference:.1e}, more than {PARITY:.0e}")
    return {name: float(difference) for name, difference in differences.items()}
