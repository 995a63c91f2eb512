"""Files of networks: weights, whole or in half precision, and ONNX graphs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import onnx
import torch
from safetensors.torch import save
from torch import Tensor, nn

from crlsc_phy.files import placed
from crlsc_phy.train.ranks import is_first_rank

__all__ = ["BATCH_DIM", "export_onnx", "save_halved", "save_tensors", "save_weights"]

OPSET = 18
BATCH_DIM = torch.export.Dim("n", min=1, max=4096)


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors and put the file in place."""
    # Files of save_file are readable by their owner only.
    with placed(path) as aside:
        aside.write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the weights of ``module``, in the first process alone."""
    if is_first_rank():
        save_tensors(module.state_dict(), path)


def save_halved(network: nn.Module, path: Path, leave_out: str = "-") -> None:
    """Round the weights of a network to half precision and write them.

    The metrics show no cost of half precision, and a bundle travels in every clone. The network keeps the rounded
    weights, so that a graph that is exported afterwards agrees with the file.

    Args:
        network: Network in single precision.
        path: File to write.
        leave_out: Beginning of the names of the weights that are not written.
    """
    network.half()
    weights = network.state_dict()
    save_tensors({name: tensor for name, tensor in weights.items() if not name.startswith(leave_out)}, path)
    network.float()


def export_onnx(
    network: nn.Module,
    inputs: dict[str, Tensor],
    shapes: tuple[dict[int, Any], ...],
    path: Path,
    made: Path | None = None,
) -> None:
    """Write a network as an ONNX graph with one output, ``output``.

    Args:
        network: Network in evaluation mode.
        inputs: An example of each input, by name.
        shapes: For each input, the axes of variable size.
        path: File to write.
        made: Graph of the same weights that a bundle may have brought. If it exists it is copied: an export takes
            seconds.
    """
    if made is not None and made.exists():
        shutil.copyfile(made, path)
        return
    torch.onnx.export(
        network,
        tuple(inputs.values()),
        path,
        input_names=list(inputs),
        output_names=["output"],
        dynamic_shapes=shapes,
        opset_version=OPSET,
        external_data=False,
        dynamo=True,
        verbose=False,
    )
    _forget_origin(path)


def _forget_origin(path: Path) -> None:
    """Remove the exporter's notes about the machine: each node has the source lines that it comes from."""
    model = onnx.load(path)
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    model.ClearField("metadata_props")
    onnx.save(model, path)
