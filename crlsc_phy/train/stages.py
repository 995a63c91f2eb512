"""The stages of a recipe, each leaving its result below the run's folder.

    space      features of the public images, the head, the air code and the shared knowledge base
    encoder    stage 1 of CRLSC: the terminal's encoder against the knowledge base
    detail     stage 2: the detail coder, alone and then conditioned on decoded air codes
    bundle     export, parity of the two runtimes, held-out metrics, model card

A stage whose result is there is not run again; a loop that was cut off goes on from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from crlsc_phy.images import UInt8Image
from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase
from crlsc_phy.semantic.encoder import LocalEncoder
from crlsc_phy.semantic.teacher import load_classes
from crlsc_phy.train.data import CropSampler, Pictograms, load_photos, load_pictograms
from crlsc_phy.train.detail import DetailTraining
from crlsc_phy.train.encoder import EncoderTraining
from crlsc_phy.train.loop import fit
from crlsc_phy.train.recipe import LoopRecipe, Recipe
from crlsc_phy.train.space import tower_features, train_head

__all__ = ["Run", "train_detail", "train_encoder", "train_space"]

LICENCES = {"google": "Apache-2.0", "twitter": "CC-BY-4.0", "fluent": "MIT"}


@dataclass(frozen=True)
class Run:
    """A recipe with its folders.

    Attributes:
        recipe: What to make.
        data: Where ``crlsc-train data`` put the sets.
        folder: Where results and checkpoints go.
    """

    recipe: Recipe
    data: Path
    folder: Path

    @property
    def air_code(self) -> AirCode:
        """The air code of the space stage."""
        return KnowledgeBase.open(self.folder / "space/skb").air_code

    def load_encoder(self) -> LocalEncoder:
        """The encoder of the encoder stage."""
        encoder = LocalEncoder(self.recipe.encoder)
        encoder.load_state_dict(load_file(self.folder / "encoder/encoder.safetensors"))
        return encoder.eval()


def train_space(run: Run) -> None:
    """Make the shared space, its air code and the shared knowledge base in ``space/``."""
    folder, recipe = run.folder / "space", run.recipe.space
    if (folder / "skb/current").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    sets, rows = paired_pictograms(run)

    def features(part: str, images: UInt8Image, pixels: int) -> Tensor:
        return tower_features(images, recipe.tower, pixels, folder / f"features/{part}-{pixels}.npy")

    views = [
        tuple(
            features(vendor, each.images, pixels)[row]
            for vendor, each, row in zip(recipe.vendors, sets, rows, strict=True)
        )
        for pixels in recipe.pixels
    ]
    photo_features = features("photos", photo_crops(run), recipe.pixels[-1])
    classes, directions = load_classes(recipe.tower)
    head = train_head(
        views,  # type: ignore[arg-type]
        photo_features,
        directions,
        run.recipe.encoder.dim,
        recipe.steps,
        run.recipe.seed,
    )
    save_file(head.state_dict(), folder / "head.safetensors")
    with torch.inference_mode():
        at_sizes = [head(side) for pair in views for side in pair]
        photos, placed = head(photo_features), head.place(directions)
    known = torch.cat([*at_sizes, photos, placed]).numpy()
    code = AirCode.train(known, recipe.code_bytes, run.recipe.seed, rounds=recipe.order_rounds)
    pictograms = torch.cat(at_sizes[-2:])
    base = torch.cat([pictograms, placed])
    save_file({"pictograms": pictograms, "photos": photos, "base": base}, folder / "vectors.safetensors")
    entries = [
        Entry(f"{vendor}/{each.ids[i]}", each.names[i], f"pictograms by {vendor}", LICENCES.get(vendor, "unknown"))
        for vendor, each, row in zip(recipe.vendors, sets, rows, strict=True)
        for i in row
    ]
    entries += [Entry(f"class/{i}", name, f"classes of {recipe.tower}", "Apache-2.0") for i, name in enumerate(classes)]
    KnowledgeBase.create(folder / "skb", code, base.numpy(), entries)


def paired_pictograms(run: Run) -> tuple[list[Pictograms], list[list[int]]]:
    """The pictograms of the two vendors, and for each the rows of those that both drew, in one order."""
    sets = [load_pictograms(run.data, vendor) for vendor in run.recipe.space.vendors]
    in_both = set(sets[0].ids) & set(sets[1].ids)
    shared = [name for name in sets[0].ids if name in in_both]
    return sets, [[each.ids.index(name) for name in shared] for each in sets]


def photo_crops(run: Run) -> UInt8Image:
    """Crops of the training photographs that every semantic stage shares: uint8 [N, 128, 128, 3]."""
    sampler = CropSampler(list(load_photos(run.data, "train").values()), None, size=128)
    generator = torch.Generator().manual_seed(run.recipe.seed)
    crops = sampler.batch(run.recipe.space.photo_crops, generator)
    return (crops * 255).round().byte().permute(0, 2, 3, 1).numpy()


def train_encoder(run: Run) -> None:
    """Train the terminal's encoder into ``encoder/encoder.safetensors``."""
    folder = run.folder / "encoder"
    if (folder / "encoder.safetensors").exists():
        return
    known = load_file(run.folder / "space/vectors.safetensors")
    pictures = [each.images[row] for each, row in zip(*paired_pictograms(run), strict=True)]
    images = torch.from_numpy(np.concatenate([*pictures, photo_crops(run)])).permute(0, 3, 1, 2).contiguous()
    loop = run.recipe.encoder_loop
    torch.manual_seed(run.recipe.seed)
    module = EncoderTraining(
        run.recipe.encoder,
        images,
        torch.cat([known["pictograms"], known["photos"]]),
        known["base"],
        run.recipe.encoder_frozen,
        loop.batch,
        loop.steps,
        loop.learning_rate,
        run.recipe.seed,
    )
    # Depthwise convolutions run almost twice as fast in this layout.
    module.encoder.to(memory_format=torch.channels_last)
    fit(module, folder, run.recipe.threads)
    save_file(_plain(module.encoder), folder / "encoder.safetensors")


