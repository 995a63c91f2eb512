"""The sweep's links of bits against closed forms, against Sionna's own chain, and their cost against its ``sim_ber``.

    python benchmarks/coded_links.py [--parts theory sionna cost] [--seed 1] [--out benchmarks/results/coded_links.json]

theory: uncoded QPSK, 16-QAM and 64-QAM over AWGN and flat Rayleigh fading, a gain a symbol, beside the exact bit error
rate of Gray-mapped QAM: K. Cho and D. Yoon, "On the general BER expression of one- and two-dimensional amplitude
modulations", IEEE Trans. Communications 50(7), 2002, equations 9 and 14, and its mean over a Rayleigh gain.

sionna: the same 5G code on the same link, once as the sweep's chain and once built of Sionna's blocks, with noise of
their own. Each pair decodes alike: both by belief propagation, flooding; or both by normalised min-sum, layered, which
Sionna's decoder does when it is given that rule and schedule.

cost: CPU time to the same number of block errors, ours by default (min-sum) and ``sim_ber`` by default (belief
propagation), at points where both have similar error rates; one process of one thread.

A point consists of replicas; their scatter gives its interval, since errors come in bursts. At each point the 95 %
interval of the difference holds 0 or not; of so many points, some do not by chance: one in twenty is expected. Points
beyond Bonferroni's interval, 95 % for all points at once, are counted beside.
"""

from __future__ import annotations

import math
import time
from typing import Any

import bench
import numpy as np
from scipy import special, stats

from crlsc_phy.channel import ChannelSettings
from crlsc_phy.link.baselines.coded import BITS_PER_SYMBOL, CodedChain, CodedOptions
from crlsc_phy.link.chain import Scene, Trial

Row = dict[str, Any]

REPLICAS = 40
UNCODED = {
    ("qpsk", "awgn"): (-5, 0, 2.5, 5, 7.5, 10, 12),
    ("16qam", "awgn"): (0, 5, 10, 12.5, 15, 17.5, 19),
    ("64qam", "awgn"): (5, 10, 15, 17.5, 20, 22.5, 25),
    ("qpsk", "rayleigh"): (0, 5, 10, 15, 20, 25, 30),
    ("16qam", "rayleigh"): (0, 5, 10, 15, 20, 25, 30),
    ("64qam", "rayleigh"): (5, 10, 15, 20, 25, 30, 35),
}
WANTED_ERRORS = 2000

CODED = {
    # Modulation, channel, k, n: Es/N0 of the points, from most blocks lost to some of a hundred.
    ("qpsk", "awgn", 512, 1024): (1.0, 1.3, 1.6),
    ("64qam", "awgn", 512, 768): (13.4, 13.9, 14.4),
    ("qpsk", "rayleigh", 512, 1024): (2.8, 3.3, 3.8),
    ("16qam", "rayleigh", 512, 1024): (8.0, 8.5, 9.0),
}
ITERATIONS = 20
BATCH = 25
BATCHES = {"belief propagation": 16, "min-sum": 12}
# Half the points are enough for the rule that takes Sionna five times as long.
SLOW_LINKS = (("qpsk", "awgn", 512, 1024), ("16qam", "rayleigh", 512, 1024))

COST = {("qpsk", "awgn", 1024, 2048): (1.2, 1.4, 1.6), ("16qam", "rayleigh", 1024, 2048): (8.0, 8.3, 8.6)}
TARGET_ERRORS = 50
COST_BATCH = 50


def exact_ber(modulation: str, channel: str, snr_db: float) -> float:
    """Return the bit error rate of square QAM with Gray mapping and nearest-symbol decisions, at a mean Es/N0."""
    bits = BITS_PER_SYMBOL[modulation] // 2
    levels, snr = 1 << bits, 10 ** (snr_db / 10)
    total = 0.0
    for k in range(1, bits + 1):
        for i in range(levels - (levels >> k)):
            step = i * (1 << (k - 1)) / levels
            # The distance of a threshold, squared, in units of what the complex noise has: erfc(sqrt(distance)).
            distance = (2 * i + 1) ** 2 * 1.5 * snr / (levels**2 - 1)
            tail = special.erfc(math.sqrt(distance)) if channel == "awgn" else 1 - math.sqrt(distance / (1 + distance))
            total += (-1) ** math.floor(step) * ((1 << (k - 1)) - math.floor(step + 0.5)) * tail
    return total / levels / bits


