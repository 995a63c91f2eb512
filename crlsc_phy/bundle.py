"""A bundle: a trained model on disk, as a folder of plain files.

    manifest.json                   format, configuration, metrics, the SHA-256 of every file
    encoder, analysis, synthesis    .onnx
    encoder, detail                 .safetensors
    codebooks.safetensors           the detail codebooks
    analog_sender, analog_receiver  .onnx, and analog.safetensors: optional, the analog coder
    text.safetensors                where the teacher has text: what maps its text vectors into the space
    skb/                            the shared knowledge base, with the air code; it has manifests of its own
    MODEL_CARD.md

What two ends must share to understand each other is the air code, the detail codebooks and the analog coder if there
is one; the hash of these is the ``shared_id``, whose first four bytes every frame carries. Encoders may differ, and a
receiver whose knowledge base is newer knows more.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file

from crlsc_phy.errors import BundleError, KnowledgeBaseError
from crlsc_phy.files import ManifestError, read_manifest
from crlsc_phy.knowledge import KnowledgeBase
from crlsc_phy.semantic.tokens import ResidualQuantiser

__all__ = ["ANALOG", "BUNDLE_FORMAT", "Bundle"]

BUNDLE_FORMAT = 2
KNOWLEDGE = "skb"
CODEBOOKS = "codebooks.safetensors"
TEXT_HEAD = "text.safetensors"
ANALOG = "analog.safetensors"
ANALOG_FILES = (ANALOG, "analog_sender.onnx", "analog_receiver.onnx")
FILES = (CODEBOOKS, "encoder.onnx", "analysis.onnx", "synthesis.onnx", "encoder.safetensors", "detail.safetensors")


@dataclass(frozen=True)
class Bundle:
    """An opened and checked bundle.

    Attributes:
        folder: Where it is.
        manifest: Its manifest.
        id: SHA-256 of the manifest in hex.
        shared_id: SHA-256 over what both ends must share.
        quantiser: The codebooks of the detail layer.
        knowledge: The shared knowledge base.
    """

    folder: Path
    manifest: dict[str, Any]
    id: str
    shared_id: bytes
    quantiser: ResidualQuantiser
    knowledge: KnowledgeBase

    @property
    def config(self) -> dict[str, Any]:
        """Sizes of the networks, by network."""
        config: dict[str, Any] = self.manifest["config"]
        return config

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Open the bundle in folder ``path``; every file is hashed before it is used.

        Raises:
            BundleError: If a file is missing or damaged, or the bundle is of a newer format.
        """
        folder = Path(path)
        try:
            manifest, identity = read_manifest(folder, BUNDLE_FORMAT)
        except ManifestError as error:
            raise BundleError(f"bundle {error}") from None
        files = manifest["files"]
        if manifest["format"] != BUNDLE_FORMAT:
            raise BundleError(f"bundle {folder}: is of an earlier format; make it again with crlsc-train")
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
            raise BundleError(f"bundle {folder}: its knowledge base has another air code than its networks")
        return cls(folder, manifest, identity, shared, quantiser, knowledge)
