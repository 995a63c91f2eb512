"""The DeepJSCC baseline: a picture as symbols of a learned code, through the modem or over the grid.

    picture -> padded to stride 4 -> encoder -> symbols | air | LMMSE estimates -> decoder -> cropped

E. Bourtsoulatze, D. B. Kurka and D. Gunduz, "Deep joint source-channel coding for wireless image transmission", IEEE
Transactions on Cognitive Communications and Networking 5 (2019). On the modem the symbols are the analog detail layer
of a frame without a semantic layer; preamble, header and pilots are counted. A lost burst shows mid-grey. The receiver
finds the meaning in the picture that it shows, by the bundle's encoder and knowledge base.
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
from crlsc_phy.link.score import Scorer, air_metrics, frame_counts, grey, load_codec, sent_images
from crlsc_phy.link.symbols import over_air
from crlsc_phy.semantic.deepjscc import STRIDE, DeepJscc

__all__ = ["DeepJsccChain", "DeepJsccOptions"]

_PICTURES_KEPT = 256


@dataclass(frozen=True)
class DeepJsccOptions:
    """Options of :class:`DeepJsccChain`.

    Attributes:
        weights: File of the networks. It decides the number of symbols: CBR 1/12 as shipped.
            ``crlsc-sweep train-baseline`` makes others.

    Raises:
        SweepError: If there is no such file.
    """

    weights: str = "models/baselines/deepjscc-1-12.safetensors"

    def __post_init__(self) -> None:
        if not Path(self.weights).is_file():
            raise SweepError(f"weights {self.weights}: no such file; make it with crlsc-sweep train-baseline")

    @property
    def files(self) -> tuple[Path, ...]:
        """Files whose content decides the results, as the options do."""
        return (Path(self.weights),)


class DeepJsccChain:
    """A picture by DeepJSCC.

    Args:
        options: Options of the chain.
        scene: Scene with pictures.

    Raises:
        SweepError: If the scene has no picture, a picture has a size that the codec does not take, the weights cannot
            be used, or the link cannot carry the channel.
        BundleError: If the bundle cannot be used.
    """

    Options = DeepJsccOptions

    def __init__(self, options: DeepJsccOptions, scene: Scene) -> None:
        try:
            self._network = DeepJscc.load(Path(options.weights))
        except BundleError as error:
            raise SweepError(f"weights {error}") from None
        self._images = sent_images(scene)
        self._scorer = Scorer(load_codec(scene.bundle))
        self._link = over_air(scene)
        # Replicas repeat pictures.
        self._encoded = lru_cache(maxsize=_PICTURES_KEPT)(self._encode)

    def run(self, trial: Trial) -> Outcome:
        """Send a picture once; ``encode_s`` and ``decode_s`` are the CPU times of the networks alone."""
        number = trial.replica % len(self._images)
        sent = self._images[number]
        symbols, encode_s = self._encoded(number)
        received, noise = self._link.send(symbols, trial.snr_db, np.random.default_rng(trial.seed))
        lost = bool(np.isinf(noise).all())
        start = time.process_time()
        shown = grey(sent.image) if lost else self._decode(received / (1 + noise), sent.image)
        decode_s = time.process_time() - start
        meaning = self._scorer.meaning(sent) if lost else self._scorer.meaning_shown(sent, shown)
        metrics = self._scorer.likeness(sent, shown) | meaning
        metrics |= air_metrics(sent, self._link.uses(symbols.size), trial.snr_db)
        metrics |= {"outage": float(lost), "encode_s": encode_s, "decode_s": decode_s}
        return Outcome(frame_counts(lost), ImageResult(sent.name, metrics, shown))

    def _encode(self, number: int) -> tuple[NDArray[np.complex64], float]:
        """Return the symbols, complex64 [1, n], and the CPU time in seconds that they took."""
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