def chain(options: CodedOptions, channel: str) -> CodedChain:
    return CodedChain(options, Scene(ChannelSettings(model=channel)))


def rates(counts: list[dict[str, int]]) -> dict[str, np.ndarray]:
    """Return BER and BLER of each replica."""
    return {
        "ber": np.array([count["bit_errors"] / count["bits"] for count in counts]),
        "bler": np.array([count["block_errors"] / count["blocks"] for count in counts]),
    }


def verdict(ours: np.ndarray, other: np.ndarray | float, points: int) -> Row:
    """Compare two means of replicas, or one with a known value, by Welch's t and its intervals."""
    parts = [ours] if isinstance(other, float) else [ours, other]
    variances = [part.var(ddof=1) / len(part) for part in parts]
    error = math.sqrt(sum(variances))
    difference = float(ours.mean() - np.mean(other))
    if not error:
        # Nothing scatters: all blocks lost, or none.
        return {"difference": difference, "difference_95": [difference] * 2, "inside_95": difference == 0,
                "inside_all": difference == 0}  # fmt: skip
    freedom = error**4 / sum(v**2 / (len(part) - 1) for v, part in zip(variances, parts, strict=True))
    half, widest = (error * stats.t.ppf(1 - 0.025 / count, freedom) for count in (1, points))
    return {
        "difference": difference,
        "difference_95": [difference - half, difference + half],
        "inside_95": bool(abs(difference) <= half),
        "inside_all": bool(abs(difference) <= widest),
    }


def against_theory(benchmark: bench.Benchmark) -> list[Row]:
    rows: list[Row] = []
    seed = benchmark.options.seed
    points = sum(len(snrs) for snrs in UNCODED.values())
    replicas = 3 if benchmark.options.quick else REPLICAS
    for (modulation, channel), snrs in UNCODED.items():
        for snr in benchmark.few(snrs):
            expected = exact_ber(modulation, channel, snr)
            blocks = max(10, math.ceil(WANTED_ERRORS / expected / REPLICAS / 1200))
            link = chain(CodedOptions(modulation=modulation, rate=1, k=1200, blocks=blocks), channel)
            # Noise of its own for each point: their errors must not lean one way together.
            counts = [link.run(Trial(snr, i, (seed, len(rows), i))).counts for i in range(replicas)]
            ber = rates(counts)["ber"]
            rows.append(
                {"modulation": modulation, "channel": channel, "snr_db": snr, "theory": expected}
                | {"ber": float(ber.mean()), "bit_errors": sum(count["bit_errors"] for count in counts)}
                | {"bits": sum(count["bits"] for count in counts)}
                | verdict(ber, expected, points)
            )
    return rows


class SionnaLink:
    """The same link, built of Sionna's blocks.

    Args:
        modulation: Name, as the chain has it.
        channel: ``awgn`` or ``rayleigh``.
        k: Information bits of the code.
        n: Coded bits.
        rule: ``belief propagation`` or ``min-sum``.
    """

    def __init__(self, modulation: str, channel: str, k: int, n: int, rule: str) -> None:
        from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder
        from sionna.phy.fec.ldpc.decoding import cn_update_minsum
        from sionna.phy.mapping import BinarySource, Demapper, Mapper

        bits = BITS_PER_SYMBOL[modulation]
        self._k, self._fades = k, channel == "rayleigh"
        self._source, self._encoder = BinarySource(), LDPC5GEncoder(k, n, bits)
        self._mapper, self._demapper = Mapper("qam", bits), Demapper("app", "qam", bits)
        options: Row = {"num_iter": ITERATIONS}
        if rule == "min-sum":
            options |= {
                # Ours scales by 0.75, sweeps over the rows of the base graph and does not clip.
                "cn_update": lambda messages, mask, clip: 0.75 * cn_update_minsum(messages, mask, clip),
                "cn_schedule": "layered",
                "llr_max": None,
            }
        self._decoder = LDPC5GDecoder(self._encoder, **options)

    def __call__(self, batch_size: int, snr_db: Any) -> tuple[Any, Any]:
        """Return the bits sent and decided, as ``sim_ber`` expects."""
        import torch
        from sionna.phy.channel import AWGN
        from sionna.phy.utils import complex_normal

        variance = 10 ** (-torch.as_tensor(snr_db, dtype=torch.float32) / 10)
        bits = self._source([batch_size, self._k])
        symbols = self._mapper(self._encoder(bits))
        if not self._fades:
            return bits, self._decoder(self._demapper(AWGN()(symbols, variance), variance))
        gains = complex_normal(symbols.shape)
        received = AWGN()(gains * symbols, variance) / gains
        return bits, self._decoder(self._demapper(received, variance / gains.abs() ** 2))

    def counts(self, batch_size: int, snr_db: float) -> dict[str, int]:
        """Return the counts of a replica."""
        bits, decided = self(batch_size, snr_db)
        wrong = (bits != decided).numpy()
        blocks = int(wrong.any(axis=1).sum())
        return {"bits": wrong.size, "bit_errors": int(wrong.sum()), "blocks": batch_size, "block_errors": blocks}


