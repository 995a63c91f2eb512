"""E3: cost of a terminal's encoder, against the server's.

L_e is the local encoder in the recipe's three sizes at 96x96 pixels, S_e the default teacher, all of
EfficientNet-Lite0 at 160x160; ViT-B-32 at 224x224, the teacher of a server with internet access, is instantiated with
random weights, since its cost does not depend on them. Multiply-accumulates are counted by torch's FlopCounterMode, two
operations each. Times are of one picture on one thread of torch, the median of interleaved turns. CPU-seconds
stand in for energy: nothing here measures joules, and on one machine the two go together.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Budget, Lab, Results, cpu_seconds, table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from crlsc_phy.figure import drawing
from crlsc_phy.semantic.encoder import LocalEncoder
from crlsc_phy.semantic.teacher import lite0_features

TITLE = "Cost of a local encoder"
SIZES = ("small", "medium", "large")
NEEDS = tuple(f"encoder/{size}" for size in SIZES)
REPEATED = True
TEACHERS = {"lite0": ("S_e: Lite0", 160), "vit-b-32": ("S_e: ViT-B-32", 224)}
TURNS, WARM_UP = 40, 5


def arms(_lab: Lab) -> list[str]:
    """Name the only arm: all networks in one, so that their times are of one moment."""
    return ["cost"]


def measure(lab: Lab, seed: int, _arm: str) -> dict[str, Any]:
    networks = _networks(lab, seed)
    result: dict[str, Any] = {}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in networks}
    with torch.inference_mode():
        for name, (network, pixels) in networks.items():
            with FlopCounterMode(display=False) as counter:
                network(torch.zeros(1, 3, pixels, pixels))
            parameters = sum(parameter.numel() for parameter in network.parameters())
            result[name] = {"pixels": pixels, "parameters": parameters, "macs": counter.get_total_flops() // 2}
        for _ in range(WARM_UP + TURNS):
            for name, (network, pixels) in networks.items():
                picture = torch.zeros(1, 3, pixels, pixels)
                wall, cpu = time.perf_counter(), time.process_time()
                network(picture)
                times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    for name, taken in times.items():
        wall_ms, cpu_ms = 1e3 * np.median(taken[WARM_UP:], axis=0)
        result[name] |= {"wall_ms": round(float(wall_ms), 3), "cpu_ms": round(float(cpu_ms), 3)}
    training = {size: cpu_seconds(lab.run_of(seed), size) for size in SIZES}
    return {"networks": result, "training_cpu_s": training, "steps": lab.run_of(seed).recipe.encoder.loop.steps}


def _networks(lab: Lab, seed: int) -> dict[str, tuple[nn.Module, int]]:
    import open_clip  # Takes seconds to import.

    sizes = lab.run_of(seed).recipe.encoder.sizes
    networks: dict[str, tuple[nn.Module, int]] = {
        size: (LocalEncoder(sizes[size]).eval(), sizes[size].pixels) for size in SIZES
    }
    networks["lite0"] = (lite0_features("symmetric").eval(), TEACHERS["lite0"][1])
    networks["vit-b-32"] = (open_clip.create_model("ViT-B-32").visual.eval(), TEACHERS["vit-b-32"][1])
    return networks


def report(results: Results, _budget: Budget) -> str:
    rows = results["cost"]
    vit = rows[0]["networks"]["vit-b-32"]
    lines = []
    for name, figures in rows[0]["networks"].items():
        cpu = [row["networks"][name]["cpu_ms"] for row in rows]
        lines.append(
            [
                TEACHERS[name][0] if name in TEACHERS else f"L_e: {name}",
                f"{figures['pixels']}",
                f"{figures['parameters'] / 1e6:.2f}",
                f"{figures['macs'] / 1e6:.0f}",
                f"{np.mean(cpu):.2f} ({min(cpu):.2f} to {max(cpu):.2f})",
                f"{vit['macs'] / figures['macs']:.0f}",
                f"{np.mean([row['training_cpu_s'][name] for row in rows]):.0f}" if name in SIZES else "",
            ]
        )
    head = [
        "network",
        "pixels",
        "parameters [M]",
        "MMAC a picture",
        "CPU-ms a picture",
        "times fewer MACs than ViT-B-32",
        "CPU-s to train at a terminal",
    ]
    return (
        f"{table(head, lines)}\n\nTimes: mean over the seeds of medians, with the smallest and the largest. "
        f"Training is {rows[0]['steps']} steps against the SKB. Without the SKB a terminal of E1 is given the same "
        "time, and what it makes of that is in E1. The SKB itself is made once, at the server."
    )


def plot(_lab: Lab, results: Results, path: Path) -> None:
    networks = results["cost"][0]["networks"]
    with drawing(path, 820, 360) as figure:
        names = [TEACHERS[name][0] if name in TEACHERS else f"L_e: {name}" for name in networks]
        for axes, key, unit in zip(
            figure.subplots(1, 2), ("macs", "cpu_ms"), ("million MACs a picture", "CPU-ms a picture"), strict=True
        ):
            values = [each[key] / (1e6 if key == "macs" else 1) for each in networks.values()]
            colours = ["#c2631a" if name in TEACHERS else "#2563a8" for name in networks]
            bars = axes.barh(names, values, color=colours)
            axes.bar_label(
                bars, [f"{value:.1f}" if value < 100 else f"{value:.0f}" for value in values], fontsize=8, padding=3
            )
            axes.set_xscale("log")
            axes.margins(x=0.25)
            axes.invert_yaxis()
            axes.set_title(unit)
