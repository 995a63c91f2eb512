"""A radio channel for streams of samples."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import pmt

from crlsc_phy.channel import ChannelSettings, StreamChannel
from crlsc_phy.errors import ChannelError, CrlscError
from gr_blocks.block import Block

__all__ = ["OTHER_PYTHON", "sionna_channel"]

OTHER_PYTHON = "CRLSC_CHANNEL_PYTHON"
"""Environment variable with an interpreter that runs the channel, where GNU Radio and Sionna cannot share one."""


class sionna_channel(Block):  # noqa: N801
    """Pass samples through a channel that never breaks phase.

    A message at ``set``, a dictionary of settings such as ``{"snr_db": 5.0, "speed": 30.0}``, changes it while it runs.
    What such a message gets wrong is logged and counted, and changes nothing.

    If the environment variable ``CRLSC_CHANNEL_PYTHON`` names a Python, the channel runs there, as a process of its own
    that is reached over ZMQ; the flowgraph is the same.

    Args:
        model: A name of :data:`crlsc_phy.channel.MODELS`.
        snr_db: Es/N0 of a signal of unit mean power in the occupied band; None for no noise.
        sample_rate: In samples/s.
        occupied: Part of the band that the signal fills, such as 52/64.
        carrier_hz: Carrier frequency.
        speed: In m/s.
        delay_spread: Root mean square in seconds, of models whose delays scale.
        cfo_hz: Carrier frequency offset.
        sro_ppm: By how much the receiver's clock is fast; None for no such clock.
        rx: Receive antennas, an output each.
        tx: Transmit antennas, an input each.
        seed: Of all that is drawn.
        more: The other fields of :class:`crlsc_phy.channel.ChannelSettings`.

    Raises:
        ChannelError: If there is no such model or setting, or a value is out of range.
        ServiceError: If the other Python has no channel.
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
        senders, receivers = self._channel.settings.tx, self._channel.settings.rx
        super().__init__(
            "CRLSC Sionna Channel",
            {"set": "on_set"},
            in_sig=[np.complex64] * senders,
            out_sig=[np.complex64] * receivers,
        )
        self.samples = self.changes = 0
        self._slips: int | None = None

    @property
    def slips(self) -> int:
        """How often the sampling clock has repeated or skipped samples."""
        return self._channel.slips if self._slips is None else self._slips

    def work(self, inputs: list[npt.NDArray[np.complex64]], outputs: list[npt.NDArray[np.complex64]]) -> int:
        """As many samples out as came in."""
        received = np.atleast_2d(self._channel(np.stack(inputs)))
        for output, samples in zip(outputs, received, strict=True):
            output[:] = samples
        self.samples += len(inputs[0])
        return len(inputs[0])

    def set(self, **changes: Any) -> None:
        """Change settings; an error is logged and counted, for a running flowgraph must not stop."""
        try:
            self._channel.set(**changes)
        except CrlscError as error:
            self.fail(error)
        else:
            self.changes += 1

    def stop(self) -> bool:
        """End the other Python's process, if there is one."""
        if not isinstance(self._channel, StreamChannel):
            self._slips = self._channel.slips
            self._channel.close()
        return True

    def on_set(self, message: Any) -> None:
        """Settings from a message: a dictionary, or a PDU with one."""
        if pmt.is_pair(message) and pmt.is_dict(pmt.car(message)) and not pmt.is_dict(message):
            message = pmt.car(message)
        try:
            changes = pmt.to_python(message)
        except (AttributeError, RuntimeError, TypeError, ValueError):
            changes = None
        if isinstance(changes, dict) and all(isinstance(name, str) for name in changes):
            self.set(**changes)
        else:
            self.fail("message to set is no dictionary of settings")


def _make_channel(settings: ChannelSettings) -> Any:
    python = os.environ.get(OTHER_PYTHON)
    if not python:
        return StreamChannel(**vars(settings))
    if (settings.rx, settings.tx) != (1, 1):
        raise ChannelError(f"in another Python ({OTHER_PYTHON}) a channel has one antenna at each end")
    from crlsc_phy.net.channel.process import ProcessChannel

    return ProcessChannel(python, settings)
