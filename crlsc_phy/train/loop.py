"""The training loop that all stages share: Lightning, budgeted in steps, resumed from the last checkpoint."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from crlsc_phy.files import write_text

__all__ = ["StepModule", "fit"]

CHECKPOINT_EVERY = 500


class StepModule(lightning.LightningModule):
    """A module that makes batch number ``global_step`` itself.

    The batch depends on the seed and the step alone, so a resumed run sees what an uninterrupted one would have.
    """

    def __init__(self, steps: int, learning_rate: float, seed: int) -> None:
        super().__init__()
        self.steps, self.learning_rate, self.seed = steps, learning_rate, seed
        self._earlier_cpu_s = -time.process_time()

    @property
    def cpu_seconds(self) -> float:
        """CPU time spent on this training, in all processes that took part."""
        return self._earlier_cpu_s + time.process_time()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["cpu_seconds"] = self.cpu_seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._earlier_cpu_s += checkpoint.get("cpu_seconds", 0.0)

    def step_loss(self, generator: torch.Generator) -> dict[str, Tensor]:
        """One batch, drawn with ``generator``: named losses, the one to minimise under ``loss``."""
        raise NotImplementedError

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is trained, in groups as an optimiser takes them."""
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]

    def training_step(self, _batch: object, _index: int) -> Tensor:
        """Draw the batch of this step and log its losses."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.global_step)
        # Codebooks replace idle entries from the global generator.
        torch.manual_seed(self.seed * 1_000_003 + self.global_step)
        losses = self.step_loss(generator)
        self.log_dict(losses, prog_bar=True)
        return losses["loss"]

    def configure_optimizers(self) -> dict[str, object]:  # type: ignore[override]
        """AdamW, 2 % warm-up, then half a cosine down to 1 % of the rate."""
        optimiser = torch.optim.AdamW(
            self.parameter_groups(), lr=self.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4
        )
        warm_up = max(1, self.steps // 50)

        def rate(step: int) -> float:
            if step < warm_up:
                return (step + 1) / warm_up
            part = (step - warm_up) / max(1, self.steps - warm_up)
            return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, part)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(module: StepModule, folder: Path, threads: int) -> None:
    """Train ``module`` for its steps; go on from ``folder/last.ckpt`` if a run was cut off there."""
    torch.set_num_threads(threads)
    last = folder / "last.ckpt"
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=module.steps,
        default_root_dir=folder,
        logger=CSVLogger(folder, name="log", flush_logs_every_n_steps=100),
        log_every_n_steps=50,
        callbacks=[
            RichProgressBar(refresh_rate=20),
            ModelCheckpoint(folder, save_last=True, save_top_k=0, every_n_train_steps=CHECKPOINT_EVERY),
        ],
        gradient_clip_val=1.0,
        enable_model_summary=False,
    )
    loader: DataLoader[tuple[Tensor, ...]] = DataLoader(TensorDataset(torch.zeros(module.steps, 1)), batch_size=None)
    # weights_only: a checkpoint is read without unpickling code.
    trainer.fit(module, loader, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    trainer.save_checkpoint(last)
    write_text(folder / "cpu_seconds.json", json.dumps(round(module.cpu_seconds)))
