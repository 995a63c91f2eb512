"""A run's folder from the bundle that it made, to add a stage to a bundle whose run is gone."""

from __future__ import annotations

from safetensors.torch import load_file, save_file

from crlsc_phy.bundle import CODEBOOKS, KNOWLEDGE, TEXT_HEAD, Bundle
from crlsc_phy.errors import TrainingError
from crlsc_phy.semantic.detail import DetailCoder
from crlsc_phy.train.stages import Run

__all__ = ["restore_run"]


def restore_run(bundle: Bundle, run: Run) -> None:
    """Write what the stages space, encoder and detail left in ``bundle`` as their results in ``run.folder``.

    Weights are those of the bundle, at half precision. The stages are then done and the others go on from them.

    Raises:
        TrainingError: If the recipe has other sizes than the bundle, or the folder holds results already.
    """
    for name in ("encoder", "detail"):
        made, wanted = bundle.config[name], vars(getattr(run.recipe, name))
        if made != wanted:
            raise TrainingError(f"{bundle.folder}: its {name} is {made}; the recipe says {wanted}")
    if run.folder.exists() and any(run.folder.iterdir()):
        raise TrainingError(f"{run.folder}: holds a run; restore into an empty folder")
    for stage in ("space", "encoder", "detail"):
        (run.folder / stage).mkdir(parents=True, exist_ok=True)
    bundle.knowledge.snapshot(run.folder / "space" / KNOWLEDGE)
    if (bundle.folder / TEXT_HEAD).exists():
        head = load_file(bundle.folder / TEXT_HEAD)
        save_file({"linear.weight": head["weight"].float()}, run.folder / "space/head.safetensors")
    encoder = load_file(bundle.folder / "encoder.safetensors")
    save_file({name: tensor.float() for name, tensor in encoder.items()}, run.folder / "encoder/encoder.safetensors")
    detail = DetailCoder(run.recipe.detail)
    detail.load_state_dict(load_file(bundle.folder / "detail.safetensors"), strict=False)
    detail.quantiser.codebooks.copy_(load_file(bundle.folder / CODEBOOKS)["codebooks"])
    save_file(detail.state_dict(), run.folder / "detail/detail.safetensors")
