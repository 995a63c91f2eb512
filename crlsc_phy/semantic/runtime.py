"""Runtimes of the networks of a bundle: onnxruntime for terminals, torch for training and sweeps.

Their outputs differ by at most 1e-4. Neither library is imported before its runtime is loaded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crlsc_phy.errors import BundleError, brief

__all__ = ["ANALOG", "ANALOG_NETWORKS", "DETAIL", "NETWORKS", "RUNTIMES", "Runtime", "load_runtime"]

Array = npt.NDArray[np.float32]

RUNTIMES = ("onnx", "torch")
NETWORKS = ("encoder", "analysis", "synthesis")
ANALOG_NETWORKS = ("analog_sender", "analog_receiver")
"""Networks of a bundle with an analog coder, beside the others."""
DETAIL, ANALOG = "detail.safetensors", "analog.safetensors"
"""Files with the weights of the detail coder and of the analog coder."""


class Runtime(ABC):
    """Networks of a bundle, on arrays."""

    @abstractmethod
    def _run(self, network: str, *inputs: Array) -> Array: ...

    def semantic(self, image: Array) -> Array:
        """Encode images float32 [N, 3, P, P] in 0..1 into semantic vectors float32 [N, S] of unit norm."""
        return self._run("encoder", image)

    def analyse(self, image: Array) -> Array:
        """Analyse images float32 [N, 3, H, W] in 0..1 into latents float32 [N, D, H/8, W/8]."""
        return self._run("analysis", image)

    def synthesise(self, latent: Array, semantic: Array) -> Array:
        """Synthesise images float32 [N, 3, 8h, 8w] from latents float32 [N, D, h, w] and vectors float32 [N, S]."""
        return self._run("synthesis", latent, semantic)

    def analog_send(self, image: Array) -> Array:
        """Analyse images float32 [N, 3, H, W] in 0..1 into components float32 [N, 2 M, H/8, W/8], strongest first."""
        return self._run("analog_sender", image)

    def analog_receive(self, components: Array, semantic: Array, state: Array) -> Array:
        """Synthesise images from received components.

        Args:
            components: float32 [N, 2 M, h, w], zero where they were not sent.
            semantic: Semantic vectors, float32 [N, S].
            state: float32 [N, 3], see :class:`crlsc_phy.semantic.analog_coder.AnalogReceiver`.

        Returns:
            float32 [N, 3, 8h, 8w].
        """
        return self._run("analog_receiver", components, semantic, state)


class OnnxRuntime(Runtime):
    """Networks on onnxruntime's CPU provider; the arguments are those of :func:`load_runtime`."""

    def __init__(self, folder: Path, encoder: str, config: dict[str, Any], threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._sessions = {
                name: onnxruntime.InferenceSession(
                    (folder / f"{encoder if name == 'encoder' else name}.onnx").read_bytes(),
                    options,
                    providers=["CPUExecutionProvider"],
                )
                for name in (*NETWORKS, *(ANALOG_NETWORKS if "analog" in config else ()))
            }
        except Exception as error:  # onnxruntime's exceptions have no common base of their own.
            raise BundleError(f"{folder}: onnxruntime cannot load it ({brief(error)})") from None

    def _run(self, network: str, *inputs: Array) -> Array:
        session = self._sessions[network]
        names = (each.name for each in session.get_inputs())
        output: Array = session.run(None, dict(zip(names, inputs, strict=True)))[0]
        return output


class TorchRuntime(Runtime):
    """Networks on torch; the arguments are those of :func:`load_runtime`."""

    def __init__(self, folder: Path, encoder: str, config: dict[str, Any]) -> None:
        try:
            import torch
            from safetensors.torch import load_file

            from crlsc_phy.semantic.analog_coder import AnalogCoder, AnalogConfig
            from crlsc_phy.semantic.detail import DetailCoder, DetailConfig
            from crlsc_phy.semantic.encoder import EncoderConfig, LocalEncoder
        except ImportError as error:
            raise BundleError(
                f"runtime torch: {error.name} is not installed; use runtime onnx, or pip install 'crlsc-phy[train]'"
            ) from None
        self._torch = torch
        local = LocalEncoder(EncoderConfig(**config["encoder"])).eval()
        local.load_state_dict(load_file(folder / f"{encoder}.safetensors"))
        detail = DetailCoder(DetailConfig(**config["detail"])).eval()
        detail.load_state_dict(load_file(folder / DETAIL), strict=False)
        self._networks = {"encoder": local, "analysis": detail.analysis, "synthesis": detail.synthesis}
        if "analog" in config:
            analog = AnalogCoder(AnalogConfig(**config["analog"])).eval()
            analog.load_state_dict(load_file(folder / ANALOG))
            self._networks |= {"analog_sender": analog.sender, "analog_receiver": analog.receiver}

    def _run(self, network: str, *inputs: Array) -> Array:
        with self._torch.inference_mode():
            output: Array = self._networks[network](*(self._torch.from_numpy(array) for array in inputs)).numpy()
        return output


def load_runtime(name: str, folder: Path, encoder: str, config: dict[str, Any], threads: int = 1) -> Runtime:
    """Load the networks of the bundle in ``folder``.

    Args:
        name: ``onnx`` or ``torch``.
        folder: Folder of the bundle, its hashes already checked.
        encoder: Name of the encoder's files without their suffix.
        config: ``config`` of the manifest, with the sizes of that encoder as ``encoder``.
        threads: Threads of onnxruntime. Those of torch are a setting of the process, which is left as it is.

    Raises:
        BundleError: If the name is unknown, or the networks cannot be loaded.
    """
    if name == "onnx":
        return OnnxRuntime(folder, encoder, config, threads)
    if name == "torch":
        return TorchRuntime(folder, encoder, config)
    raise BundleError(f"runtime {name!r} is unknown; choose {' or '.join(RUNTIMES)}")
