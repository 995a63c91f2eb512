"""Training loop of all stages: Lightning with a budget of steps, resumed from the last checkpoint."""

from __future__ import annotations

import json
import logging
import math
import os
import time
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from crlsc_phy.files import write_text
from crlsc_phy.train.pipeline import CPU_SECONDS
from crlsc_phy.train.ranks import is_first_rank, rank, world_size
from crlsc_phy.train.recipe import LoopRecipe

__all__ = ["StepModule", "fit"]

VALIDATION_BATCHES = 8
SEED_STRIDE = 1_000_003


class StepModule(lightning.LightningModule):
    """Base of the modules that are trained: a module draws the batch of each step itself.

    A batch depends on the seed, the step and the number of processes alone, so that a resumed run sees the batches of
    an uninterrupted one.

    Args:
        loop: Budget.
        seed: Seed of the batches.
    """

    def __init__(self, loop: LoopRecipe, seed: int) -> None:
        super().__init__()
        self.loop, self.seed = loop, seed
        self._earlier_cpu_s = -time.process_time()

    @property
    def cpu_seconds(self) -> float:
        """CPU time of this training in seconds, interrupted processes before this one included."""
        return self._earlier_cpu_s + time.process_time()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["cpu_seconds"] = self.cpu_seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._earlier_cpu_s += checkpoint.get("cpu_seconds", 0.0)

    def step_loss(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw a batch with ``generator``, on the CPU, and return losses by name, the one to minimise as ``loss``."""
        raise NotImplementedError

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameters to train, in groups as an optimiser takes them."""
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]

    def training_step(self, _batch: object, _index: int) -> Tensor:
        """Draw the batch of this step and log its losses."""
        seed = self.seed * SEED_STRIDE + self.global_step * world_size() + rank()
        # Codebooks replace idle entries from the global generator.
        torch.manual_seed(seed)
        losses = self.step_loss(torch.Generator().manual_seed(seed))
        self.log_dict(losses, prog_bar=True)
        return losses["loss"]

    def validation_step(self, _batch: object, index: int) -> None:
        """Log the loss on batches that are the same at every check and are not those of any step."""
        losses = self.step_loss(torch.Generator().manual_seed(-1 - index))
        self.log("validation_loss", losses["loss"], sync_dist=world_size() > 1)

    def configure_optimizers(self) -> dict[str, object]:  # type: ignore[override]
        """Return AdamW with 2 % warm-up and then half a cosine down to 1 % of the learning rate."""
        optimiser = torch.optim.AdamW(
            self.parameter_groups(), lr=self.loop.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4
        )
        steps = self.loop.steps
        warm_up = max(1, steps // 50)

        def rate(step: int) -> float:
            if step < warm_up:
                return (step + 1) / warm_up
            part = (step - warm_up) / max(1, steps - warm_up)
            return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, part)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(module: StepModule, folder: Path, threads: int) -> None:
    """Train a module, resuming from ``folder/last.ckpt`` if there is one.

    It is trained on the first accelerator, or under ``torchrun`` on one for each process. Losses go to CSV and
    TensorBoard files in ``folder/log``.

    Args:
        module: Module to train.
        folder: Folder of the checkpoint and logs.
        threads: Threads of torch.
    """
    torch.set_num_threads(threads)
    # At each loop Lightning names the accelerators that are missing.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    last, loop = folder / "last.ckpt", module.loop
    early = loop.patience > 0
    callbacks: list[Callback] = [
        RichProgressBar(refresh_rate=20),
        ModelCheckpoint(folder, save_last=True, save_top_k=0, every_n_train_steps=loop.check_every),
    ]
    if early:
        callbacks.append(EarlyStopping("validation_loss", patience=loop.patience))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    trainer = lightning.Trainer(
        accelerator="auto",
        devices=local,
        num_nodes=world_size() // local,
        strategy="ddp" if world_size() > 1 else "auto",
        precision="bf16-mixed" if torch.cuda.is_available() else "32-true",
        max_steps=loop.steps,
        default_root_dir=folder,
        logger=[CSVLogger(folder, name="log", flush_logs_every_n_steps=100), TensorBoardLogger(folder, name="log")],
        log_every_n_steps=50,
        val_check_interval=min(loop.check_every, loop.steps) if early else None,
        limit_val_batches=VALIDATION_BATCHES if early else 0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        callbacks=callbacks,
        gradient_clip_val=1.0,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        # Warnings about loaders that nobody reads, and about names that other versions of torch will have.
        warnings.filterwarnings("ignore", module="lightning")
        # weights_only: a checkpoint is read without unpickling code.
        trainer.fit(
            module,
            _blanks(loop.steps),
            _blanks(VALIDATION_BATCHES) if early else None,
            ckpt_path=str(last) if last.exists() else None,
            weights_only=True,
        )
    trainer.save_checkpoint(last, weights_only=False)
    if is_first_rank():
        write_text(folder / CPU_SECONDS, json.dumps(round(module.cpu_seconds)))


def _blanks(count: int) -> DataLoader[tuple[Tensor, ...]]:
    """Return empty batches: a module draws its own."""
    return DataLoader(TensorDataset(torch.zeros(count, 1)), batch_size=None)