def against_sionna(benchmark: bench.Benchmark) -> list[Row]:
    import torch
    from sionna.phy import config

    torch.set_num_threads(1)
    seed = benchmark.options.seed
    config.seed = seed
    tasks = [
        (rule, link, snr)
        for rule in BATCHES
        for link, snrs in CODED.items()
        for snr in benchmark.few(snrs, 1)
        if rule == "belief propagation" or link in SLOW_LINKS
    ]
    rows = []
    for number, (rule, link, snr) in enumerate(tasks):
        modulation, channel, k, n = link
        decoder = "sionna" if rule == "belief propagation" else "min-sum"
        options = CodedOptions(modulation, k=k, n=n, blocks=BATCH, decoder=decoder, iterations=ITERATIONS)
        theirs, ours = SionnaLink(*link, rule), chain(options, channel)
        with torch.inference_mode():
            # As many of ours as of theirs where both decode by Sionna; ours alone is fast.
            batches = 2 if benchmark.options.quick else BATCHES[rule]
            count = batches * (1 if decoder == "sionna" else 10)
            found = {
                "ours": rates([ours.run(Trial(snr, i, (seed, number, i))).counts for i in range(count)]),
                "sionna": rates([theirs.counts(BATCH, snr) for _ in range(batches)]),
            }
        for measure in ("ber", "bler"):
            pair = [found[side][measure] for side in ("ours", "sionna")]
            rows.append(
                {"rule": rule, "modulation": modulation, "channel": channel, "k": k, "n": n, "snr_db": snr}
                | {"measure": measure, "ours": float(pair[0].mean()), "sionna": float(pair[1].mean())}
                | {"ours_blocks": count * BATCH, "sionna_blocks": batches * BATCH}
                | verdict(*pair, 2 * len(tasks))
            )
    return rows


def cost(benchmark: bench.Benchmark) -> list[Row]:
    import torch
    from sionna.phy import config
    from sionna.phy.utils import sim_ber

    torch.set_num_threads(1)
    seed = config.seed = benchmark.options.seed
    rows = []
    for link, snrs in COST.items():
        modulation, channel, k, n = link
        theirs = SionnaLink(*link, "belief propagation")
        ours = chain(CodedOptions(modulation, k=k, n=n, blocks=COST_BATCH, iterations=ITERATIONS), channel)
        # What numba compiles and torch loads at first is no cost of a point.
        ours.run(Trial(snrs[0], 0, (seed,)))
        theirs(COST_BATCH, snrs[0])
        for snr in benchmark.few(snrs, 1):
            # Where sim_ber stops, it reports rates alone; how many blocks it took is counted here.
            blocks = 0

            def counted(batch_size: int, ebno_db: Any, link: SionnaLink = theirs) -> tuple[Any, Any]:
                nonlocal blocks
                blocks += batch_size
                return link(batch_size, ebno_db)

            options = {"num_target_block_errors": TARGET_ERRORS, "verbose": False, "early_stop": False}
            start = time.process_time()
            with torch.inference_mode():
                _, bler = sim_ber(counted, torch.tensor([snr]), COST_BATCH, 400, **options)
            seconds = time.process_time() - start
            errors = round(float(bler[0]) * blocks)
            row: Row = {"modulation": modulation, "channel": channel, "k": k, "n": n, "snr_db": snr}
            row |= {"sionna_blocks": blocks, "sionna_errors": errors, "sionna_cpu_s": seconds}
            mine = {"blocks": 0, "block_errors": 0}
            start, replica = time.process_time(), 0
            # As many errors as sim_ber has counted, for it stops at whole batches.
            while mine["block_errors"] < errors:
                counts = ours.run(Trial(snr, replica, (seed, round(100 * snr), replica))).counts
                mine = {name: mine[name] + counts[name] for name in mine}
                replica += 1
            seconds = time.process_time() - start
            row |= {"ours_blocks": mine["blocks"], "ours_errors": mine["block_errors"], "ours_cpu_s": seconds}
            each = [row[f"{side}_cpu_s"] / row[f"{side}_errors"] for side in ("ours", "sionna")]
            rows.append(row | {"ours_to_sionna": each[0] / each[1]})
    return rows


