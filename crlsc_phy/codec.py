"""The semantic codec: an image to a semantic frame and back.

image -> local encoder -> vector -> air code ------------------> semantic layer -> nearest entries, label
  |                                                                   | vector
  +----> analysis -> latent -> residual tokens -> detail layer -> latent -> synthesis -> image
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crlsc_phy.bundle import Bundle
from crlsc_phy.errors import FrameError, ImageError
from crlsc_phy.frame import FrameHeader, Mode, SemanticFrame
from crlsc_phy.images import UInt8Image, check_image, pad_to_stride, resize
from crlsc_phy.knowledge import Hit
from crlsc_phy.semantic.runtime import Runtime, load_runtime

__all__ = ["DecodeResult", "SemanticCodec"]

STRIDE = 8
SMALLEST, LARGEST = 32, 1024
VOTERS = 20
VOTE_TEMPERATURE = 0.05


@dataclass(frozen=True)
class DecodeResult:
    """What a receiver makes of a frame.

    Attributes:
        image: uint8 [H, W, 3].
        label: What the image shows by vote of its neighbours; empty when the semantic layer is lost.
        neighbours: The nearest entries of the knowledge base, best first.
        confidence: Share of the vote that ``label`` got, 0 to 1; not calibrated.
        layers_ok: Whether each of ``semantic`` and ``detail`` arrived whole.
    """

    image: UInt8Image
    label: str
    neighbours: tuple[Hit, ...]
    confidence: float
    layers_ok: dict[str, bool]


class SemanticCodec:
    """Encodes and decodes with one bundle.

    Args:
        bundle: The trained model.
        runtime: Its networks, loaded.
    """

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        self.bundle, self.runtime = bundle, runtime
        self.kb_id = bundle.shared_id[:4]
        self.levels = bundle.quantiser.levels
        self._pixels = int(bundle.config["encoder"]["pixels"])

    @classmethod
    def load(cls, path: str | Path, runtime: str = "onnx", threads: int = 1) -> SemanticCodec:
        """Load a bundle folder.

        Args:
            path: The bundle, such as ``models/default``.
            runtime: ``onnx`` or ``torch``.
            threads: Threads a network may use in the ``onnx`` runtime.

        Raises:
            BundleError: If the bundle is damaged, incomplete or newer, or the runtime is not installed.
        """
        bundle = Bundle.load(path)
        return cls(bundle, load_runtime(runtime, bundle.folder, bundle.config, threads))

    def embed(self, image: UInt8Image) -> npt.NDArray[np.float32]:
        """The semantic vector of an image, float32 [S] of unit norm, before the air code."""
        vector: npt.NDArray[np.float32] = self.runtime.semantic(_planes(resize(image, self._pixels, self._pixels)))[0]
        return vector

    def encode(self, image: UInt8Image, sequence: int = 0, levels: int | None = None) -> SemanticFrame:
        """Encode an image.

        Args:
            image: uint8 [H, W, 3], sides of 32 to 1024 pixels.
            sequence: Counter for the header, taken modulo 2**16.
            levels: Codebook levels to send, 0 (the semantic layer alone) to ``self.levels`` (the default).

        Raises:
            ImageError: If the image has another type, shape or size.
        """
        image = check_image(image, SMALLEST, LARGEST)
        levels = self.levels if levels is None else levels
        if not 0 <= levels <= self.levels:
            raise ImageError(f"levels is {levels}; this bundle has 0 to {self.levels}")
        semantic = self.bundle.knowledge.air_code.encode(self.embed(image)[None])[0].tobytes()
        detail = b""
        if levels:
            latent = self.runtime.analyse(_planes(pad_to_stride(image, STRIDE)))[0]
            detail = self.bundle.quantiser.pack(self.bundle.quantiser.encode(latent, levels))
        header = FrameHeader(
            kb_id=self.kb_id,
            height=image.shape[0],
            width=image.shape[1],
            semantic_bytes=len(semantic),
            detail_bytes=len(detail),
            levels=levels,
            sequence=sequence % 65536,
            mode=Mode.DIGITAL if levels else Mode.SEMANTIC,
        )
        return SemanticFrame(header, semantic, detail)

    def decode(self, frame: SemanticFrame, snr_db: float | None = None) -> DecodeResult:
        """Decode a frame, whole or with losses.

        A lost semantic layer costs the label and the neighbours; lost tokens cost sharpness where they were; with no
        token at all the picture is what the meaning alone suggests.

        Args:
            frame: From :meth:`encode` or a modem.
            snr_db: Estimated Es/N0. Digital detail does not depend on it; analog detail will.

        Raises:
            FrameError: If the frame was made with another knowledge base, or its sizes contradict each other.
        """
        del snr_db
        header = frame.header
        self._check(header)
        neighbours: tuple[Hit, ...] = ()
        label, confidence = "", 0.0
        vector = np.zeros((1, self.bundle.knowledge.air_code.dim), np.float32)
        if frame.semantic is not None:
            vector = self.bundle.knowledge.air_code.decode(np.frombuffer(frame.semantic, np.uint8)[None])
            hits = self.bundle.knowledge.search(vector, VOTERS)[0]
            label, confidence = _vote(hits)
            neighbours = tuple(hits)
        shape = (header.levels, -(-header.height // STRIDE), -(-header.width // STRIDE))
        tokens, arrived = self.bundle.quantiser.unpack(frame.detail, frame.erasures, shape)
        latent = self.bundle.quantiser.decode(tokens, arrived)
        planes = self.runtime.synthesise(np.ascontiguousarray(latent[None]), vector)[0]
        image = (planes.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
        return DecodeResult(
            image=np.ascontiguousarray(image[: header.height, : header.width]),
            label=label,
            neighbours=neighbours,
            confidence=confidence,
            layers_ok={"semantic": frame.semantic is not None, "detail": bool(arrived.all())},
        )

    def _check(self, header: FrameHeader) -> None:
        if header.kb_id != self.kb_id:
            raise FrameError(
                f"frame was made with knowledge base {header.kb_id.hex()}, this receiver has {self.kb_id.hex()}; "
                "give both ends the same bundle"
            )
        if header.semantic_bytes != self.bundle.knowledge.air_code.size:
            raise FrameError(
                f"air code has {header.semantic_bytes} bytes; this bundle's has {self.bundle.knowledge.air_code.size}"
            )
        if header.levels > self.levels:
            raise FrameError(f"frame has {header.levels} codebook levels; this bundle has {self.levels}")
        if max(header.height, header.width) > LARGEST:
            raise FrameError(f"frame is of {header.width}x{header.height} pixels; this codec takes up to {LARGEST}")


def _planes(image: UInt8Image) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None].astype(np.float32) / 255)


def _vote(hits: list[Hit]) -> tuple[str, float]:
    """The label with the largest share of softmax(score / temperature) over the hits, and that share."""
    scores = np.array([hit.score for hit in hits])
    weights = np.exp((scores - scores.max()) / VOTE_TEMPERATURE)
    shares: dict[str, float] = {}
    for hit, weight in zip(hits, weights / weights.sum(), strict=True):
        shares[hit.label] = shares.get(hit.label, 0.0) + float(weight)
    best = max(shares, key=lambda label: shares[label])
    return best, shares[best]
