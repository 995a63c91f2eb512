"""A radio channel for streams of samples."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import pmt

from crlsc_phy.channel import ChannelSettings, StreamChannel
from crlsc_phy.errors import ChannelError
from gr_blocks import pdu
from gr_blocks.block import Block

__all__ = ["OTHER_PYTHON", "sionna_channel"]

OTHER_PYTHON = "CRLSC_CHANNEL_PYTHON"
"""Environment variable with the interpreter for the channel, where GNU Radio and Sionna cannot share one."""


class sionna_channel(Block):  # noqa: N801
    """Pass samples through a channel whose phase is continuous.

    A message at ``set``, a dictionary of settings such as ``{"snr_db": 5.0, "speed": 30.0}``, changes it while it runs.
    A message with a wrong setting is logged and counted, and changes nothing.

    If the environment variable ``CRLSC_CHANNEL_PYTHON`` names a Python interpreter, the channel runs there, in a
    process of its own that is reached over ZMQ; the flowgraph is the same.

    Args:
        model: A name of :data:`crlsc_phy.channel.MODELS`.
        snr_db: Es/N0 in dB of a signal of unit mean power in the occupied band; None for no noise.
        sample_rate: Samples/s.
        occupied: Part of the band that the signal fills, such as 52/64.
        carrier_hz: Carrier frequency.
        speed: Speed of the terminal in m/s.
        delay_spread: Root mean square delay spread in seconds, for the models whose delays scale.
        cfo_hz: Carrier frequency offset.
        sro_ppm: Sample rate offset of the receiver's clock, positive if it is fast; None for no resampler.
        rx: Receive antennas, an output each.
        tx: Transmit antennas, an input each.
        seed: Seed of all random numbers.
        more: The other fields of :class:`crlsc_phy.channel.ChannelSettings`.

    Raises:
        ChannelError: If the model or a setting is unknown, or a value is out of range.
        ServiceError: If the other interpreter cannot run the channel.
    """

    COUNTERS = ("samples", "changes", "slips", "errors", "dropped")

    def __init__(
        self,
        model: str = "tdl-a",
        snr_db: float | None = 20.0,
        sample_rate: float = 1e6,
        occupied: float = 1.0,
        carrier_hz: float = 3.5e9,
        speed: float = 3.0,
        delay_spread: float = 100e-9,
        cfo_hz: float = 0.0,
        sro_ppm: float | None = None,
        rx: int = 1,
        tx: int = 1,
        seed: int = 0,
        more: dict[str, Any] | None = None,
    ) -> None:
        self._channel = _make_channel(
            ChannelSettings().changed(
                model=model,
                snr_db=snr_db,
                sample_rate=sample_rate,
                occupied=occupied,
                carrier_hz=carrier_hz,
                speed=speed,
                delay_spread=delay_spread,
                cfo_hz=cfo_hz,
                sro_ppm=sro_ppm,
                rx=rx,
                tx=tx,
                seed=seed,
                **(more or {}),
            )
        )
        inputs, outputs = ([np.complex64] * n for n in (self._channel.settings.tx, self._channel.settings.rx))
        super().__init__("CRLSC Sionna Channel", {"set": "on_set"}, in_sig=inputs, out_sig=outputs)
        self.samples = self.changes = 0
        self._slips: int | None = None

    @property
    def slips(self) -> int:
        """Number of times that the sampling clock has repeated or skipped samples."""
        return self._channel.slips if self._slips is None else self._slips

    def process(self, inputs: list[npt.NDArray[np.complex64]], outputs: list[npt.NDArray[np.complex64]]) -> int:
        """Pass samples through the channel, as many out as came in."""
        received = np.atleast_2d(self._channel(np.stack(inputs)))
        for output, samples in zip(outputs, received, strict=True):
            output[:] = samples
        self.samples += len(inputs[0])
        return len(inputs[0])

    def set(self, **changes: Any) -> None:
        """Change settings; an error is logged and counted, because a running flowgraph must not stop."""
        self.attempt(self._set, changes)

    def _set(self, changes: dict[str, Any]) -> None:
        # Messages and variables of a flowgraph have taps as vectors of any type, or as a single number.
        if "taps" in changes:
            changes = changes | {"taps": tuple(np.atleast_1d(changes["taps"]).tolist())}
        self._channel.set(**changes)
        self.changes += 1

    def end(self) -> None:
        """End the process of the other interpreter, if there is one."""
        if not isinstance(self._channel, StreamChannel):
            self._slips = self._channel.slips
            self._channel.close()

    def on_set(self, message: Any) -> None:
        """Change settings by a message: a dictionary, or a PDU with one."""
        if pmt.is_pair(message) and pmt.is_dict(pmt.car(message)) and not pmt.is_dict(message):
            message = pmt.car(message)
        changes = pdu.read_dict(message)
        if changes is not None and all(isinstance(name, str) for name in changes):
            self.set(**changes)
        else:
            self.fail("message at the port set is not a dictionary of settings, such as {'snr_db': 5.0}")


def _make_channel(settings: ChannelSettings) -> Any:
    python = os.environ.get(OTHER_PYTHON)
    if not python:
        return StreamChannel(**vars(settings))
    if (settings.rx, settings.tx) != (1, 1):
        raise ChannelError(
            f"rx is {settings.rx} and tx is {settings.tx}; a channel in another Python ({OTHER_PYTHON}) has "
            "one antenna at each end"
        )
    from crlsc_phy.net.channel.process import ProcessChannel

    return ProcessChannel(python, settings)