def tally(rows: list[Row]) -> Row:
    """Count the points outside their intervals, and those to be expected there by chance."""
    return {
        "points": len(rows),
        "outside_95": sum(not row["inside_95"] for row in rows),
        "outside_95_expected": round(0.05 * len(rows), 2),
        "outside_95_probability": float(stats.binom.sf(sum(not row["inside_95"] for row in rows) - 1, len(rows), 0.05)),
        "outside_bonferroni": sum(not row["inside_all"] for row in rows),
    }


def draw(benchmark: bench.Benchmark, result: Row) -> None:
    """Draw the uncoded BER on the closed forms, and the BLER of the coded links beside Sionna's."""
    with benchmark.figure(1100, 480) as figure:
        left, right = figure.subplots(1, 2)
        for (modulation, channel), snrs in UNCODED.items():
            colour = f"C{list(BITS_PER_SYMBOL).index(modulation)}"
            fine = np.linspace(snrs[0], snrs[-1], 100)
            style = "-" if channel == "awgn" else "--"
            left.plot(fine, [exact_ber(modulation, channel, snr) for snr in fine], style, color=colour, linewidth=1)
            here = [r for r in result.get("theory", ()) if (r["modulation"], r["channel"]) == (modulation, channel)]
            label = f"{modulation}, {channel}"
            left.plot([r["snr_db"] for r in here], [r["ber"] for r in here], "o", color=colour, ms=4, label=label)
        left.set(yscale="log", xlabel="Es/N0 [dB]", ylabel="bit error rate", title="Uncoded; lines: closed form")
        for index, link in enumerate(CODED):
            for rule, marks in (("belief propagation", "ox"), ("min-sum", "s+")):
                here = [
                    r for r in result.get("sionna", ())
                    if (r["modulation"], r["channel"], r["k"], r["n"], r["measure"], r["rule"]) == (*link, "bler", rule)
                ]  # fmt: skip
                for side, mark in zip(("ours", "sionna"), marks, strict=True):
                    name = f"{link[0]}, {link[1]}, {link[2]}/{link[3]}, {rule}: {side}" if here else None
                    right.plot([r["snr_db"] for r in here], [r[side] for r in here], mark, color=f"C{index}",
                               linestyle="-" if side == "ours" else ":", ms=5, linewidth=1, label=name)  # fmt: skip
        right.set(yscale="log", xlabel="Es/N0 [dB]", ylabel="block error rate", title="5G LDPC, 20 iterations")
        # Room for the legend below the points.
        right.set_ylim(bottom=1e-3)
        for axes in (left, right):
            axes.grid(True, which="both", alpha=0.3)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(fontsize=7, loc="lower left")


def main() -> None:
    benchmark = bench.Benchmark(__file__, __doc__)
    parts = {"theory": against_theory, "sionna": against_sionna, "cost": cost}
    text = "what to measure; other parts stay as they were"
    benchmark.add("--parts", list(parts), text, nargs="+", choices=parts, type=str)
    options = benchmark.parse()

    result = benchmark.earlier()
    for part in options.parts:
        start = time.process_time()
        result[part] = parts[part](benchmark)
        result[f"{part}_cpu_s"] = round(time.process_time() - start, 1)
        bench.show(part, result[part])
        if part != "cost":
            result[f"{part}_tally"] = tally(result[part])
            print(result[f"{part}_tally"])
    benchmark.write(result)
    draw(benchmark, result)


if __name__ == "__main__":
    main()
