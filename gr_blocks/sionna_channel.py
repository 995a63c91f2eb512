"""A radio channel for streams of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pmt

from crlsc_phy.channel import StreamChannel
from crlsc_phy.errors import ChannelError
from gr_blocks.block import Block

__all__ = ["sionna_channel"]


class sionna_channel(Block):  # noqa: N801
    """Pass samples through a channel that never breaks phase.

    A message at ``set``, a dictionary of settings such as ``{"snr_db": 5.0, "speed": 30.0}``, changes it while it runs.
    What such a message gets wrong is logged and counted, and changes nothing.

    Args:
        model: A name of :data:`crlsc_phy.channel.MODELS`.
        snr_db: Es/N0 of a signal of unit mean power in the occupied band; None for no noise.
        sample_rate: In samples/s.
        settings: The other fields of :class:`crlsc_phy.channel.ChannelSettings`.

    Raises:
        ChannelError: If there is no such model or setting, or a value is out of range.
    """

    COUNTERS = ("samples", "changes", "slips", "errors", "dropped")

    def __init__(
        self, model: str = "tdl-a", snr_db: float | None = 20.0, sample_rate: float = 1e6, **settings: Any
    ) -> None:
        self._channel = StreamChannel(model, snr_db, sample_rate=sample_rate, **settings)
        senders, receivers = self._channel.settings.tx, self._channel.settings.rx
        super().__init__(
            "CRLSC Sionna Channel",
            {"set": "on_set"},
            in_sig=[np.complex64] * senders,
            out_sig=[np.complex64] * receivers,
        )
        self.samples = self.changes = 0

    @property
    def slips(self) -> int:
        """How often the sampling clock has repeated or skipped samples."""
        return self._channel.slips

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
        except ChannelError as error:
            self.fail(error)
        else:
            self.changes += 1

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
