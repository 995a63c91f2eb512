"""Networks as files: their weights, whole or in half precision, and ONNX graphs."""

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
    """Write tensors as safetensors aside, then put them in place."""
    # Not by save_file, whose files nobody else may read.
    with placed(path) as aside:
        aside.write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the weights of ``module``, in the first process alone."""
    if is_first_rank():
        save_tensors(module.state_dict(), path)


def save_halved(network: nn.Module, path: Path, leave_out: str = "-") -> None:
    """Round the weights of ``network`` to half precision, and write those whose name does not begin with ``leave_out``.

    Half precision costs nothing that the metrics show, and a bundle travels in every clone. The network keeps the
    rounded weights, so that its graph, exported afterwards, agrees.
    """
    network.half()
    weights = network.state_dict()
    save_tensors({name: tensor for name, tensor in weights.items() if not name.startswith(leave_out)}, path)
    network.float()


def export_onnx(
    network: nn.Module, inputs: dict[str, Tensor], shapes: tuple[dict[int, Any], ...], path: Path, made: Path
) -> None:
    """Write ``network`` as an ONNX graph with one output, ``output``.

    Args:
        network: In evaluation mode.
        inputs: An example of each input, by name.
        shapes: For each input its axes that may have any size.
        path: The file to write.
        made: The graph of the same weights where a bundle brought it, which is copied then: an export takes seconds.
    """
    if made.exists():
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
    """Take out what the exporter notes of the machine: each node carries the source lines that it came from."""
    model = onnx.load(path)
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    model.ClearField("metadata_props")
    onnx.save(model, path)