def train_detail(run: Run) -> None:
    """Train the detail coder, alone and then conditioned, into ``detail/detail.safetensors``."""
    folder = run.folder / "detail"
    if (folder / "detail.safetensors").exists():
        return
    photos = list(load_photos(run.data, "train").values())
    pictograms = np.concatenate([load_pictograms(run.data, vendor).images for vendor in run.recipe.space.vendors])
    crops = CropSampler(photos, pictograms)

    def training(loop: LoopRecipe, semantic: Callable[[Tensor], Tensor] | None) -> DetailTraining:
        torch.manual_seed(run.recipe.seed)
        return DetailTraining(
            run.recipe.detail, crops, semantic, loop.batch, loop.steps, loop.learning_rate, run.recipe.seed
        )

    alone = folder / "alone/detail.safetensors"
    if not alone.exists():
        module = training(run.recipe.detail_alone, None)
        fit(module, alone.parent, run.recipe.threads)
        save_file(_plain(module.coder), alone)
    module = training(run.recipe.detail_conditioned, received_semantics(run.load_encoder(), run.air_code))
    module.coder.load_state_dict(load_file(alone))
    fit(module, folder / "conditioned", run.recipe.threads)
    save_file(_plain(module.coder), folder / "detail.safetensors")


def received_semantics(encoder: LocalEncoder, code: AirCode) -> Callable[[Tensor], Tensor]:
    """What a receiver knows of an image's meaning: the encoder's vector after the air code."""

    def semantic(images: Tensor) -> Tensor:
        size = (encoder.config.pixels,) * 2
        vectors = encoder(F.interpolate(images, size, mode="bilinear", antialias=True))
        return torch.from_numpy(code.decode(code.encode(vectors.numpy())))

    return semantic


def _plain(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
