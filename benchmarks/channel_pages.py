"""Write docs/channels: a page for each channel model, with its delay profile and Doppler spectrum.

    python benchmarks/channel_pages.py [--out docs/channels]

The figures are those of the streams themselves, at 3.5 GHz, 3 m/s and a delay spread of 100 ns: powers of the waves of
40 realisations, added up by delay and by Doppler shift.
"""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import bench
import numpy as np
from numpy.typing import NDArray

from crlsc_phy.channel import MODELS, ChannelSettings
from crlsc_phy.channel.models import Model, paths_of
from crlsc_phy.figure import drawing

REALISATIONS = 40
BINS = 41
WHAT = {
    "awgn": "White Gaussian noise alone: no paths, no latency.",
    "rayleigh": "One path without a direct one: 128 waves from all around, Clarke's spectrum.",
    "rician": "One path with a direct wave, `rice_k_db` above the sum of the others.",
    "rayleigh-block": "One path that stands for `block` samples and is then drawn anew, complex Gaussian.",
    "rician-block": "The same with a direct wave of constant power and, in each block, another phase.",
    "static": "Given taps, a sample apart.",
    "replay": "What a file says, recorded or brought by a ray tracer: see [CIR files](../channel.md#cir-files).",
    "umi": "One drop of a terminal 1.5 m high around a base 10 m high in a street canyon.",
    "uma": "One drop of a terminal 1.5 m high around a base 25 m high in a town.",
    "rma": "One drop of a terminal 1.5 m high around a base 35 m high in the country.",
}
COMMON = ("sample_rate", "snr_db", "noise_power", "occupied", "seed")


def about(name: str) -> str:
    if name in WHAT:
        return WHAT[name]
    if name.startswith("cdl-"):
        sight = "a direct path and clusters" if name[-1] in "de" else "clusters"
        return f"{sight.capitalize()} of 20 rays with directions, antennas in a row half a wavelength apart."
    sight = "a direct path in the first tap" if name in ("tdl-d", "tdl-e", "tdl-d10", "tdl-d30") else "no direct path"
    kind = "delays in multiples of the delay spread" if len(name) == 5 else "fixed delays"
    return f"Taps that fade by themselves, 32 waves each: {kind}, {sight}."


def descriptions() -> dict[str, str]:
    """Return the description of each setting, from the docstring."""
    text = (ChannelSettings.__doc__ or "").partition("Attributes:")[2].partition("Raises:")[0]
    found: dict[str, str] = {}
    for entry in re.split(r"\n        (?=\S)", text):
        names, _, said = " ".join(entry.split()).partition(": ")
        for name in names.split(", "):
            found[name] = re.sub(r":\w+:`", "`", said.replace("``", "`"))
    return found


def default_of(name: str) -> Any:
    (field,) = (each for each in fields(ChannelSettings) if each.name == name)
    return "" if field.default is MISSING else field.default


def waves(name: str) -> tuple[NDArray[np.float64], ...]:
    """Return delays [s], Doppler shifts [Hz] and powers of all waves of all realisations."""
    parts = []
    for seed in range(REALISATIONS):
        settings = ChannelSettings(model=name, seed=seed, taps=(0.8, 0.0, 0.5j, 0.3))
        paths = paths_of(settings)
        delays = paths.delays * (settings.delay_spread if paths.scalable else 1)
        shifts = paths.rates * settings.metres_per_second / (2 * np.pi)
        parts.append((delays, shifts, np.abs(paths.amplitudes[0, 0]) ** 2 / REALISATIONS))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def plot(path: Path, name: str) -> None:
    delays, shifts, powers = waves(name)
    with drawing(path, 900, 300) as figure:
        profile, spectrum = figure.subplots(1, 2)
        if name in ("umi", "uma", "rma"):
            edges = np.linspace(0, np.quantile(delays, 0.99), BINS)
            power, _ = np.histogram(delays, edges, weights=powers)
            profile.bar(1e9 * edges[:-1], 10 * np.log10(np.maximum(power, 1e-5)) + 50, 1e9 * edges[1], bottom=-50)
        else:
            places, which = np.unique(np.round(delays, 12), return_inverse=True)
            level = 10 * np.log10(np.maximum(np.bincount(which, powers), 1e-5))
            profile.stem(1e9 * places, level, bottom=-50)
        profile.set(xlabel="delay [ns]", ylabel="mean power [dB]", ylim=(-45, 3))
        edge = max(float(np.abs(shifts).max()), 1.0)
        power, edges = np.histogram(shifts, np.linspace(-1.05 * edge, 1.05 * edge, BINS), weights=powers)
        level = 10 * np.log10(np.maximum(power / np.diff(edges), 1e-6))
        spectrum.bar(edges[:-1], level + 50, np.diff(edges), bottom=-50, align="edge")
        spectrum.set(xlabel="Doppler shift [Hz]", ylabel="power a Hz [dB]", ylim=(-45, 15 if edge == 1 else 3))


def page(name: str, model: Model, drawn: bool) -> str:
    said = descriptions()
    lines = [f"# {name}", "", about(name), "", f"Source: {model.source}.", ""]
    lines += ["| setting | default | |", "|---|---|---|"]
    lines += [f"| `{each}` | {default_of(each)} | {said[each]} |" for each in (*model.uses, *COMMON)]
    lines += ["", "The [settings of the radios](../channel.md#settings) go with every model.", ""]
    if drawn:
        lines += [f"![Delay profile and Doppler spectrum]({name}.png)", ""]
        lines += [f"Mean of {REALISATIONS} realisations at 3.5 GHz, 3 m/s, and 100 ns where delays scale."]
        lines += ["By `python benchmarks/channel_pages.py`.", ""]
    options = {"static": ", taps=(0.8, 0, 0.5j)", "replay": ', cir="channel.npz"'}.get(name, ", snr_db=10")
    lines += ["```python", "from crlsc_phy.channel import StreamChannel", ""]
    lines += [f'channel = StreamChannel("{name}"{options}, sample_rate=1e6, seed=1)', "out = channel(iq)", "```", ""]
    return "\n".join(lines)


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__, seed=None, out=Path("docs/channels"))
    options = benchmark.parse()

    options.out.mkdir(parents=True, exist_ok=True)
    for name, model in MODELS.items():
        if model.build:
            plot(options.out / f"{name}.png", name)
        (options.out / f"{name}.md").write_text(page(name, model, bool(model.build)), encoding="utf-8")
        print(options.out / f"{name}.md")


if __name__ == "__main__":
    main()
