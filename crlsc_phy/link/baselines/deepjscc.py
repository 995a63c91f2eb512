"""The DeepJSCC baseline: a picture as symbols of a learned code, through the modem or over the grid.

    picture -> padded to stride 4 -> encoder -> symbols | air | linear estimates -> decoder -> cropped

On the modem the symbols are the analog detail layer of a frame without a semantic layer; preamble, header and pilots
are counted. Where nothing is received the picture is mid-grey. What the receiver has understood is what the bundle's
encoder and knowledge base make of the picture that it shows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from crlsc_phy.errors import BundleError, SweepError
from crlsc_phy.images import UInt8Image, pad_to_stride
from crlsc_phy.link.chain import ImageResult, Outcome, Scene, Trial
from crlsc_phy.link.score import Scorer, grey, load_codec, sent_images
from crlsc_phy.link.symbols import over_air
from crlsc_phy.quality.metrics import cbr
from crlsc_phy.semantic.deepjscc import STRIDE, DeepJscc

__all__ = ["DeepJsccChain", "DeepJsccOptions"]

_PICTURES_KEPT = 256


@dataclass(frozen=True)
class DeepJsccOptions:
    """What the baseline sends.

    Attributes:
        weights: File of the networks, which says how many symbols they send: CBR 1/12 as shipped.
            ``crlsc-sweep train-baseline`` makes others.

    Raises:
        SweepError: If there is no such file.
    """

    weights: str = "models/baselines/deepjscc-1-12.safetensors"

    def __post_init__(self) -> None:
        if not Path(self.weights).is_file():
            raise SweepError(f"weights {self.weights}: no such file; crlsc-sweep train-baseline makes them")

    @property
    def files(self) -> tuple[Path, ...]:
        """What decides the results beside the options."""
        return (Path(self.weights),)


class DeepJsccChain:
    """A picture by DeepJSCC.

    Raises:
        SweepError: If the scene has no picture or one that a codec does not take, the weights cannot be used, or the
            air cannot carry the channel.
        BundleError: If the bundle, whose encoder finds meanings, cannot be used.
    """

    Options = DeepJsccOptions

    def __init__(self, options: DeepJsccOptions, scene: Scene) -> None:
        try:
            self._network = DeepJscc.load(Path(options.weights))
        except BundleError as error:
            raise SweepError(f"weights {error}") from None
        self._images = sent_images(scene)
        self._codec = load_codec(scene.bundle)
        self._scorer = Scorer(self._codec)
        self._link = over_air(scene)
        # Replicas repeat pictures.
        self._encoded = lru_cache(maxsize=_PICTURES_KEPT)(self._encode)

    def run(self, trial: Trial) -> Outcome:
        """Send a picture once. ``encode_s`` and ``decode_s`` are of the networks alone."""
        number = trial.replica % len(self._images)
        sent = self._images[number]
        symbols, encode_s = self._encoded(number)
        received, noise = self._link.send(symbols, trial.snr_db, np.random.default_rng(trial.seed))
        lost = bool(np.isinf(noise).all())
        start = time.process_time()
        shown = grey(sent.image) if lost else self._decode(received / (1 + noise), sent.image)
        decode_s = time.process_time() - start
        if lost:
            meaning = self._scorer.meaning(sent, "", (), None)
        else:
            vector = self._codec.embed(shown)
            label, _, neighbours = self._codec.look_up(vector)
            meaning = self._scorer.meaning(sent, label, neighbours, vector)
        uses = self._link.uses(symbols.size)
        metrics = self._scorer.likeness(sent, shown) | meaning
        metrics |= {
            "outage": float(lost),
            "cbr": cbr(uses, *sent.image.shape[:2]),
            "channel_uses": float(uses),
            "energy": float(uses * 10 ** (trial.snr_db / 10)),
            "encode_s": encode_s,
            "decode_s": decode_s,
        }
        return Outcome({"frames": 1, "frames_lost": int(lost)}, ImageResult(sent.name, metrics, shown))

    def _encode(self, number: int) -> tuple[NDArray[np.complex64], float]:
        """Symbols complex64 [1, n], and the CPU time that they took."""
        start = time.process_time()
        planes = np.moveaxis(pad_to_stride(self._images[number].image, STRIDE), 2, 0)
        with torch.inference_mode():
            symbols = self._network.encode(torch.from_numpy(planes[None] / np.float32(255)))
        return symbols.numpy(), time.process_time() - start

    def _decode(self, estimates: NDArray[np.complex64], image: UInt8Image) -> UInt8Image:
        height, width = image.shape[:2]
        with torch.inference_mode():
            planes = self._network.decode(
                torch.from_numpy(estimates), -(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE
            )[0]
        shown: UInt8Image = (255 * planes).round().byte().permute(1, 2, 0).numpy()[:height, :width]
        return shown
