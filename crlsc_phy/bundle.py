"""A bundle: a trained model on disk, as a folder of plain files.

    manifest.json                   format, configuration, metrics, the SHA-256 of every file
    encoder, analysis, synthesis    .onnx
    encoder, detail                 .safetensors
    encoder-NAME                    .onnx, .safetensors: further encoders into the same space, of other sizes
    classifier.safetensors          optional: linear classifier of semantic vectors
    classes.json                    and the labels of its classes
    codebooks.safetensors           codebooks of the detail layer
    analog_sender, analog_receiver  .onnx, and analog.safetensors: optional, the analog coder
    text.safetensors                optional: map from the teacher's text vectors into the semantic space
    text_tower.safetensors          and the text tower, if it was trained beside the teacher
    vocabulary.json                 and the words that it knows
    skb/                            the shared knowledge base with the air code, which has manifests of its own
    MODEL_CARD.md

Both ends must have the same air code, detail codebooks and, if any, analog coder. Their hash is the ``shared_id``,
whose first four bytes are in every frame. Encoders may differ. A receiver may have a newer knowledge base.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from crlsc_phy.errors import BundleError, KnowledgeBaseError
from crlsc_phy.knowledge import KnowledgeBase
from crlsc_phy.manifest import ManifestError, read_manifest
from crlsc_phy.semantic.runtime import ANALOG, DETAIL
from crlsc_phy.semantic.tokens import ResidualQuantiser

__all__ = [
    "ANALOG",
    "BUNDLE_FORMAT",
    "CLASSES",
    "CLASSIFIER",
    "CODEBOOKS",
    "DETAIL",
    "ENCODER",
    "KNOWLEDGE",
    "TEXT_HEAD",
    "Bundle",
    "encoder_file",
]

Weights = npt.NDArray[np.float32]
BUNDLE_FORMAT = 2
KNOWLEDGE = "skb"
CODEBOOKS = "codebooks.safetensors"
TEXT_HEAD = "text.safetensors"
CLASSIFIER = "classifier.safetensors"
CLASSES = "classes.json"
ENCODER = "encoder"
ANALOG_FILES = (ANALOG, "analog_sender.onnx", "analog_receiver.onnx")
FILES = (CODEBOOKS, "encoder.onnx", "analysis.onnx", "synthesis.onnx", "encoder.safetensors", DETAIL)


def encoder_file(name: str) -> str:
    """Return the name of the files of a further encoder, without suffix."""
    return f"{ENCODER}-{name}"


@dataclass(frozen=True)
class Bundle:
    """An open bundle whose files have been checked.

    Attributes:
        folder: Folder of the bundle.
        manifest: Content of its manifest.
        id: SHA-256 of the manifest in hex.
        shared_id: SHA-256 of the parts that both ends must have in common, 32 bytes.
        quantiser: Codebooks of the detail layer.
        knowledge: Shared knowledge base.
    """

    folder: Path
    manifest: dict[str, Any]
    id: str
    shared_id: bytes
    quantiser: ResidualQuantiser
    knowledge: KnowledgeBase

    @property
    def config(self) -> dict[str, Any]:
        """Sizes of the networks, by name of the network."""
        config: dict[str, Any] = self.manifest["config"]
        return config

    def encoder(self, name: str = "") -> tuple[str, dict[str, Any]]:
        """Return file name without suffix and sizes of an encoder, by default the first one.

        Raises:
            BundleError: If there is no encoder with that name.
        """
        encoders: dict[str, dict[str, Any]] = self.config.get("encoders", {})
        if not name or name == next(iter(encoders), None):
            return ENCODER, self.config["encoder"]
        if name not in encoders:
            has = ", ".join(encoders) or "one without a name"
            raise BundleError(f"bundle {self.folder}: has no encoder {name!r}; choose {has}")
        return encoder_file(name), encoders[name]

    def classifier(self) -> tuple[tuple[str, ...], tuple[Weights, Weights] | None]:
        """Return the labels of the linear classifier, and its weights, float32 [C, D], and bias, float32 [C].

        Without a classifier there are no labels, and None instead of weights.

        Raises:
            BundleError: If its files are damaged or do not match.
        """
        if CLASSIFIER not in self.manifest["files"]:
            return (), None
        try:
            labels = tuple(json.loads((self.folder / CLASSES).read_text(encoding="utf-8")))
            tensors = load_file(self.folder / CLASSIFIER)
            weight, bias = tensors["weight"], tensors["bias"]
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise BundleError(f"bundle {self.folder}: its classifier is damaged ({error})") from None
        if weight.shape != (len(labels), self.knowledge.air_code.dim) or bias.shape != (len(labels),):
            raise BundleError(
                f"bundle {self.folder}: its classifier has weights {list(weight.shape)} for {len(labels)} labels"
            )
        return labels, (weight, bias)

    def embed_texts(self, texts: list[str]) -> Weights:
        """Return the vectors of texts in the semantic space from the teacher's text tower, float32 [N, D] of unit norm.

        Raises:
            BundleError: If the teacher has no text tower, or its libraries are not installed.
            TrainingError: If its weights are not available, or it knows none of the words of a text.
        """
        if TEXT_HEAD not in self.manifest["files"]:
            raise BundleError(f"bundle {self.folder}: its teacher has no text tower; search with an image or a code")
        try:
            # Terminals need torch for nothing else.
            from crlsc_phy.semantic.teacher import embed_texts
        except ImportError as error:
            raise BundleError(f"{error.name} is not installed; run pip install 'crlsc-phy[train]'") from None
        teacher = self.manifest["recipe"]["teacher"]
        directions = embed_texts(teacher["tower"], texts, self.folder if teacher["text"] else None).numpy()
        vectors = directions @ load_file(self.folder / TEXT_HEAD)["weight"].T
        placed: Weights = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return placed

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Open the bundle in a folder, and check the hash of every file.

        Raises:
            BundleError: If a file is missing or damaged, or the format is another one.
        """
        folder = Path(path)
        try:
            manifest, identity = read_manifest(folder, BUNDLE_FORMAT)
        except ManifestError as error:
            raise BundleError(f"bundle {error}") from None
        files = manifest["files"]
        if manifest["format"] != BUNDLE_FORMAT:
            raise BundleError(f"bundle {folder}: has an earlier format; make it again with crlsc-train")
        absent = [name for name in FILES if name not in files]
        if "analog" in manifest.get("config", {}):
            absent += [name for name in ANALOG_FILES if name not in files]
        absent += [key for key in ("config", "air_code") if key not in manifest]
        if absent:
            raise BundleError(f"bundle {folder}: manifest lacks {', '.join(absent)}")
        analog = files[ANALOG] if "analog" in manifest["config"] else ""
        shared = hashlib.sha256((files[CODEBOOKS] + str(manifest["air_code"]) + analog).encode()).digest()
        try:
            quantiser = ResidualQuantiser(load_file(folder / CODEBOOKS)["codebooks"])
            knowledge = KnowledgeBase.open(folder / KNOWLEDGE)
        except (KnowledgeBaseError, SafetensorError, KeyError) as error:
            raise BundleError(f"bundle {folder}: {error}") from None
        if knowledge.air_code.id != manifest["air_code"]:
            raise BundleError(
                f"bundle {folder}: its knowledge base has another air code than its networks; fetch the bundle again"
            )
        return cls(folder, manifest, identity, shared, quantiser, knowledge)
