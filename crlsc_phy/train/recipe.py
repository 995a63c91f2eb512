"""A recipe: everything that decides what a bundle becomes, as validated dataclasses read from YAML."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from crlsc_phy.errors import TrainingError
from crlsc_phy.semantic.analog_coder import AnalogConfig
from crlsc_phy.semantic.detail import DetailConfig
from crlsc_phy.semantic.encoder import EncoderConfig

__all__ = ["Recipe", "load_recipe"]

T = TypeVar("T")


@dataclass(frozen=True)
class SpaceRecipe:
    """How the server makes the shared space.

    Attributes:
        tower: Name of the teacher, see :func:`crlsc_phy.semantic.teacher.load_tower`.
        pixels: Image sizes whose features train the head; the last one makes the knowledge base.
        vendors: Two vendors of pictograms, paired by code point.
        photo_crops: Crops of photographs that the space and the air code must also cover.
        steps: Steps of the head.
        code_bytes: Length of the air code.
        order_rounds: Annealing rounds that order the centroids of the air code.
    """

    tower: str = "lite0"
    pixels: tuple[int, ...] = (112, 224, 160)
    vendors: tuple[str, str] = ("google", "twitter")
    photo_crops: int = 4000
    steps: int = 300
    code_bytes: int = 16
    order_rounds: int = 500_000


@dataclass(frozen=True)
class LoopRecipe:
    """Budget of one training loop."""

    steps: int = 1000
    batch: int = 64
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class Recipe:
    """A whole bundle.

    Attributes:
        name: Name of the bundle.
        seed: Seed of every stage.
        threads: Threads of the training loops.
        space, encoder, detail, analog: Sizes.
        encoder_frozen: Stages of the encoder's trunk that are not trained.
        encoder_loop, detail_alone, detail_conditioned, analog_alone, analog_conditioned: Budgets; without steps of
            ``analog_alone`` the bundle has no analog coder and sends the latent of the detail coder in its place.
    """

    name: str = "default"
    seed: int = 0
    threads: int = 1
    space: SpaceRecipe = field(default_factory=SpaceRecipe)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    encoder_frozen: int = 0
    encoder_loop: LoopRecipe = field(default_factory=LoopRecipe)
    detail: DetailConfig = field(default_factory=DetailConfig)
    detail_alone: LoopRecipe = field(default_factory=LoopRecipe)
    detail_conditioned: LoopRecipe = field(default_factory=LoopRecipe)
    analog: AnalogConfig = field(default_factory=AnalogConfig)
    analog_alone: LoopRecipe = field(default_factory=lambda: LoopRecipe(steps=0))
    analog_conditioned: LoopRecipe = field(default_factory=LoopRecipe)

    def __post_init__(self) -> None:
        coders = {"detail": self.detail} | ({"analog": self.analog} if self.analog_alone.steps else {})
        for name, coder in coders.items():
            if self.encoder.dim != coder.semantic_dim:
                raise TrainingError(
                    f"encoder.dim is {self.encoder.dim} but {name}.semantic_dim is {coder.semantic_dim}"
                )
        if self.encoder.dim % self.space.code_bytes:
            raise TrainingError(f"encoder.dim {self.encoder.dim} is no multiple of code_bytes {self.space.code_bytes}")


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe from YAML.

    Raises:
        TrainingError: If the file is missing or not YAML, or a key or a type is wrong.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise TrainingError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    return _build(Recipe, content or {}, str(path))


def _build(kind: type[T], content: Any, where: str) -> T:
    if not isinstance(content, dict):
        raise TrainingError(f"{where}: must be a mapping of options")
    types = get_type_hints(kind)
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key not in known:
            raise TrainingError(f"{where}: unknown option {key!r}; known are {', '.join(sorted(known))}")
        wanted = types[key]
        if isinstance(wanted, type) and is_dataclass(wanted):
            values[key] = _build(wanted, value, f"{where}: {key}")
        elif isinstance(value, list):
            values[key] = tuple(value)
        elif wanted is float and isinstance(value, int):
            values[key] = float(value)
        elif wanted in (int, float, str) and not isinstance(value, wanted):
            raise TrainingError(f"{where}: {key} is {value!r}; it must be {wanted.__name__}")
        else:
            values[key] = value
    return kind(**values)
