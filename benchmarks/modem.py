"""The burst modem: rates on one core, LDPC against Sionna's decoder, and losses against SNR.

python benchmarks/modem.py [--bursts 200] [--seed 1] [--out benchmarks/results/modem.json]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from lab import complex_noise, make_frame, noise_variance, show, timed, turn, wilson
from report import machine, write_json
from rich.progress import track

from crlsc_phy.phy import BurstModem
from crlsc_phy.phy.fec import ldpc_code

SNRS_DB = tuple(range(-6, 13))
LDPC_CODES = ((160, 800, -3.0), (1024, 2048, 1.6), (1560, 2080, 4.4))


def rates(rng: np.random.Generator, bursts: int) -> dict[str, float]:
    """Modulate, receive and listen, per CPU-second."""
    modem = BurstModem()
    frames = [make_frame(rng) for _ in range(bursts)]
    iq = np.concatenate([modem.modulate(frame) for frame in frames])
    iq = iq + complex_noise(rng, len(iq), noise_variance(modem.numerology, 12))
    modem.receive(iq[:20000])
    modem.flush()
    noise = complex_noise(rng, 4_000_000, 1.0)
    _, modulate = timed(lambda: [modem.modulate(frame) for frame in frames])
    received, receive = timed(modem.receive, iq)
    _, idle = timed(BurstModem().receive, noise)
    # The last burst may still wait for samples behind it.
    assert len(received) >= bursts - 1
    return {
        "modulate_bursts_per_s": bursts / modulate,
        "receive_bursts_per_s": len(received) / receive,
        "modulate_and_receive_bursts_per_s": len(received) / (modulate + receive),
        "receive_msamples_per_s": len(iq) / receive / 1e6,
        "idle_msamples_per_s": len(noise) / idle / 1e6,
    }


def ldpc(rng: np.random.Generator, words: int) -> list[dict[str, Any]]:
    """Our decoder and Sionna's (20 iterations of belief propagation) on the same noise, QPSK over AWGN."""
    import torch
    from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder

    torch.set_num_threads(1)
    rows = []
    for k, n, snr_db in LDPC_CODES:
        code = ldpc_code(k, n, 2)
        bits = rng.integers(0, 2, (words, k), dtype=np.uint8)
        variance = 10 ** (-snr_db / 10)
        received = np.sqrt(2) * code.encode(bits) - np.sqrt(0.5)
        received = received + np.sqrt(variance / 2) * rng.standard_normal(received.shape)
        llr = (2 * np.sqrt(2) / variance * received).astype(np.float32)
        theirs = LDPC5GDecoder(LDPC5GEncoder(k, n, 2), num_iter=20)
        soft = torch.tensor(llr)
        code.decode(llr[:1]), theirs(soft[:1])
        (posterior, _, _), our_seconds = timed(code.decode, llr, 20)
        answer, their_seconds = timed(theirs, soft)
        rows.append(
            {
                "k": k,
                "n": n,
                "es_n0_db": snr_db,
                "words": words,
                "mbit_per_cpu_s": words * k / our_seconds / 1e6,
                "sionna_mbit_per_cpu_s": words * k / their_seconds / 1e6,
                "bler": float(np.any((posterior > 0) != bits, axis=1).mean()),
                "sionna_bler": float(np.any(answer.numpy() != bits, axis=1).mean()),
            }
        )
    return rows


def losses(rng: np.random.Generator, bursts: int) -> list[dict[str, Any]]:
    """Bursts over AWGN with a CFO within 2 % of the sample rate and timing at random."""
    rows = []
    for snr_db in track(SNRS_DB, description="losses against SNR"):
        modem = BurstModem()
        variance = noise_variance(modem.numerology, snr_db)
        signalling = detail = 0
        for _ in range(bursts):
            frame = make_frame(rng)
            iq = np.pad(modem.modulate(frame), (int(rng.integers(300, 1500)), 200))
            iq = turn(iq, rng.uniform(-0.02, 0.02), rng.uniform(0, 2 * np.pi))
            received = modem.receive(iq + complex_noise(rng, len(iq), variance)) + modem.flush()
            signalling += any((b.frame.header, b.frame.semantic) == (frame.header, frame.semantic) for b in received)
            detail += any(b.frame == frame for b in received)
        rows.append(
            {
                "es_n0_db": snr_db,
                "bursts": bursts,
                "signalling_loss": 1 - signalling / bursts,
                "signalling_loss_95": wilson(bursts - signalling, bursts),
                "detail_loss": 1 - detail / bursts,
                "detail_loss_95": wilson(bursts - detail, bursts),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bursts", type=int, default=200, help="bursts for each SNR and rate (%(default)s)")
    parser.add_argument("--words", type=int, default=300, help="LDPC words for each code (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/modem.json"))
    options = parser.parse_args()

    rng = np.random.default_rng(options.seed)
    result: dict[str, Any] = {"machine": machine(), "seed": options.seed, "mcs": "qpsk-1/2", "numerology": "64"}
    result["rates"] = rates(rng, options.bursts)
    result["ldpc"] = ldpc(rng, options.words)
    result["losses"] = losses(rng, options.bursts)
    quantities = [{"quantity": name, "value": value} for name, value in result["rates"].items()]
    show("64 carriers, QPSK 1/2, 16 B air code and 288 B detail, one core", quantities)
    show("LDPC decoders, one core", result["ldpc"])
    show("Losses over AWGN, unknown timing and CFO", result["losses"])
    write_json(options.out, result)


if __name__ == "__main__":
    main()
