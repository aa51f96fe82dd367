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


_HEAPS = """
import ctypes, os, re, sys, tempfile, threading
from streamgmm.execution.malloc import limit_arenas

if sys.argv[1] == "limited":
    limit_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(24)

def allocate():
    together.wait()
    for _ in range(200):
        libc.malloc(1000)
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(24)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.fopen.restype = ctypes.c_void_p
path = tempfile.mktemp()
file = ctypes.c_void_p(libc.fopen(path.encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
print(len(re.findall("<heap ", open(path).read())))
os.unlink(path)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
@pytest.mark.parametrize(("given", "most"), [(None, None), ("3", 3)])
def test_threads_share_as_many_heaps_as_there_are_processors(given, most):
    """Without the limit as many threads have more; what the environment says stays."""
    from dask.system import CPU_COUNT

    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    environment |= {} if given is None else {"MALLOC_ARENA_MAX": given}

    def heaps(how):
        command = [sys.executable, "-c", _HEAPS, how]
        return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)

    assert heaps("limited") <= (max(2, CPU_COUNT) if most is None else most)
    if most is None:
        assert heaps("free") > max(2, CPU_COUNT) or CPU_COUNT >= 24
