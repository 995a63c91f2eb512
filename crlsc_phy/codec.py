"""The semantic codec: an image to a semantic frame and back.

image -> local encoder -> vector -> air code ------------------> semantic layer -> nearest entries, label
  |                                                                   | vector
  +----> analysis -> latent -> residual tokens -> detail layer -> latent -> synthesis -> image
  `----> analog sender or analysis -> analog symbols -> ... -> analog receiver or synthesis -> image
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from crlsc_phy.bundle import Bundle
from crlsc_phy.errors import BundleError, FrameError, ImageError, KnowledgeBaseError, ModemError
from crlsc_phy.frame import SYMBOL, FrameHeader, Mode, SemanticFrame
from crlsc_phy.images import UInt8Image, check_image, pad_to_stride, resize
from crlsc_phy.knowledge import Hit, KnowledgeBase
from crlsc_phy.knowledge.joint import check_one_air_code, joint_extrinsic, joint_repair, joint_search
from crlsc_phy.phy.turbo import turbo_decode
from crlsc_phy.semantic.analog import AnalogDetail, LatentTransform, LearnedAnalog
from crlsc_phy.semantic.runtime import Runtime, load_runtime

__all__ = ["DecodeResult", "SemanticCodec"]

STRIDE = 8
SMALLEST, LARGEST = 32, 1024
VOTERS = 20
VOTE_TEMPERATURE = 0.05
ASSUMED_SNR_DB = 20.0
"""Es/N0 that the analog receiver assumes where none is given."""
_SNR_RANGE_DB = (-100.0, 100.0)


@dataclass(frozen=True)
class DecodeResult:
    """Result of decoding a frame.

    Attributes:
        image: uint8 [H, W, 3].
        label: Label of the image by a vote of its neighbours; empty if the semantic layer is lost and cannot be
            repaired, or the knowledge bases are empty.
        neighbours: Nearest entries of the knowledge bases, best first.
        confidence: Share of the vote for ``label``, 0 to 1; not calibrated.
        vector: Semantic vector as received or repaired, float32 [D]; zeros if the semantic layer is lost.
        layers_ok: Whether the layers ``semantic`` and ``detail`` arrived complete.
        repaired: Whether a lost semantic layer was repaired with the knowledge bases.
    """

    image: UInt8Image
    label: str
    neighbours: tuple[Hit, ...]
    confidence: float
    vector: npt.NDArray[np.float32]
    layers_ok: dict[str, bool]
    repaired: bool = False


class SemanticCodec:
    """Encoder and decoder of one bundle.

    Args:
        bundle: Trained model.
        runtime: Its networks.
        private: Private knowledge bases, searched beside that of the bundle.
        pixels: Side in pixels of the square images that the runtime's encoder takes; by default that of the bundle's
            first encoder.

    Attributes:
        bases: Knowledge base of the bundle, and the private ones.
        classes: Labels that :meth:`classify` can return; empty if the bundle has no classifier.

    Raises:
        BundleError: If a private base has another air code than the bundle.
    """

    def __init__(
        self, bundle: Bundle, runtime: Runtime, private: Sequence[KnowledgeBase] = (), pixels: int | None = None
    ) -> None:
        self.bundle, self.runtime, self._air_code = bundle, runtime, bundle.knowledge.air_code
        self.bases = (bundle.knowledge, *private)
        try:
            check_one_air_code(self.bases)
        except KnowledgeBaseError:
            names = ", ".join(str(base.path) for base in private)
            raise BundleError(
                f"{names}: made with another air code than bundle {bundle.folder}; build it again"
            ) from None
        self.kb_id = bundle.shared_id[:4]
        self.levels = bundle.quantiser.levels
        self.analog: AnalogDetail = LatentTransform(bundle.quantiser.codebooks)
        if "analog" in bundle.config:
            self.analog = LearnedAnalog(bundle.config["analog"]["symbols"])
        self.classes, self._head = bundle.classifier()
        self._pixels = pixels or int(bundle.config["encoder"]["pixels"])

    @classmethod
    def load(
        cls,
        path: str | Path,
        runtime: str = "onnx",
        threads: int = 1,
        private: Sequence[str | Path] = (),
        encoder: str = "",
    ) -> SemanticCodec:
        """Load a bundle.

        Args:
            path: Folder of the bundle, such as ``models/default``.
            runtime: ``onnx`` or ``torch``.
            threads: Number of threads that a network may use in the ``onnx`` runtime.
            private: Folders of private knowledge bases, made by ``crlsc-kb build``.
            encoder: Name of one of the bundle's encoders, such as ``small``; the first one by default. All of them
                work with any decoder of the bundle.

        Raises:
            BundleError: If the bundle is damaged, incomplete or newer, has no such encoder, or the runtime is not
                installed; or if a private base has another air code.
            KnowledgeBaseError: If a private base is missing or damaged.

        >>> codec = SemanticCodec.load("models/default")
        >>> codec.kb_id == codec.bundle.shared_id[:4]
        True
        """
        bundle = Bundle.load(path)
        bases = [KnowledgeBase.open(folder) for folder in private]
        file, sizes = bundle.encoder(encoder)
        networks = load_runtime(runtime, bundle.folder, file, {**bundle.config, "encoder": sizes}, threads)
        return cls(bundle, networks, bases, int(sizes["pixels"]))

    def refresh(self) -> list[str]:
        """Open newer generations of the knowledge bases, for example after a pull.

        Returns:
            One line for each base whose newest generation is damaged; it stays as it was.
        """
        return [line for base in self.bases if (line := _refresh(base))]

    def embed(self, image: UInt8Image) -> npt.NDArray[np.float32]:
        """Return the semantic vector of an image, uint8 [H, W, 3]: float32 [D] of unit norm, not quantised."""
        vector: npt.NDArray[np.float32] = self.runtime.semantic(_planes(resize(image, self._pixels, self._pixels)))[0]
        return vector

    def encode(
        self,
        image: UInt8Image,
        sequence: int = 0,
        levels: int | None = None,
        mode: Literal["digital", "analog"] = "digital",
    ) -> SemanticFrame:
        """Encode an image.

        Args:
            image: uint8 [H, W, 3], sides of 32 to 1024 pixels.
            sequence: Counter for the header, taken modulo 2**16.
            levels: Rate of the detail layer: 0 for the semantic layer alone, the highest by default. In digital mode
                the number of codebook levels, up to ``self.levels``. In analog mode the number of complex symbols for
                8 x 8 pixels, up to ``self.analog.most``.
            mode: ``digital`` for a detail layer of tokens, ``analog`` for one of symbols.

        Raises:
            ImageError: If the image has another type, shape or size, or ``levels`` or ``mode`` is not valid.

        >>> codec = SemanticCodec.load("models/default")
        >>> frame = codec.encode(np.full((64, 64, 3), 120, np.uint8))
        >>> frame.header.width, len(frame.semantic)
        (64, 16)
        """
        image = check_image(image, SMALLEST, LARGEST)
        if mode not in ("digital", "analog"):
            raise ImageError(f"mode {mode!r:.40} is unknown; choose digital or analog")
        most = self.levels if mode == "digital" else self.analog.most
        levels = most if levels is None else levels
        if not (isinstance(levels, int | np.integer) and not isinstance(levels, bool) and 0 <= levels <= most):
            raise ImageError(f"levels is {levels!r:.40}; in mode {mode} it must be a whole number from 0 to {most}")
        semantic = self._air_code.encode(self.embed(image)[None])[0].tobytes()
        detail = b""
        if levels:
            planes = _planes(pad_to_stride(image, STRIDE))
            if mode == "analog":
                symbols, levels = self.analog.send(self.runtime, planes, levels)
                detail = symbols.astype(SYMBOL).tobytes()
            else:
                latent = self.runtime.analyse(planes)[0]
                detail = self.bundle.quantiser.pack(self.bundle.quantiser.encode(latent, levels))
        header = FrameHeader(
            kb_id=self.kb_id,
            height=image.shape[0],
            width=image.shape[1],
            semantic_bytes=len(semantic),
            detail_bytes=len(detail),
            levels=int(levels),
            sequence=int(sequence) % 65536,
            mode=Mode[mode.upper()] if detail else Mode.SEMANTIC,
        )
        return SemanticFrame(header, semantic, detail)

    def decode(
        self,
        frame: SemanticFrame,
        snr_db: float | None = None,
        semantic_llr: npt.NDArray[np.float32] | None = None,
        semantic_coded_llr: npt.NDArray[np.float32] | None = None,
    ) -> DecodeResult:
        """Decode a frame, complete or with losses.

        A lost semantic layer is repaired with the knowledge bases if possible. First they and the LDPC decoder search
        for the code together (turbo decoding). If its CRC still fails, the most likely entry is taken, if it is
        trusted. Without a semantic layer there are no label and no neighbours. Lost tokens reduce sharpness where they
        were; without any token the picture is drawn from the semantic vector alone.

        Args:
            frame: Frame from :meth:`encode` or a modem.
            snr_db: Estimated Es/N0 of the analog symbols in dB (``Burst.detail_snr_db``). None and NaN stand for an
                unknown value; 20 dB is then assumed. Digital detail does not depend on it.
            semantic_llr: LLRs of the bits of the air code (``Burst.semantic_llr``), float32 [8 M]. They are used if the
                semantic layer is lost.
            semantic_coded_llr: LLRs of its coded bits (``Burst.semantic_coded_llr``), float32 [40 (M + 2)]. They are
                used if the semantic layer is lost.

        Raises:
            FrameError: If the frame was made with another knowledge base, or its sizes or those of the LLRs do not
                match.

        >>> codec = SemanticCodec.load("models/default")
        >>> result = codec.decode(codec.encode(np.full((64, 48, 3), 120, np.uint8)))
        >>> result.image.shape, result.layers_ok
        ((64, 48, 3), {'semantic': True, 'detail': True})
        """
        header = frame.header
        self._check(header)
        neighbours: tuple[Hit, ...] = ()
        label, confidence = "", 0.0
        vector = np.zeros((1, self._air_code.dim), np.float32)
        if frame.semantic is None:
            code = self._repaired(header, semantic_llr, semantic_coded_llr)
        else:
            code = np.frombuffer(frame.semantic, np.uint8)
        if code is not None:
            vector = self._air_code.decode(code[None])
            label, confidence, neighbours = self.look_up(vector[0])
        snr_db = ASSUMED_SNR_DB if snr_db is None or np.isnan(snr_db) else float(np.clip(snr_db, *_SNR_RANGE_DB))
        planes, whole = self._picture(frame, vector, snr_db)
        image = (planes.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0)
        return DecodeResult(
            image=np.ascontiguousarray(image[: header.height, : header.width]),
            label=label,
            neighbours=neighbours,
            confidence=confidence,
            vector=vector[0],
            layers_ok={"semantic": frame.semantic is not None, "detail": whole},
            repaired=frame.semantic is None and code is not None,
        )

    def look_up(self, vector: npt.NDArray[np.float32]) -> tuple[str, float, tuple[Hit, ...]]:
        """Find label, confidence and neighbours of a semantic vector, float32 [D]; see :class:`DecodeResult`."""
        hits = joint_search(self.bases, vector[None], VOTERS)[0]
        return *_vote(hits), tuple(hits)

    def classify(self, frame: SemanticFrame) -> tuple[str, float]:
        """Return the label of a frame from the bundle's linear classifier, and its probability (not calibrated).

        Unlike the vote of :meth:`decode` it needs no search, but it knows only the classes that it was trained for.

        Raises:
            BundleError: If the bundle has no classifier.
            FrameError: If the frame was made with another knowledge base, or its semantic layer is lost.
        """
        if self._head is None:
            raise BundleError(f"bundle {self.bundle.folder}: has no classifier; train one with the task classification")
        self._check(frame.header)
        if frame.semantic is None:
            raise FrameError("the semantic layer is lost, so the frame cannot be classified")
        weight, bias = self._head
        vector = self._air_code.decode(np.frombuffer(frame.semantic, np.uint8)[None])[0]
        logits = weight @ vector + bias
        shares = np.exp(logits - logits.max())
        best = int(shares.argmax())
        return self.classes[best], float(shares[best] / shares.sum())

    def _repaired(
        self, header: FrameHeader, llr: npt.NDArray[np.float32] | None, coded_llr: npt.NDArray[np.float32] | None
    ) -> npt.NDArray[np.uint8] | None:
        """Return the air code of a lost semantic layer, uint8 [M]; None if it cannot be repaired."""
        if not any(len(base) for base in self.bases):
            return None
        try:
            if coded_llr is not None:
                found = turbo_decode(coded_llr, header, partial(joint_extrinsic, self.bases))
                if found is not None:
                    return np.frombuffer(found, np.uint8)
            if llr is not None:
                repair = joint_repair(self.bases, llr)
                return repair.code if repair.known else None
        except (KnowledgeBaseError, ModemError) as error:
            raise FrameError(f"LLRs of the semantic layer do not match the frame: {error}") from None
        return None

    def _picture(
        self, frame: SemanticFrame, vector: npt.NDArray[np.float32], snr_db: float
    ) -> tuple[npt.NDArray[np.float32], bool]:
        """Return the picture, float32 [3, 8 h, 8 w], and whether the detail layer is complete."""
        header, quantiser = frame.header, self.bundle.quantiser
        shape = (-(-header.height // STRIDE), -(-header.width // STRIDE))
        if header.mode is Mode.ANALOG and frame.detail:
            return self.analog.receive(self.runtime, frame.symbols, header.levels, shape, snr_db, vector)[0], True
        levels = header.levels if header.mode is Mode.DIGITAL else 0
        tokens, arrived = quantiser.unpack(frame.detail, frame.erasures, (levels, *shape))
        latent = np.ascontiguousarray(quantiser.decode(tokens, arrived)[None])
        return self.runtime.synthesise(latent, vector)[0], bool(arrived.all()) and frame.detail is not None

    def _check(self, header: FrameHeader) -> None:
        if header.kb_id != self.kb_id:
            raise FrameError(
                f"frame was made with knowledge base {header.kb_id.hex()}, but this receiver has {self.kb_id.hex()}; "
                "use the same bundle at both ends"
            )
        size = self._air_code.size
        if header.semantic_bytes != size:
            raise FrameError(f"frame has an air code of {header.semantic_bytes} bytes; that of this bundle has {size}")
        if header.mode is Mode.DIGITAL and header.levels > self.levels:
            raise FrameError(f"frame has {header.levels} codebook levels; this bundle has {self.levels}")
        if max(header.height, header.width) > LARGEST:
            raise FrameError(
                f"frame has {header.width}x{header.height} pixels; the limit of this codec is {LARGEST} a side"
            )


def _refresh(base: KnowledgeBase) -> str:
    try:
        base.refresh()
    except KnowledgeBaseError as error:
        return f"knowledge base {base.name} is not updated: {error}"
    return ""


def _planes(image: UInt8Image) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None].astype(np.float32) / 255)


def _vote(hits: Sequence[Hit]) -> tuple[str, float]:
    """Return the label with the largest share of softmax(score / temperature) over the hits, and that share."""
    if not hits:
        return "", 0.0
    scores = np.array([hit.score for hit in hits])
    weights = np.exp((scores - scores.max()) / VOTE_TEMPERATURE)
    shares: dict[str, float] = {}
    for hit, weight in zip(hits, weights / weights.sum(), strict=True):
        shares[hit.label] = shares.get(hit.label, 0.0) + float(weight)
    best = max(shares, key=lambda label: shares[label])
    return best, shares[best]
