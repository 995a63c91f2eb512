"""A link of bits with a fault: what an engine must get over. In a module, as workers import it."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from crlsc_phy.link.baselines.coded import CodedChain, CodedOptions


@dataclass(frozen=True)
class FaultsOptions:
    """One replica of each point goes wrong: ``error``, ``kill`` or ``slow``, the first so many ``times``."""

    folder: str
    how: str
    replica: int = 1
    times: int = 1000


class FaultsChain:
    Options = FaultsOptions

    def __init__(self, options, scene):
        self._options = options
        self._chain = CodedChain(CodedOptions(k=100, blocks=5), scene)

    def run(self, trial):
        if trial.replica == self._options.replica:
            self._fail(Path(self._options.folder) / f"{trial.snr_db:g}")
        return self._chain.run(trial)

    def _fail(self, marks):
        times = len(marks.read_text()) if marks.exists() else 0
        if times >= self._options.times:
            return
        marks.write_text("x" * (times + 1))
        if self._options.how == "error":
            raise RuntimeError("a fault\nin two lines")
        if self._options.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.5)
