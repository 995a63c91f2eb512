"""DeepJSCC, the published learned code that ours is compared with.

    image -> 5 convolutions -> symbols of unit power    | air |    symbols -> 5 transposed convolutions -> image

Source: E. Bourtsoulatze, D. Burth Kurka and D. Gunduz, "Deep joint source-channel coding for wireless image
transmission", IEEE Trans. Cognitive Communications and Networking 5(3), 2019, figure 2. Layers and their names are
those of ``Bourtsoulatze2019DeepJSCCEncoder`` and ``...Decoder`` in Kaira (PyPI ``pykaira`` 0.2.1), so that the weights
of either fit the other. It is written anew because Kaira imports torchaudio, compressai, torch-geometric, seaborn and
six more packages, none of which the two networks use.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from crlsc_phy.errors import BundleError
from crlsc_phy.files import placed

__all__ = ["STRIDE", "DeepJscc"]

STRIDE = 4
"""Both sides of an image must be multiples of it."""


class DeepJscc(nn.Module):
    """Encoder and decoder.

    Args:
        filters: Real values at each position of stride 4, an even number; the CBR is ``filters / 96``.
    """

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.filters = filters
        self.encoder = _stack(
            _convolution(3, 16, 2), _convolution(16, 32, 2), _convolution(32, 32), _convolution(32, 32),
            _convolution(32, filters),
        )  # fmt: skip
        self.decoder = _stack(
            _transposed(filters, 32), _transposed(32, 32), _transposed(32, 32), _transposed(32, 16, 2),
            _transposed(16, 3, 2, nn.Sigmoid()),
        )  # fmt: skip

    def encode(self, images: Tensor) -> Tensor:
        """Encode images float32 [N, 3, H, W] into symbols complex64 [N, H W filters / 32], of unit mean power each."""
        # Under autocast the values come in half precision, which complex symbols do not have.
        values = self.encoder(images).flatten(1).float()
        values = values / values.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-6)
        # A symbol has the power of both its parts.
        return torch.view_as_complex(values.reshape(len(values), -1, 2)) / 2**0.5

    def decode(self, symbols: Tensor, height: int, width: int) -> Tensor:
        """Decode received symbols.

        Args:
            symbols: complex64 [N, H W filters / 32].
            height: Height of the images in pixels, H.
            width: Width of the images in pixels, W.

        Returns:
            Images float32 [N, 3, H, W] in 0..1.
        """
        values = torch.view_as_real(symbols * 2**0.5)
        images: Tensor = self.decoder(values.reshape(len(symbols), self.filters, height // STRIDE, width // STRIDE))
        return images

    def save(self, path: Path) -> None:
        """Write the weights in half precision and put the file in place; the network keeps the rounded weights."""
        self.half()
        with placed(path) as aside:
            save_file({name: value.contiguous() for name, value in self.state_dict().items()}, aside)
        self.float()

    @classmethod
    def load(cls, path: Path) -> DeepJscc:
        """Read a network and put it into evaluation mode.

        Raises:
            BundleError: If the file is missing, damaged, or holds another network.
        """
        try:
            with safe_open(path, "pt") as file:
                weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            network = cls(weights["decoder.model.0.transconv.weight"].shape[0])
            network.load_state_dict(weights)
        except FileNotFoundError:
            raise BundleError(f"{path}: no such file; make the weights with crlsc-sweep train-baseline") from None
        except (OSError, SafetensorError, KeyError, RuntimeError):
            raise BundleError(f"{path}: has no weights of DeepJSCC, or is damaged") from None
        return network.eval()


def _stack(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(model=nn.Sequential(*layers)))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, 5, stride, 2)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="leaky_relu")
    return nn.Sequential(OrderedDict(conv=conv, prelu=nn.PReLU()))


def _transposed(inputs: int, outputs: int, stride: int = 1, activation: nn.Module | None = None) -> nn.Module:
    conv = nn.ConvTranspose2d(inputs, outputs, 5, stride, 2, stride - 1)
    if activation is None:
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="leaky_relu")
    else:
        nn.init.xavier_normal_(conv.weight)
    return nn.Sequential(OrderedDict(transconv=conv, activate=activation or nn.PReLU()))
