"""What a task frees is its own until it ends: shown by the size of the process."""

import os
import subprocess
import sys

import pytest

_BLOCKS = """
import mmap
import numpy as np
from streamgmm.execution.malloc import freed_memory_kept

def kept():
    before = pages()
    np.full(2**20, 1.0)
    return (pages() - before) * mmap.PAGESIZE >= 2**23

def pages():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0])

outside = kept()
with freed_memory_kept():
    with freed_memory_kept():
        pass
    inside = kept()
    again = kept()
print(outside, inside, again, kept())
"""


# Elsewhere the settings are not there, and nothing is done.
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_a_block_is_kept_for_the_next_one_where_workers_are_told_to_give_it_back():
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", _BLOCKS]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    # Inside, also of the outer of two, the first block stays, and the second one takes its place.
    assert found.stdout.split() == ["False", "True", "False", "False"]


def test_settings_that_nobody_made_are_left_alone(monkeypatch):
    from streamgmm.execution import malloc as allocation

    monkeypatch.setattr(allocation, "_set", lambda *_: pytest.fail("nothing was to be set"))
    for value in (None, "", "nonsense", str(2**30)):
        if value is None:
            monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
        else:
            monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", value)
        with allocation.freed_memory_kept():
            pass
