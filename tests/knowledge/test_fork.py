"""A knowledge base that was searched goes on in a forked process, as multiprocessing starts them on Linux."""

import os
import subprocess
import sys

_SCRIPT = """
import multiprocessing, sys
import numpy as np
from crlsc_phy.knowledge import AirCode, Entry, KnowledgeBase

rng = np.random.default_rng(0)
code = AirCode(rng.normal(size=(4, 256, 4)).astype(np.float32))
vectors = rng.normal(size=(600, 16)).astype(np.float32)
base = KnowledgeBase.create(sys.argv[1], code, vectors, [Entry(f"n{i}", "x") for i in range(600)])

def work(answers=None):
    llrs = 8 * np.unpackbits(base.codes, axis=1).astype(np.float32) - 4
    repaired = len(base.repair_batch(base.codes, "nearest")), len(base.repair_batch(llrs))
    found = (len(base.search(vectors, 3)), *repaired, len(code.encode(vectors)))
    if answers is not None:
        base.add(vectors[:1], [Entry("added by a child", "x")])
        answers.put((*found, len(base.search(vectors, 3))))

work()
fork = multiprocessing.get_context("fork")
answers = fork.Queue()
child = fork.Process(target=work, args=(answers,), daemon=True)
child.start()
print(answers.get(timeout=60))
"""


def test_a_forked_child_searches_repairs_and_adds(tmp_path):
    # OpenMP must have threads for the child to miss.
    environment = os.environ | {"OMP_NUM_THREADS": "3", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, tmp_path / "kb"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "(600, 600, 600, 600, 600)\n", done.stderr
